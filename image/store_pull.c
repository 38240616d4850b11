/* Images from elsewhere: skopeo copies them into an OCI layout in the work folder, which is then
 * imported. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "image/helper.h"
#include "image/store_priv.h"

struct talk {
    store_progress p;
    void *ctx;
};

static void say(void *ctx, const char *text)
{
    const struct talk *t = ctx;

    if (t->p)
        t->p(t->ctx, text, 0, 0);
}

/* skopeo's last line is a log record; its message is the sentence. */
static void plain_message(struct err *e)
{
    char *msg = e ? strstr(e->msg, "msg=\"") : NULL;

    if (!msg)
        return;
    msg += strlen("msg=\"");
    size_t n = strlen(msg), k = 0;
    if (n > 0 && msg[n - 1] == '"')
        n--;
    for (size_t i = 0; i < n; i++) {
        if (msg[i] == '\\' && i + 1 < n)
            i++;
        e->msg[k++] = msg[i];
    }
    e->msg[k] = '\0';
}

static int copy(const char *from, const char *to, const char *tmp, const struct talk *t,
                struct err *e)
{
    const char *argv[] = {"skopeo",
                          "--insecure-policy",
                          "--override-os",
                          "linux",
                          "--override-arch",
                          "amd64",
                          "copy",
                          from,
                          to,
                          NULL};
    CLEANUP(mem) char *where = NULL;
    struct helper h;

    /* Its own temporary files go where ours are swept. */
    if (asprintf(&where, "TMPDIR=%s", tmp) < 0) {
        where = NULL;
        return err_set(e, -ENOMEM, "out of memory");
    }
    const char *env[] = {where, NULL};
    int r = helper_start(&h, argv, env, "skopeo", false, true, e);
    if (r < 0)
        return r;
    helper_drain(&h, say, (void *)t);
    r = helper_end(&h, e);
    if (r < 0)
        plain_message(e);
    return r;
}

static int pull(struct store *s, const char *from, const char *name, const struct work *w,
                const struct talk *t, struct image *out, struct err *e)
{
    CLEANUP(mem) char *tmp = NULL;
    CLEANUP(mem) char *layout = NULL;
    CLEANUP(mem) char *to = NULL;

    if (asprintf(&tmp, "%s/tmp/%s", s->root, w->name) < 0)
        tmp = NULL;
    if (asprintf(&layout, "%s/tmp/%s/layout", s->root, w->name) < 0)
        layout = NULL;
    if (asprintf(&to, "oci:%s/tmp/%s/layout:pulled", s->root, w->name) < 0)
        to = NULL;
    if (!tmp || !layout || !to)
        return err_set(e, -ENOMEM, "out of memory");
    int r = copy(from, to, tmp, t, e);
    return r < 0 ? r : store_import_tagged(s, layout, "pulled", name, t->p, t->ctx, out, e);
}

/* oci:PATH[:TAG] and docker-archive:PATH[:TAG] are files of this host, and need nobody to fetch
 * them. */
static int import_local(struct store *s, const char *rest, store_progress p, void *ctx,
                        struct image *out, struct err *e)
{
    CLEANUP(mem) char *path = strdup(rest);
    char name[OCI_NAME_MAX + 1];

    if (!path)
        return err_set(e, -ENOMEM, "out of memory");
    char *tag = strchr(path, ':');
    if (tag)
        *tag++ = '\0';
    if (tag && strchr(tag, ':')) /* a whole name, as a docker-archive has it */
        return store_import_tagged(s, path, tag, tag, p, ctx, out, e);
    names_from_path(path, name);
    if (tag && strlen(name) + strlen(tag) < OCI_NAME_MAX) {
        char *colon = strrchr(name, ':');

        snprintf(colon + 1, sizeof(name) - (size_t)(colon + 1 - name), "%s", tag);
    }
    return store_import_tagged(s, path, tag, tag ? name : NULL, p, ctx, out, e);
}

int store_pull(struct store *s, const char *ref, store_progress p, void *ctx, struct image *out,
               struct err *e)
{
    static const char *const local[] = {"oci:", "docker-archive:"};
    struct talk t = {.p = p, .ctx = ctx};
    char name[OCI_NAME_MAX + 1];
    CLEANUP(mem) char *from = NULL;
    struct work w;

    for (size_t i = 0; i < ARRAY_LEN(local); i++)
        if (strncmp(ref, local[i], strlen(local[i])) == 0)
            return import_local(s, ref + strlen(local[i]), p, ctx, out, e);
    int r = names_normalise(ref, name, e);
    if (r < 0)
        return r;
    if (strncmp(ref, "docker://", strlen("docker://")) == 0)
        from = strdup(ref);
    else if (asprintf(&from, "docker://%s", ref) < 0)
        from = NULL;
    if (!from)
        return err_set(e, -ENOMEM, "out of memory");
    r = store_work_begin(s, &w, e);
    if (r < 0)
        return r;
    r = pull(s, from, name, &w, &t, out, e);
    store_work_end(s, &w);
    return r < 0 ? err_wrap(e, r, "pull '%.200s'", ref) : 0;
}
