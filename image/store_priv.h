/* image/store_priv.h - what the files store*.c share. See image/store.h for the layout. */
#ifndef IMAGE_STORE_PRIV_H
#define IMAGE_STORE_PRIV_H

#include "base/strv.h"
#include "image/digest.h"
#include "image/names.h"
#include "image/ociconfig.h"
#include "image/store.h"

struct store {
    char *root;       /* owned */
    int dir;          /* of it, owned */
    struct strv used; /* digests of store_keep() */
};

/* A folder in tmp/ of our own. It is locked as long as `dir` is open, so that the sweep of another
 * process tells it from what a killed one left. */
struct work {
    char name[32]; /* in tmp/ */
    int dir;       /* owned */
};

/* The store's lock, for a change; blocks. The caller owns *fd and closes it to unlock. */
int store_lock(struct store *s, int *fd, struct err *e) MUST_CHECK;

int store_work_begin(struct store *s, struct work *w, struct err *e) MUST_CHECK;
void store_work_end(struct store *s, struct work *w); /* removes it */

/* Remove what killed processes left in tmp/; called under the lock. Returns bytes freed. */
uint64_t store_sweep(struct store *s);
/* Remove a folder and all in it, no link followed. Returns bytes freed. */
uint64_t store_remove_tree(int dir, const char *name);
/* The same for one of unpacked.h, unless a container uses it. */
uint64_t store_remove_unpacked(int dir, const char *name);

/* A whole blob that is a document; its digest is checked. The caller owns *p. */
int store_blob_read(struct store *s, const char *digest, void **p, size_t *n,
                    struct err *e) MUST_CHECK;
/* Written aside, synced, renamed; one that is there already is left. */
int store_blob_write(struct store *s, const char *digest, const void *p, size_t n,
                     struct err *e) MUST_CHECK;

/* "blobs/sha256/HEX", and "rootfs/HEX.squashfs" of a configuration's digest. */
void store_blob_name(const char *digest, char out[128]);
void store_rootfs_name(const char *config_digest, char out[128]);

/* Import `path`: the image tagged `tag` of it (NULL = any), to be called `name` (NULL = as the
 * archive says, or as the file is called). */
int store_import_tagged(struct store *s, const char *path, const char *tag, const char *name,
                        store_progress p, void *ctx, struct image *out, struct err *e) MUST_CHECK;

/* All of a manifest in the store but the name. */
int store_load(struct store *s, const char *digest, struct image *out, struct err *e) MUST_CHECK;

#endif
