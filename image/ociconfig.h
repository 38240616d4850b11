/* image/ociconfig.h - the JSON documents of an image, parsed and written.
 *
 * Sources: OCI image-spec 1.1 (image-layout.md, image-index.md, manifest.md, config.md); the
 * docker-archive's manifest.json as `docker save` writes it. Pure: bytes in, structs out; every
 * count and string is bounded. */
#ifndef IMAGE_OCICONFIG_H
#define IMAGE_OCICONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "image/digest.h"
#include "image/store.h"

enum {
    OCI_DOC_MAX = 4 << 20, /* bytes of one document */
    OCI_LAYERS_MAX = 512,
    OCI_STRINGS_MAX = 8192, /* entries of one list of strings */
    OCI_PATH_MAX = 512,     /* bytes of a path in an archive */
    OCI_NAME_MAX = 255,     /* bytes of an image's name */
};

struct oci_choice { /* of an index */
    char digest[DIGEST_MAX];
    bool is_index;               /* what it names is an index again */
    char name[OCI_NAME_MAX + 1]; /* of its annotations; "" = none */
};

/* The entry for linux/amd64: named `tag` when that is not NULL. Errors: -EBADMSG = not such a
 * document, -ENOENT = no fitting entry. */
int oci_parse_index(const void *p, size_t n, const char *tag, struct oci_choice *out,
                    struct err *e) MUST_CHECK;

struct oci_manifest { /* embedded: oci_manifest_done() */
    char config[DIGEST_MAX];
    char (*layers)[DIGEST_MAX]; /* owned; digests of the blobs */
    size_t n_layers;
};
int oci_parse_manifest(const void *p, size_t n, struct oci_manifest *out, struct err *e) MUST_CHECK;
void oci_manifest_done(struct oci_manifest *m);

struct oci_docker {                /* embedded: oci_docker_done() */
    char config[OCI_PATH_MAX + 1]; /* paths in the archive */
    char (*layers)[OCI_PATH_MAX + 1];
    size_t n_layers;
    char name[OCI_NAME_MAX + 1]; /* its first tag; "" = none */
};
/* The image tagged `tag`, or the first. Errors: as above. */
int oci_parse_docker(const void *p, size_t n, const char *tag, struct oci_docker *out,
                     struct err *e) MUST_CHECK;
void oci_docker_done(struct oci_docker *d);

struct oci_config { /* embedded: oci_config_done() */
    struct image_config run;
    char (*diff_ids)[DIGEST_MAX]; /* owned */
    size_t n_diff_ids;
};
/* Errors: -EBADMSG; -ENOEXEC = an image for another machine. */
int oci_parse_config(const void *p, size_t n, struct oci_config *out, struct err *e) MUST_CHECK;
void oci_config_done(struct oci_config *c);

/* A manifest and a configuration for layers that came without: owned strings, NULL = out of memory.
 */
char *oci_write_manifest(const char *config_digest, size_t config_size,
                         const char (*diff_ids)[DIGEST_MAX], const uint64_t *sizes, size_t n);
char *oci_write_config(const char *diff_id);

#endif
