/* image/store.h - the image store: OCI images by digest, names that point to them, and one
 * read-only file system image per image, made once. Source: OCI image-spec 1.1.
 *
 * Root: $KILN_ROOT, else /var/lib/kiln for root, else $XDG_DATA_HOME/kiln (~/.local/share/kiln).
 *   blobs/sha256/HEX      configs and manifests (layers are dropped once rootfs is made)
 *   rootfs/HEX.TYPE       file system image, by config digest;  names.json   name -> manifest
 * digest kernels/NAME/         vmlinux, modules...;  tmp/  unfinished work, swept by the next call
 * Every change is made under a lock, in tmp/, then renamed: a kill leaves nothing half-made. */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/strv.h"

struct store;

int store_open(const char *root /* NULL = default */, struct store **ret, struct err *e) MUST_CHECK;
void store_close(struct store *s);
const char *store_root(const struct store *s);
/* The path that `root` means: itself, or the default for NULL. Nothing is made. Owned by the
 * caller; NULL = no memory. */
char *store_root_path(const char *root);

struct image_config { /* of the OCI image configuration; owned: image_config_done() */
    char **entrypoint, **cmd, **env; /* NULL-terminated, may be NULL */
    char *workdir, *user, *stop_signal;
    struct strv labels;  /* "K=V" */
    struct strv exposed; /* "80/tcp" */
    struct strv volumes; /* absolute paths that want volumes */
    struct strv health;  /* "CMD", "CMD-SHELL" or "NONE" and what follows it; n 0 = none */
    int64_t health_interval_ns, health_timeout_ns, health_start_period_ns; /* 0 = not said */
    int64_t health_retries;
};
void image_config_done(struct image_config *c);

struct image {       /* owned: image_done() */
    char *name;      /* as asked for, normalised: "alpine:latest" */
    char digest[72]; /* "sha256:..." of the manifest */
    char config_digest[72];
    char *rootfs;    /* path of the file system image */
    char *fstype;    /* "erofs" or "squashfs" */
    uint64_t size;   /* bytes of it */
    int64_t created; /* s since 1970, when it came into this store */
    struct image_config config;
};
void image_done(struct image *im);

/* By name, digest or unique digest prefix. -ENOENT with a sentence that tells what to do. */
int store_find(struct store *s, const char *ref, struct image *out, struct err *e) MUST_CHECK;
/* All, newest first. *list owned by the caller: image_done each, free. */
int store_list(struct store *s, struct image **list, size_t *n, struct err *e) MUST_CHECK;

typedef void (*store_progress)(void *ctx, const char *what, uint64_t done,
                               uint64_t total /* 0 = unknown */);

/* docker-archive tar, OCI layout tar or directory, root file system tar (any compression), root
 * file system directory. name NULL = from the archive, else from the file's name. -EBADMSG corrupt
 * or wrong digest, -ENOSPC. */
int store_import(struct store *s, const char *path, const char *name, store_progress p, void *ctx,
                 struct image *out, struct err *e) MUST_CHECK;
/* docker://, oci:, docker-archive:, or a plain name (docker.io). Through skopeo. */
int store_pull(struct store *s, const char *ref, store_progress p, void *ctx, struct image *out,
               struct err *e) MUST_CHECK;
/* Before store_remove() and store_prune(): what belongs to this manifest or configuration is used,
 * though perhaps no name refers to it. */
int store_keep(struct store *s, const char *digest, struct err *e) MUST_CHECK;
int store_remove(struct store *s, const char *ref, struct err *e) MUST_CHECK;
/* Remove what no name refers to, and leftovers. *freed in bytes. */
int store_prune(struct store *s, uint64_t *freed, struct err *e) MUST_CHECK;

#endif
