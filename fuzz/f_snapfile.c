/* A snapshot's `state` file is the fuzzer's bytes, under a checksum that is right: parsed, and what
 * was taken is laid out again and parsed once more. */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/err.h"
#include "vm/snapfile.h"
#include "vm/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEADER = 24, TRAILER = 4, SIZE_MAX_HERE = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapfile f, again;
    uint8_t *bytes, *out = NULL;
    size_t len;
    struct err e = {0};

    if (size > SIZE_MAX_HERE || snapfile_parse(data, size, &f, &e) == 0)
        return 0; /* checksums are not guessed */
    bytes = calloc(1, HEADER + size + TRAILER);
    if (!bytes)
        return 0;
    memcpy(bytes, "KILNSNAP", 8);
    bytes[8] = SNAP_VERSION;
    for (unsigned i = 0; i < 8; i++)
        bytes[16 + i] = (uint8_t)((uint64_t)size >> (8 * i));
    if (size)
        memcpy(bytes + HEADER, data, size);
    uint32_t crc = crc32c(0, bytes, HEADER + size);
    memcpy(bytes + HEADER + size, &crc, TRAILER);
    if (snapfile_parse(bytes, HEADER + size + TRAILER, &f, &e) == 0) {
        BUG_ON(snapfile_format(&f, &out, &len, &e) < 0);
        BUG_ON(snapfile_parse(out, len, &again, &e) < 0);
        BUG_ON(again.n_extents != f.n_extents || again.machine_len != f.machine_len ||
               strcmp(again.note, f.note) != 0);
        snapfile_done(&again);
        snapfile_done(&f);
    }
    free(out);
    free(bytes);
    return 0;
}
