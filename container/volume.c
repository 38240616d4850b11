#include "container/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/copyup.h"
#include "container/volstore.h"
#include "os/launch.h"

void volume_done(struct volume *v)
{
    free(v->host);
    free(v->guest);
    free(v->options);
    free(v->propagation);
    *v = (struct volume){0};
}

void volumes_done(struct volume *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        volume_done(&list[i]);
    free(list);
}

/* ---- at creation */

/* In place: "//", "." and ".." go, as the words say. False: it is not absolute, or "/". */
static bool clean_path(char *path)
{
    char *out = path, *rest = path, *part;

    if (path[0] != '/')
        return false;
    while ((part = strsep(&rest, "/"))) {
        size_t n = strlen(part);

        if (n == 0 || strcmp(part, ".") == 0)
            continue;
        if (strcmp(part, "..") == 0) {
            while (out > path && *--out != '/') {
            }
            continue;
        }
        *out++ = '/';
        memmove(out, part, n);
        out += n;
    }
    *out = '\0';
    return out > path;
}

static int check_target(const struct spec *s, struct spec_mount *m, struct err *e)
{
    if (!m->target || strlen(m->target) >= VOLUME_PATH_MAX || !clean_path(m->target))
        return err_set(e, -EINVAL, "'%.100s' cannot be a mount point: it is to be an absolute path",
                       m->target ? m->target : "");
    for (const struct spec_mount *o = s->mounts; o < m; o++)
        if (strcmp(o->target, m->target) == 0)
            return err_set(e, -EINVAL, "duplicate mount point: %s", m->target);
    return 0;
}

static int claim_bind(const struct spec_mount *m, struct err *e)
{
    struct stat st;

    if (!m->source || m->source[0] != '/')
        return err_set(e, -EINVAL, "'%s' is not an absolute path", m->source ? m->source : "");
    if (stat(m->source, &st) == 0)
        return 0;
    if (errno != ENOENT)
        return err_errno(e, -errno, "%s", m->source);
    if (!m->create)
        return err_set(e, -ENOENT, "bind source path does not exist: %s", m->source);
    int r = launch_mkdirs(m->source, 0755);
    return r < 0 ? err_errno(e, r, "%s", m->source) : 0;
}

/* A name for one without. `fresh` tells that it was made now, for this container. */
static int claim_volume(const char *root, struct spec_mount *m, bool *fresh, struct err *e)
{
    struct volstore v;
    int r = volstore_create(root, m->source, NULL, !m->source, &v, e);

    if (r < 0)
        return r;
    *fresh = !m->source;
    if (!m->source)
        m->source = strdup(v.name);
    volstore_done(&v);
    return m->source ? 0 : err_errno(e, -ENOMEM, "volume");
}

int volume_claim(const char *root, struct spec *s, struct err *e)
{
    bool fresh[SPEC_MOUNTS_MAX] = {false};
    unsigned shares = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < s->n_mounts; i++) {
        r = check_target(s, &s->mounts[i], e);
        shares += s->mounts[i].kind != SPEC_TMPFS;
    }
    if (r == 0 && s->isolation == SPEC_VM && shares > VOLUME_MAX)
        r = err_set(e, -E2BIG,
                    "%u folders and volumes were asked for, but a machine has places for %d: mount "
                    "a folder above several of them, or use --isolation=process",
                    shares, VOLUME_MAX);
    for (size_t i = 0; r == 0 && i < s->n_mounts; i++) {
        if (s->mounts[i].kind == SPEC_BIND)
            r = claim_bind(&s->mounts[i], e);
        else if (s->mounts[i].kind == SPEC_VOLUME)
            r = claim_volume(root, &s->mounts[i], &fresh[i], e);
    }
    for (size_t i = 0; r < 0 && i < s->n_mounts; i++)
        if (fresh[i])
            (void)!volstore_remove(root, s->mounts[i].source, NULL);
    return r;
}

int volume_names(const struct spec *s, struct strv *names)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < s->n_mounts; i++)
        if (s->mounts[i].kind == SPEC_VOLUME && s->mounts[i].source)
            r = strv_add(names, s->mounts[i].source);
    return r;
}

void volume_drop(const char *root, const struct strv *names)
{
    struct volstore v;

    for (size_t i = 0; i < names->n; i++) {
        if (volstore_find(root, names->v[i], &v, NULL) < 0)
            continue;
        if (v.anonymous)
            (void)!volstore_remove(root, v.name, NULL);
        volstore_done(&v);
    }
}

void volume_release(const char *root, const struct spec *s)
{
    struct strv names = {0};

    if (volume_names(s, &names) == 0)
        volume_drop(root, &names);
    strv_done(&names);
}

/* ---- at a start */

static int copy_text(const char *text, char **out)
{
    *out = text ? strdup(text) : NULL;
    return text && !*out ? -ENOMEM : 0;
}

static int prepare_one(const char *root, const struct spec_mount *m, const char *rootfs,
                       const char *fstype, struct volume *v, struct err *e)
{
    struct volstore vol = {.name = ""};
    struct stat st;
    int r = 0;

    if (m->kind == SPEC_VOLUME) {
        r = volstore_find(root, m->source, &vol, e);
        if (r == 0)
            r = copyup(&vol, rootfs, fstype, m->target, e);
    }
    const char *host = m->kind == SPEC_VOLUME ? vol.path : m->source;
    v->read_only = m->read_only;
    if (r == 0 && (copy_text(m->kind == SPEC_TMPFS ? NULL : host, &v->host) < 0 ||
                   copy_text(m->target, &v->guest) < 0 || copy_text(m->options, &v->options) < 0 ||
                   copy_text(m->propagation, &v->propagation) < 0))
        r = err_errno(e, -ENOMEM, "%s", m->target);
    if (r == 0 && v->host && stat(v->host, &st) < 0)
        r = errno == ENOENT ? err_set(e, -ENOENT, "bind source path does not exist: %s", v->host)
                            : err_errno(e, -errno, "%s", v->host);
    v->file = r == 0 && v->host && !S_ISDIR(st.st_mode);
    volstore_done(&vol);
    return r;
}

static size_t depth(const struct spec_mount *m)
{
    size_t n = 0;

    for (const char *c = m->target; *c; c++)
        n += *c == '/';
    return n;
}

/* /a before /a/b: else the one would hide the other. */
static void order(const struct spec *s, size_t *index)
{
    for (size_t i = 0; i < s->n_mounts; i++) {
        size_t k = i;

        for (; k > 0 && depth(&s->mounts[index[k - 1]]) > depth(&s->mounts[i]); k--)
            index[k] = index[k - 1];
        index[k] = i;
    }
}

int volume_prepare(const char *root, const struct spec *s, const char *rootfs, const char *fstype,
                   struct volume **list, size_t *n, struct err *e)
{
    size_t index[SPEC_MOUNTS_MAX];
    struct volume *all = s->n_mounts ? calloc(s->n_mounts, sizeof(*all)) : NULL;
    int r = s->n_mounts && !all ? err_errno(e, -ENOMEM, "mounts") : 0;

    order(s, index);
    for (size_t i = 0; r == 0 && i < s->n_mounts; i++)
        r = prepare_one(root, &s->mounts[index[i]], rootfs, fstype, &all[i], e);
    if (r < 0) {
        if (all)
            volumes_done(all, s->n_mounts);
        return r;
    }
    *list = all;
    *n = s->n_mounts;
    return 0;
}
