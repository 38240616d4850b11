/* image/digest.h - content digests. Source: OCI image-spec 1.1, descriptor.md, "Digests".
 *
 * Only sha256 is accepted: the one algorithm the specification registers that registries use. */
#ifndef IMAGE_DIGEST_H
#define IMAGE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    DIGEST_HEX = 64,                             /* characters of a SHA-256 in hexadecimal */
    DIGEST_PREFIX = 7,                           /* "sha256:" */
    DIGEST_MAX = DIGEST_PREFIX + DIGEST_HEX + 1, /* with the NUL */
};

struct digest; /* a running sum */

struct digest *digest_new(void); /* NULL = out of memory */
void digest_free(struct digest *d);
void digest_add(struct digest *d, const void *p, size_t n);
/* The sum of all that was added, as "sha256:HEX". Once. */
void digest_end(struct digest *d, char out[DIGEST_MAX]);

/* "sha256:" and 64 lower-case hexadecimal digits, nothing else. */
bool digest_is_valid(const char *s);
const char *digest_hex(const char *s); /* the part behind "sha256:" of a valid one */

/* Errors: -ENOMEM. */
int digest_of(const void *p, size_t n, char out[DIGEST_MAX]) MUST_CHECK;
/* Of a file from its start, `fd` borrowed; its offset is 0 afterwards. Errors: read(2), lseek(2).
 */
int digest_of_fd(int fd, char out[DIGEST_MAX]) MUST_CHECK;

#endif
