/* image/names.h - names of images, and the file that says which image each one means.
 *
 * A name reads as docker's do: [HOST/]PATH[:TAG], docker.io/library/ understood, TAG latest when
 * left out. */
#ifndef IMAGE_NAMES_H
#define IMAGE_NAMES_H

#include <stddef.h>

#include "base/err.h"
#include "image/digest.h"
#include "image/ociconfig.h"

/* "docker.io/library/alpine" -> "alpine:latest". Errors: -EINVAL = not a name. */
int names_normalise(const char *ref, char out[OCI_NAME_MAX + 1], struct err *e) MUST_CHECK;

/* A name made of a file's: "/x/My root.tar.gz" -> "my-root:latest". */
void names_from_path(const char *path, char out[OCI_NAME_MAX + 1]);

struct name {
    char *name;              /* owned */
    char digest[DIGEST_MAX]; /* of the manifest */
};
struct names {         /* embedded: names_done() */
    struct name *list; /* owned */
    size_t n;
};

/* From the store folder `dir`; no file is an empty list. Errors: -EBADMSG = names.json is damaged;
 * read(2). */
int names_load(int dir, struct names *ret, struct err *e) MUST_CHECK;
/* Written aside, synced, renamed. */
int names_save(int dir, const struct names *n, struct err *e) MUST_CHECK;
void names_done(struct names *n);

/* The digest, borrowed, or NULL. */
const char *names_get(const struct names *n, const char *name);
/* Errors: -ENOMEM. */
int names_set(struct names *n, const char *name, const char *digest) MUST_CHECK;
void names_forget(struct names *n, const char *name);

#endif
