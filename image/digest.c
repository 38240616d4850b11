#include "image/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/sha256.h"

enum {
    READ_CHUNK = 1 << 16, /* bytes */
    SMALL_MAX = 1 << 18,  /* bytes for which libcrypto is not worth loading */
};

struct digest {
    EVP_MD_CTX *md;
};

void digest_free(struct digest *d)
{
    if (!d)
        return;
    EVP_MD_CTX_free(d->md);
    free(d);
}

struct digest *digest_new(void)
{
    struct digest *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->md = EVP_MD_CTX_new();
    if (!d->md || EVP_DigestInit_ex(d->md, EVP_sha256(), NULL) != 1) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_add(struct digest *d, const void *p, size_t n)
{
    BUG_ON(EVP_DigestUpdate(d->md, p, n) != 1);
}

static void write_hex(const uint8_t *sum, char out[DIGEST_MAX])
{
    static const char digits[] = "0123456789abcdef";

    memcpy(out, "sha256:", DIGEST_PREFIX);
    for (unsigned i = 0; i < SHA256_BYTES; i++) {
        out[DIGEST_PREFIX + 2 * i] = digits[sum[i] >> 4];
        out[DIGEST_PREFIX + 2 * i + 1] = digits[sum[i] & 15];
    }
    out[DIGEST_PREFIX + DIGEST_HEX] = '\0';
}

void digest_end(struct digest *d, char out[DIGEST_MAX])
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    BUG_ON(EVP_DigestFinal_ex(d->md, sum, &n) != 1 || n != SHA256_BYTES);
    write_hex(sum, out);
}

bool digest_is_valid(const char *s)
{
    return strncmp(s, "sha256:", DIGEST_PREFIX) == 0 && strlen(s + DIGEST_PREFIX) == DIGEST_HEX &&
           strspn(s + DIGEST_PREFIX, "0123456789abcdef") == DIGEST_HEX;
}

const char *digest_hex(const char *s)
{
    return s + DIGEST_PREFIX;
}

int digest_of(const void *p, size_t n, char out[DIGEST_MAX])
{
    uint8_t sum[SHA256_BYTES];

    if (n <= SMALL_MAX) {
        sha256(p, n, sum);
        write_hex(sum, out);
        return 0;
    }
    struct digest *d = digest_new();
    if (!d)
        return -ENOMEM;
    digest_add(d, p, n);
    digest_end(d, out);
    digest_free(d);
    return 0;
}

int digest_of_fd(int fd, char out[DIGEST_MAX])
{
    CLEANUP(mem) uint8_t *buf = malloc(READ_CHUNK);
    struct digest *d = digest_new();
    int r = buf && d ? 0 : -ENOMEM;

    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    while (r == 0) {
        ssize_t n = read(fd, buf, READ_CHUNK);

        if (n > 0)
            digest_add(d, buf, (size_t)n);
        else if (n == 0)
            break;
        else if (errno != EINTR)
            r = -errno;
    }
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r == 0)
        digest_end(d, out);
    digest_free(d);
    return r;
}
