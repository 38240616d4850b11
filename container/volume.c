#include "container/volume.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

void volume_done(struct volume *v)
{
    free(v->host);
    free(v->guest);
    *v = (struct volume){0};
}

static int split(const char *text, struct volume *v, struct err *e)
{
    const char *colon = strchr(text, ':');
    const char *guest = colon ? colon + 1 : NULL;
    const char *opt = guest ? strchr(guest, ':') : NULL;

    if (!colon || colon == text || guest[0] != '/' ||
        (opt && strcmp(opt, ":ro") != 0 && strcmp(opt, ":rw") != 0))
        return err_set(e, -EINVAL, "-v '%s': write HOST:GUEST[:ro], GUEST an absolute path", text);
    v->read_only = opt && strcmp(opt, ":ro") == 0;
    v->host = strndup(text, (size_t)(colon - text));
    v->guest = opt ? strndup(guest, (size_t)(opt - guest)) : strdup(guest);
    return v->host && v->guest ? 0 : err_errno(e, -ENOMEM, "-v");
}

int volume_parse(const char *text, struct volume *v, struct err *e)
{
    struct stat st;

    *v = (struct volume){0};
    int r = split(text, v, e);
    if (r == 0 && stat(v->host, &st) < 0)
        r = err_errno(e, -errno, "-v: %s", v->host);
    else if (r == 0 && !S_ISDIR(st.st_mode))
        r = err_set(e, -ENOTDIR, "-v: %s is not a folder", v->host);
    if (r == 0 && (strcmp(v->guest, "/") == 0 || strlen(v->guest) >= VOLUME_PATH_MAX))
        r = err_set(e, -EINVAL, "-v: '%s' cannot be a mount point", v->guest);
    if (r < 0)
        volume_done(v);
    return r;
}
