/* machine/vmlinux.h - unpack the kernel proper from a bzImage's payload on the host, where it takes
 * milliseconds; a guest on a software engine would spend a billion instructions on it. */
#ifndef MACHINE_VMLINUX_H
#define MACHINE_VMLINUX_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { VMLINUX_MAX = 512 << 20 }; /* bytes unpacked */

/* Unpack gzip, xz, lzma, zstd or lz4 (legacy frame), as the payload's first bytes say. The payload
 * ends with the unpacked size in 4 bytes (Linux arch/x86/boot/compressed/Makefile).
 * *out is owned by the caller: free(). Errors: -ENOTSUP another compression; -EBADMSG broken or of
 * another size than it says; -E2BIG more than VMLINUX_MAX; -ENOMEM. */
int vmlinux_unpack(const uint8_t *payload, size_t len, uint8_t **out, size_t *out_len,
                   struct err *e) MUST_CHECK;

#endif
