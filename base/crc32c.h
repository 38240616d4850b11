/* base/crc32c.h - CRC-32C (Castagnoli, polynomial 0x1edc6f41 reflected), as iSCSI and ext4 have it
 * (RFC 3720, 12.1). Finds accidents, not attackers. */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Of `len` more bytes after those that gave `crc` (0 = none yet). */
uint32_t crc32c(uint32_t crc, const void *p, size_t len);

#endif
