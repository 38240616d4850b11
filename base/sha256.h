/* base/sha256.h - SHA-256 of bytes in memory. Source: FIPS 180-4, 5.3.3, 6.2.
 *
 * For small documents: libcrypto is many times faster, but to load it takes as long as 300 KiB do
 * here. Thread: any. */
#ifndef BASE_SHA256_H
#define BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BYTES = 32 };

void sha256(const void *p, size_t n, uint8_t out[SHA256_BYTES]);

#endif
