#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/store_priv.h"

/* What the names and containers still need: manifests and configurations. */
struct keep {
    char (*digest)[DIGEST_MAX]; /* owned */
    size_t n;
};

static bool is_kept(const struct keep *k, const char *hex, size_t len)
{
    for (size_t i = 0; i < k->n; i++)
        if (len == DIGEST_HEX && memcmp(digest_hex(k->digest[i]), hex, DIGEST_HEX) == 0)
            return true;
    return false;
}

static int collect(struct store *s, const struct names *names, struct keep *k, struct err *e)
{
    k->n = 0;
    k->digest = calloc(2 * names->n + s->used.n + 1, DIGEST_MAX);
    if (!k->digest)
        return err_set(e, -ENOMEM, "out of memory");
    for (size_t i = 0; i < s->used.n; i++)
        snprintf(k->digest[k->n++], DIGEST_MAX, "%s", s->used.v[i]);
    for (size_t i = 0; i < names->n; i++) {
        struct image im;

        memcpy(k->digest[k->n++], names->list[i].digest, DIGEST_MAX);
        /* A damaged image keeps what can still be told apart, so that its name can be removed. */
        if (store_load(s, names->list[i].digest, &im, NULL) < 0)
            continue;
        memcpy(k->digest[k->n++], im.config_digest, DIGEST_MAX);
        image_done(&im);
    }
    return 0;
}

int store_keep(struct store *s, const char *digest, struct err *e)
{
    int r = digest_is_valid(digest) ? strv_add(&s->used, digest) : 0;

    return r < 0 ? err_errno(e, r, "%s", digest) : 0;
}

/* Remove the files of a folder of the store whose names, up to the dot, are not kept. */
static uint64_t sweep_folder(struct store *s, const char *folder, const struct keep *k,
                             uint64_t (*drop)(int dir, const char *name))
{
    int fd = openat(s->dir, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CLEANUP(dir) DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    uint64_t freed = 0;

    if (!d) {
        cleanup_fd(&fd);
        return 0;
    }
    for (struct dirent *x = readdir(d); x; x = readdir(d))
        if (x->d_name[0] != '.' && !is_kept(k, x->d_name, strcspn(x->d_name, ".")))
            freed += drop(dirfd(d), x->d_name);
    return freed;
}

static int remove_unused(struct store *s, const struct names *names, uint64_t *freed, struct err *e)
{
    struct keep k;
    int r = collect(s, names, &k, e);

    if (r < 0)
        return r;
    *freed = sweep_folder(s, "rootfs", &k, store_remove_tree) +
             sweep_folder(s, "blobs/sha256", &k, store_remove_tree) +
             sweep_folder(s, "unpacked", &k, store_remove_unpacked);
    free(k.digest);
    return 0;
}

int store_prune(struct store *s, uint64_t *freed, struct err *e)
{
    CLEANUP(fd) int lock = -1;
    struct names names;
    uint64_t bytes = 0;
    int r = store_lock(s, &lock, e);

    if (r == 0)
        r = names_load(s->dir, &names, e);
    if (r < 0)
        return r;
    r = remove_unused(s, &names, &bytes, e);
    names_done(&names);
    if (r == 0)
        *freed = bytes + store_sweep(s);
    return r;
}

/* Remove the parts of one image that no name needs. */
static int remove_parts(struct store *s, const struct names *names, const struct image *im,
                        struct err *e)
{
    char path[128];
    struct keep k;
    int r = collect(s, names, &k, e);

    if (r < 0)
        return r;
    if (!is_kept(&k, digest_hex(im->config_digest), DIGEST_HEX)) {
        CLEANUP(fd) int unpacked = openat(s->dir, "unpacked", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (unpacked >= 0)
            (void)store_remove_unpacked(unpacked, digest_hex(im->config_digest));
        store_rootfs_name(im->config_digest, path);
        (void)unlinkat(s->dir, path, 0);
        store_blob_name(im->config_digest, path);
        (void)unlinkat(s->dir, path, 0);
    }
    if (!is_kept(&k, digest_hex(im->digest), DIGEST_HEX)) {
        store_blob_name(im->digest, path);
        (void)unlinkat(s->dir, path, 0);
    }
    free(k.digest);
    return 0;
}

/* Forget the name `ref`, or when it is a digest all names of that image. */
static void forget(struct names *names, const char *ref, const struct image *im)
{
    char name[OCI_NAME_MAX + 1];

    if (names_normalise(ref, name, NULL) == 0 && names_get(names, name)) {
        names_forget(names, name);
        return;
    }
    for (size_t i = names->n; i-- > 0;)
        if (strcmp(names->list[i].digest, im->digest) == 0)
            names_forget(names, names->list[i].name);
}

/* A name whose image is damaged can still be removed; prune takes the rest. */
static int remove_damaged(struct store *s, struct names *names, const char *ref, struct err *e)
{
    char name[OCI_NAME_MAX + 1];

    if (names_normalise(ref, name, NULL) < 0 || !names_get(names, name))
        return -ENOENT;
    names_forget(names, name);
    return names_save(s->dir, names, e);
}

int store_remove(struct store *s, const char *ref, struct err *e)
{
    CLEANUP(fd) int lock = -1;
    struct names names;
    struct image im;
    int r = store_lock(s, &lock, e);

    if (r == 0)
        r = names_load(s->dir, &names, e);
    if (r < 0)
        return r;
    r = store_find(s, ref, &im, e);
    if (r < 0) {
        int fixed = remove_damaged(s, &names, ref, e);

        names_done(&names);
        return fixed < 0 ? r : 0;
    }
    forget(&names, ref, &im);
    r = names_save(s->dir, &names, e);
    if (r == 0)
        r = remove_parts(s, &names, &im, e);
    names_done(&names);
    image_done(&im);
    return r;
}
