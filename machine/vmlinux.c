#include "machine/vmlinux.h"

#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "machine/le.h"

enum {
    SIZE_BYTES = 4,           /* the unpacked size behind the payload */
    LZMA_MEM_MAX = 256 << 20, /* bytes the decoder may take */
    LZ4_BLOCK_MAX = 8 << 20,  /* bytes a block of the legacy frame unpacks to */
    LZ4_MAGIC = 0x184c2102,
    GZIP_WINDOW = 15 + 16, /* zlib: largest window, gzip header wanted */
};

/* Each unpacks src[0..n) into dst[0..cap) and returns the bytes written, or -1. */
typedef int64_t unpack_fn(const uint8_t *src, size_t n, uint8_t *dst, size_t cap);

static int64_t unpack_gzip(const uint8_t *src, size_t n, uint8_t *dst, size_t cap)
{
    z_stream z = {.next_in = (Bytef *)(uintptr_t)src,
                  .avail_in = (uInt)n,
                  .next_out = dst,
                  .avail_out = (uInt)cap};

    if (inflateInit2(&z, GZIP_WINDOW) != Z_OK)
        return -1;
    int r = inflate(&z, Z_FINISH);
    int64_t got = (int64_t)z.total_out;
    inflateEnd(&z);
    return r == Z_STREAM_END ? got : -1;
}

/* xz, or the older lzma format. The x86 filter kernels use is the library's business. */
static int64_t unpack_lzma(const uint8_t *src, size_t n, uint8_t *dst, size_t cap)
{
    lzma_stream s = LZMA_STREAM_INIT;

    if (lzma_auto_decoder(&s, LZMA_MEM_MAX, 0) != LZMA_OK)
        return -1;
    s.next_in = src;
    s.avail_in = n;
    s.next_out = dst;
    s.avail_out = cap;
    lzma_ret r = lzma_code(&s, LZMA_FINISH);
    int64_t got = (int64_t)s.total_out;
    lzma_end(&s);
    return r == LZMA_STREAM_END ? got : -1;
}

static int64_t unpack_zstd(const uint8_t *src, size_t n, uint8_t *dst, size_t cap)
{
    size_t frame = ZSTD_findFrameCompressedSize(src, n);

    if (ZSTD_isError(frame))
        return -1;
    size_t got = ZSTD_decompress(dst, cap, src, frame);
    return ZSTD_isError(got) ? -1 : (int64_t)got;
}

/* Legacy frame: the magic, then blocks, each its compressed size and the bytes. */
static int64_t unpack_lz4(const uint8_t *src, size_t n, uint8_t *dst, size_t cap)
{
    size_t at = 4, done = 0;

    while (n - at > 4 && done < cap) {
        uint32_t size = le32(src + at);
        size_t room = cap - done < LZ4_BLOCK_MAX ? cap - done : LZ4_BLOCK_MAX;

        at += 4;
        if (size > n - at)
            return -1;
        int got =
            LZ4_decompress_safe((const char *)src + at, (char *)dst + done, (int)size, (int)room);
        if (got <= 0)
            return -1;
        at += size;
        done += (size_t)got;
    }
    return (int64_t)done;
}

static unpack_fn *unpacker(const uint8_t *p, size_t n)
{
    static const uint8_t xz[] = {0xfd, '7', 'z', 'X', 'Z', 0};
    static const uint8_t zstd[] = {0x28, 0xb5, 0x2f, 0xfd};

    if (n < 16)
        return NULL;
    if (p[0] == 0x1f && p[1] == 0x8b)
        return unpack_gzip;
    if (memcmp(p, xz, sizeof(xz)) == 0 || (p[0] == 0x5d && p[1] == 0 && p[2] == 0))
        return unpack_lzma;
    if (memcmp(p, zstd, sizeof(zstd)) == 0)
        return unpack_zstd;
    return le32(p) == LZ4_MAGIC ? unpack_lz4 : NULL;
}

int vmlinux_unpack(const uint8_t *payload, size_t len, uint8_t **out, size_t *out_len,
                   struct err *e)
{
    unpack_fn *unpack = unpacker(payload, len);
    CLEANUP(mem) uint8_t *buf = NULL;

    if (!unpack)
        return err_set(e, -ENOTSUP, "the kernel's compression is not known here");
    size_t size = le32(payload + len - SIZE_BYTES);
    if (size > VMLINUX_MAX)
        return err_set(e, -E2BIG, "the kernel unpacks to %zu MiB, more than %d", size >> 20,
                       VMLINUX_MAX >> 20);
    buf = malloc(size ? size : 1);
    if (!buf)
        return err_set(e, -ENOMEM, "out of memory");
    /* Nothing is appended to gzip: its own trailer ends with that size. */
    int64_t got = unpack(payload, unpack == unpack_gzip ? len : len - SIZE_BYTES, buf, size);
    if (got < 0 || (size_t)got != size)
        return err_set(e, -EBADMSG, "the compressed kernel inside is damaged");
    *out = take_ptr(&buf);
    *out_len = size;
    return 0;
}
