#include "container/volume.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "container/wire.h"
#include "image/helper.h"

void volume_done(struct volume *v)
{
    free(v->host);
    free(v->guest);
    *v = (struct volume){0};
}

static int split(const char *text, struct volume *v, bool *ro, struct err *e)
{
    const char *colon = strchr(text, ':');
    const char *guest = colon ? colon + 1 : NULL;
    const char *opt = guest ? strchr(guest, ':') : NULL;

    if (!colon || colon == text || guest[0] != '/' ||
        (opt && strcmp(opt, ":ro") != 0 && strcmp(opt, ":rw") != 0))
        return err_set(e, -EINVAL, "-v '%s': write HOST:GUEST:ro, GUEST an absolute path", text);
    *ro = opt && strcmp(opt, ":ro") == 0;
    v->host = strndup(text, (size_t)(colon - text));
    v->guest = opt ? strndup(guest, (size_t)(opt - guest)) : strdup(guest);
    return v->host && v->guest ? 0 : err_errno(e, -ENOMEM, "-v");
}

int volume_parse(const char *text, struct volume *v, struct err *e)
{
    struct stat st;
    bool ro = false;

    *v = (struct volume){0};
    int r = split(text, v, &ro, e);
    if (r == 0 && !ro)
        r = err_set(e, -ENOTSUP,
                    "-v '%s': a machine cannot share a writable folder yet; with :ro it gets a "
                    "copy made at its start",
                    text);
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

int volume_pack(const struct volume *v, const char *file, const struct session_watch *w,
                struct err *e)
{
    CLEANUP(mem) char *host = NULL;
    struct helper h;

    /* A name that begins with '-' would be an option. */
    if (asprintf(&host, "%s%s", v->host[0] == '/' ? "" : "./", v->host) < 0)
        return err_errno(e, -ENOMEM, "-v");
    const char *const argv[] = {"mksquashfs", host,   file,   "-noappend", "-quiet", "-no-progress",
                                "-noI",       "-noD", "-noF", "-noX",      NULL};
    int r = helper_start(&h, argv, NULL, "squashfs-tools", false, false, e);
    if (r < 0)
        return err_wrap(e, r, "-v %s", v->host);
    /* Its standard error is ready when it complains or ends. */
    r = wire_wait(h.err, POLLIN, w, UINT64_MAX, e);
    if (r < 0) {
        helper_kill(&h);
        return r;
    }
    r = helper_end(&h, e);
    return r < 0 ? err_wrap(e, r, "-v %s", v->host) : 0;
}
