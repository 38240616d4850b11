#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "image/store_priv.h"

enum { PREFIX_MIN = 4 }; /* hexadecimal digits that may stand for an image */

int store_load(struct store *s, const char *digest, struct image *out, struct err *e)
{
    struct image im = {.name = NULL};
    struct oci_manifest m = {.layers = NULL};
    struct oci_config c = {.diff_ids = NULL};
    CLEANUP(mem) void *doc = NULL;
    CLEANUP(mem) void *conf = NULL;
    char rootfs[128];
    struct stat st;
    size_t n;

    int r = store_blob_read(s, digest, &doc, &n, e);
    if (r == 0)
        r = oci_parse_manifest(doc, n, &m, e);
    if (r == 0)
        r = store_blob_read(s, m.config, &conf, &n, e);
    if (r == 0)
        r = oci_parse_config(conf, n, &c, e);
    if (r == 0) {
        store_rootfs_name(m.config, rootfs);
        if (fstatat(s->dir, rootfs, &st, 0) < 0)
            r = err_errno(e, -errno, "file system image of %s", digest);
    }
    if (r == 0) {
        memcpy(im.digest, digest, DIGEST_MAX);
        memcpy(im.config_digest, m.config, DIGEST_MAX);
        im.size = (uint64_t)st.st_size;
        im.created = st.st_mtime;
        im.config = c.run;
        c.run = (struct image_config){.entrypoint = NULL};
        im.fstype = strdup("squashfs");
        if (asprintf(&im.rootfs, "%s/%s", s->root, rootfs) < 0)
            im.rootfs = NULL;
        if (!im.fstype || !im.rootfs)
            r = err_set(e, -ENOMEM, "out of memory");
    }
    oci_manifest_done(&m);
    oci_config_done(&c);
    if (r < 0) {
        image_done(&im);
        return r;
    }
    *out = im;
    return 0;
}

static int set_name(struct image *im, const char *name, struct err *e)
{
    im->name = strdup(name);
    if (im->name)
        return 0;
    image_done(im);
    return err_set(e, -ENOMEM, "out of memory");
}

static bool digest_starts(const char *digest, const char *ref)
{
    const char *hex = strncmp(ref, "sha256:", DIGEST_PREFIX) == 0 ? digest_hex(ref) : ref;
    size_t len = strlen(hex);

    return len >= PREFIX_MIN && len <= DIGEST_HEX && strspn(hex, "0123456789abcdef") == len &&
           strncmp(digest_hex(digest), hex, len) == 0;
}

/* By digest of manifest or configuration, or the start of one. */
static int find_digest(struct store *s, const char *ref, struct image *out, struct err *e)
{
    struct image *list = NULL;
    size_t n = 0, at = 0;
    bool found = false, several = false;
    int r = store_list(s, &list, &n, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        if (!digest_starts(list[i].digest, ref) && !digest_starts(list[i].config_digest, ref))
            continue;
        several |= found && strcmp(list[i].digest, list[at].digest) != 0;
        if (!found)
            at = i;
        found = true;
    }
    if (several)
        r = err_set(e, -ENOTUNIQ, "several images start with '%.80s'; give more digits", ref);
    else if (!found)
        r = err_set(e, -ENOENT,
                    "no image '%.200s' here; `kiln pull` or `kiln import` brings one, `kiln "
                    "images` lists them",
                    ref);
    for (size_t i = 0; i < n; i++) {
        if (r == 0 && i == at)
            *out = list[i];
        else
            image_done(&list[i]);
    }
    free(list);
    return r;
}

int store_find(struct store *s, const char *ref, struct image *out, struct err *e)
{
    char name[OCI_NAME_MAX + 1];
    struct names names;
    int r = names_normalise(ref, name, e);

    if (r < 0)
        return r;
    r = names_load(s->dir, &names, e);
    if (r < 0)
        return r;
    const char *digest = names_get(&names, name);
    if (digest) {
        struct image im;

        r = store_load(s, digest, &im, e);
        if (r < 0)
            r = err_wrap(e, r, "image '%s'", name);
        else
            r = set_name(&im, name, e);
        if (r == 0)
            *out = im;
    }
    bool found = digest != NULL;
    names_done(&names);
    return found ? r : find_digest(s, ref, out, e);
}

struct listing {
    struct image *list;
    size_t n, room;
};

static int add(struct listing *l, struct store *s, const char *digest, const char *name,
               struct err *e)
{
    struct image im;

    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 16;
        struct image *wider = reallocarray(l->list, room, sizeof(*wider));

        if (!wider)
            return err_set(e, -ENOMEM, "out of memory");
        l->list = wider;
        l->room = room;
    }
    /* A blob that is no manifest, or whose file system is gone, is no image: prune's work. */
    if (store_load(s, digest, &im, NULL) < 0)
        return 0;
    if (name && set_name(&im, name, e) < 0)
        return -ENOMEM;
    l->list[l->n++] = im;
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct image *x = a, *y = b;

    return (x->created < y->created) - (x->created > y->created);
}

static int add_unnamed(struct listing *l, struct store *s, struct err *e)
{
    int fd = openat(s->dir, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    size_t named = l->n;

    if (!d) {
        cleanup_fd(&fd);
        return 0;
    }
    for (struct dirent *x = readdir(d); x; x = readdir(d)) {
        char digest[DIGEST_MAX + 256];
        bool known = false;

        snprintf(digest, sizeof(digest), "sha256:%s", x->d_name);
        if (!digest_is_valid(digest))
            continue;
        for (size_t i = 0; i < named && !known; i++)
            known = strcmp(l->list[i].digest, digest) == 0;
        int r = known ? 0 : add(l, s, digest, NULL, e);
        if (r < 0)
            return r;
    }
    return 0;
}

int store_list(struct store *s, struct image **list, size_t *n, struct err *e)
{
    struct listing l = {.list = NULL};
    struct names names;
    int r = names_load(s->dir, &names, e);

    if (r < 0)
        return r;
    for (size_t i = 0; i < names.n && r == 0; i++)
        r = add(&l, s, names.list[i].digest, names.list[i].name, e);
    names_done(&names);
    if (r == 0)
        r = add_unnamed(&l, s, e);
    if (r < 0) {
        for (size_t i = 0; i < l.n; i++)
            image_done(&l.list[i]);
        free(l.list);
        return r;
    }
    if (l.n)
        qsort(l.list, l.n, sizeof(*l.list), newest_first);
    *list = l.list;
    *n = l.n;
    return 0;
}
