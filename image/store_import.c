/* From what a bundle holds to an image of the store: documents and layers are found and checked,
 * the layers become one file system image, and all of it is put in place under the lock. */
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/bundle.h"
#include "image/sqfs.h"
#include "image/store_priv.h"

enum { INDEX_DEPTH_MAX = 4 }; /* indexes that name indexes */

static const char rootfs_aside[] = "rootfs"; /* in the work folder */

/* All that makes an image, read and checked. */
struct source {
    char name[OCI_NAME_MAX + 1]; /* the archive's own; "" = none */
    void *manifest, *config;     /* owned documents */
    size_t manifest_len, config_len;
    char manifest_digest[DIGEST_MAX], config_digest[DIGEST_MAX];
    struct oci_config parsed;
    struct merge_layer *layers; /* owned; descriptors too */
    size_t n_layers;
};

struct job { /* borrowed for one import */
    struct store *s;
    struct work *work;
    store_progress p;
    void *ctx;
};

static void source_done(struct source *src)
{
    for (size_t i = 0; i < src->n_layers; i++)
        cleanup_fd(&src->layers[i].fd);
    free(src->layers);
    free(src->manifest);
    free(src->config);
    oci_config_done(&src->parsed);
}

static int room_for_layers(struct source *src, size_t n, struct err *e)
{
    src->layers = calloc(n + 1, sizeof(*src->layers));
    return src->layers ? 0 : err_set(e, -ENOMEM, "out of memory");
}

/* A document of a layout by its digest, which is checked. */
static int read_blob(struct bundle *b, const char *digest, void **p, size_t *n, struct err *e)
{
    char path[128], sum[DIGEST_MAX];

    store_blob_name(digest, path);
    int r = bundle_document(b, path, p, n, e);
    if (r < 0)
        return r;
    r = digest_of(*p, *n, sum);
    if (r < 0)
        return err_set(e, r, "out of memory");
    if (strcmp(sum, digest) != 0) {
        free(*p);
        *p = NULL;
        return err_set(e, -EBADMSG, "wrong digest: '%s' holds %s", path, sum);
    }
    return 0;
}

static int take_config(struct source *src, struct err *e)
{
    int r = digest_of(src->config, src->config_len, src->config_digest);

    if (r < 0)
        return err_set(e, r, "out of memory");
    return oci_parse_config(src->config, src->config_len, &src->parsed, e);
}

/* From index.json, through indexes for several machines, to the manifest's digest. */
static int find_manifest(struct bundle *b, const char *tag, struct source *src, struct err *e)
{
    struct oci_choice c;
    CLEANUP(mem) void *index = NULL;
    size_t n;
    int r = bundle_document(b, "index.json", &index, &n, e);

    if (r == 0)
        r = oci_parse_index(index, n, tag, &c, e);
    if (r < 0)
        return r;
    memcpy(src->name, c.name, sizeof(src->name));
    for (unsigned depth = 0; c.is_index; depth++) {
        CLEANUP(mem) void *inner = NULL;

        if (depth == INDEX_DEPTH_MAX)
            return err_set(e, -EBADMSG, "its indexes name each other");
        r = read_blob(b, c.digest, &inner, &n, e);
        if (r == 0)
            r = oci_parse_index(inner, n, NULL, &c, e);
        if (r < 0)
            return r;
    }
    memcpy(src->manifest_digest, c.digest, DIGEST_MAX);
    return 0;
}

static int check_layer(const struct job *j, int fd, const char *digest, size_t i, size_t n,
                       struct err *e)
{
    char sum[DIGEST_MAX], what[64];

    snprintf(what, sizeof(what), "checking layer %zu of %zu", i + 1, n);
    if (j->p)
        j->p(j->ctx, what, 0, 0);
    int r = digest_of_fd(fd, sum);
    if (r < 0)
        return err_errno(e, r, "layer %zu of %zu", i + 1, n);
    if (strcmp(sum, digest) != 0)
        return err_set(e, -EBADMSG, "layer %zu of %zu: wrong digest: its file is %s, not %s", i + 1,
                       n, sum, digest);
    return 0;
}

static int read_oci(const struct job *j, struct bundle *b, const char *tag, struct source *src,
                    struct err *e)
{
    struct oci_manifest m = {.layers = NULL};
    char path[128];
    int r = find_manifest(b, tag, src, e);

    if (r == 0)
        r = read_blob(b, src->manifest_digest, &src->manifest, &src->manifest_len, e);
    if (r == 0)
        r = oci_parse_manifest(src->manifest, src->manifest_len, &m, e);
    if (r == 0)
        r = read_blob(b, m.config, &src->config, &src->config_len, e);
    if (r == 0)
        r = take_config(src, e);
    if (r == 0 && src->parsed.n_diff_ids != m.n_layers)
        r = err_set(e, -EBADMSG, "the manifest has %zu layers, the configuration %zu", m.n_layers,
                    src->parsed.n_diff_ids);
    if (r == 0)
        r = room_for_layers(src, m.n_layers, e);
    for (size_t i = 0; r == 0 && i < m.n_layers; i++) {
        struct merge_layer *l = &src->layers[i];

        store_blob_name(m.layers[i], path);
        r = bundle_member(b, path, &l->fd, e);
        if (r < 0)
            break;
        l->diff_id = src->parsed.diff_ids[i];
        src->n_layers++;
        r = check_layer(j, l->fd, m.layers[i], i, m.n_layers, e);
    }
    oci_manifest_done(&m);
    return r;
}

/* A docker-archive names the configuration's file by its digest. */
static int check_config_name(const struct source *src, const char *path, struct err *e)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    const char *hex = digest_hex(src->config_digest);

    if (strspn(base, "0123456789abcdef") == DIGEST_HEX && strncmp(base, hex, DIGEST_HEX) != 0)
        return err_set(e, -EBADMSG, "wrong digest: '%.200s' holds %s", path, src->config_digest);
    return 0;
}

/* The manifest of an image that came without one, from the sizes of its layers. */
static int make_manifest(struct source *src, struct err *e)
{
    CLEANUP(mem) uint64_t *sizes = calloc(src->n_layers + 1, sizeof(*sizes));
    CLEANUP(mem) char(*ids)[DIGEST_MAX] = calloc(src->n_layers + 1, DIGEST_MAX);
    struct stat st;

    if (!sizes || !ids)
        return err_set(e, -ENOMEM, "out of memory");
    for (size_t i = 0; i < src->n_layers; i++) {
        if (fstat(src->layers[i].fd, &st) == 0)
            sizes[i] = (uint64_t)st.st_size;
        memcpy(ids[i], src->parsed.diff_ids[i], DIGEST_MAX);
    }
    src->manifest = oci_write_manifest(src->config_digest, src->config_len,
                                       (const char(*)[DIGEST_MAX])ids, sizes, src->n_layers);
    if (!src->manifest)
        return err_set(e, -ENOMEM, "out of memory");
    src->manifest_len = strlen(src->manifest);
    int r = digest_of(src->manifest, src->manifest_len, src->manifest_digest);
    return r < 0 ? err_set(e, r, "out of memory") : 0;
}

static int read_docker(struct bundle *b, const char *tag, struct source *src, struct err *e)
{
    struct oci_docker d = {.layers = NULL};
    CLEANUP(mem) void *doc = NULL;
    size_t n;
    int r = bundle_document(b, "manifest.json", &doc, &n, e);

    if (r == 0)
        r = oci_parse_docker(doc, n, tag, &d, e);
    if (r == 0)
        r = bundle_document(b, d.config, &src->config, &src->config_len, e);
    if (r == 0)
        r = take_config(src, e);
    if (r == 0)
        r = check_config_name(src, d.config, e);
    if (r == 0 && src->parsed.n_diff_ids != d.n_layers)
        r = err_set(e, -EBADMSG, "the manifest has %zu layers, the configuration %zu", d.n_layers,
                    src->parsed.n_diff_ids);
    if (r == 0)
        r = room_for_layers(src, d.n_layers, e);
    for (size_t i = 0; r == 0 && i < d.n_layers; i++) {
        r = bundle_member(b, d.layers[i], &src->layers[i].fd, e);
        if (r == 0)
            src->n_layers++;
        src->layers[i].diff_id = src->parsed.diff_ids[i];
    }
    if (r == 0) {
        memcpy(src->name, d.name, sizeof(src->name));
        r = make_manifest(src, e);
    }
    oci_docker_done(&d);
    return r;
}

/* A bare root file system: its digest is known once it has been read, so it is scanned here. */
static int read_rootfs(const struct job *j, struct bundle *b, struct source *src, struct tree *t,
                       struct err *e)
{
    int r = room_for_layers(src, 1, e);

    if (r == 0)
        r = bundle_rootfs(b, &src->layers[0].fd, e);
    if (r < 0)
        return r;
    src->n_layers = 1;
    r = merge_scan(t, src->layers, 1, j->p, j->ctx, e);
    if (r == 0 && !tree_root(t)->child)
        r = err_set(e, -EBADMSG, "the archive holds no files");
    if (r < 0)
        return r;
    src->config = oci_write_config(src->layers[0].got);
    if (!src->config)
        return err_set(e, -ENOMEM, "out of memory");
    src->config_len = strlen(src->config);
    r = take_config(src, e);
    return r == 0 ? make_manifest(src, e) : r;
}

static bool have_rootfs(struct store *s, const char *config_digest)
{
    char path[128];

    store_rootfs_name(config_digest, path);
    return faccessat(s->dir, path, F_OK, 0) == 0;
}

/* The file system image in the work folder, on disk when this returns. */
static int build_rootfs(const struct job *j, struct source *src, struct tree *t, bool scanned,
                        struct err *e)
{
    CLEANUP(mem) char *path = NULL;
    int r = scanned ? 0 : merge_scan(t, src->layers, src->n_layers, j->p, j->ctx, e);

    if (r < 0)
        return r;
    if (asprintf(&path, "%s/tmp/%s/%s", j->s->root, j->work->name, rootfs_aside) < 0) {
        path = NULL;
        return err_set(e, -ENOMEM, "out of memory");
    }
    r = sqfs_build(path, t, src->layers, src->n_layers, j->p, j->ctx, e);
    if (r < 0)
        return r;
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0644) < 0 || fsync(fd) < 0)
        return err_errno(e, -errno, "file system image");
    return 0;
}

/* Put everything in place, the name last: until then nothing refers to the rest. -EAGAIN: the file
 * system image that was there has just been pruned. */
static int commit(const struct job *j, struct source *src, const char *name, struct err *e)
{
    CLEANUP(fd) int lock = -1;
    char path[128];
    struct names names;
    int r = store_lock(j->s, &lock, e);

    if (r < 0)
        return r;
    store_rootfs_name(src->config_digest, path);
    if (!have_rootfs(j->s, src->config_digest) &&
        renameat(j->work->dir, rootfs_aside, j->s->dir, path) < 0)
        return errno == ENOENT ? err_set(e, -EAGAIN, "pruned meanwhile")
                               : err_errno(e, -errno, "file system image");
    r = store_blob_write(j->s, src->config_digest, src->config, src->config_len, e);
    if (r == 0)
        r = store_blob_write(j->s, src->manifest_digest, src->manifest, src->manifest_len, e);
    if (r == 0)
        r = names_load(j->s->dir, &names, e);
    if (r < 0)
        return r;
    r = names_set(&names, name, src->manifest_digest);
    if (r < 0)
        r = err_set(e, r, "out of memory");
    else
        r = names_save(j->s->dir, &names, e);
    names_done(&names);
    return r;
}

static int choose_name(const struct source *src, const char *path, const char *wanted,
                       char out[OCI_NAME_MAX + 1], struct err *e)
{
    if (wanted)
        return names_normalise(wanted, out, e);
    /* A layout's own name is often only a tag, which says nothing. */
    if (strpbrk(src->name, ":/") && names_normalise(src->name, out, NULL) == 0)
        return 0;
    names_from_path(path, out);
    return 0;
}

static int import(const struct job *j, struct bundle *b, const char *path, const char *tag,
                  const char *wanted, struct source *src, struct tree *t,
                  char name[OCI_NAME_MAX + 1], struct err *e)
{
    bool scanned = bundle_kind(b) == BUNDLE_ROOTFS;
    int r;

    if (bundle_kind(b) == BUNDLE_OCI)
        r = read_oci(j, b, tag, src, e);
    else if (bundle_kind(b) == BUNDLE_DOCKER)
        r = read_docker(b, tag, src, e);
    else
        r = read_rootfs(j, b, src, t, e);
    if (r == 0)
        r = choose_name(src, path, wanted, name, e);
    if (r < 0)
        return r;
    if (have_rootfs(j->s, src->config_digest)) {
        r = commit(j, src, name, e);
        if (r != -EAGAIN)
            return r;
    }
    r = build_rootfs(j, src, t, scanned, e);
    return r < 0 ? r : commit(j, src, name, e);
}

static int import_locked(const struct job *j, const char *path, const char *tag, const char *wanted,
                         char name[OCI_NAME_MAX + 1], struct err *e)
{
    struct source src = {.manifest = NULL};
    struct bundle *b;
    uint64_t seed = 0;

    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        return err_errno(e, -errno, "getrandom");
    int r = bundle_open(path, j->work->dir, j->p, j->ctx, &b, e);
    if (r < 0)
        return r;
    struct tree *t = tree_new(seed);
    r = t ? import(j, b, path, tag, wanted, &src, t, name, e)
          : err_set(e, -ENOMEM, "out of memory");
    tree_free(t);
    source_done(&src);
    bundle_close(b);
    return r;
}

int store_import_tagged(struct store *s, const char *path, const char *tag, const char *wanted,
                        store_progress p, void *ctx, struct image *out, struct err *e)
{
    char name[OCI_NAME_MAX + 1];
    struct work work;
    struct job j = {.s = s, .work = &work, .p = p, .ctx = ctx};
    int r = store_work_begin(s, &work, e);

    if (r < 0)
        return r;
    /* Names in archives are UTF-8; libarchive would read them by the process's locale, which may be
     * C. */
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = utf8 ? uselocale(utf8) : (locale_t)0;
    r = import_locked(&j, path, tag, wanted, name, e);
    if (utf8) {
        uselocale(before);
        freelocale(utf8);
    }
    store_work_end(s, &work);
    if (r < 0)
        return err_wrap(e, r, "'%.200s'", path);
    return store_find(s, name, out, e);
}

int store_import(struct store *s, const char *path, const char *name, store_progress p, void *ctx,
                 struct image *out, struct err *e)
{
    return store_import_tagged(s, path, NULL, name, p, ctx, out, e);
}
