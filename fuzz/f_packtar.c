/* A tar from whoever types `kiln cp -`, as a stream of entries; and those back as a tar. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/packtar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STREAM_MAX = 8 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pack_out out;
    static struct pack_in in;
    CLEANUP(fd) int tar = memfd_create("tar", MFD_CLOEXEC);
    CLEANUP(fd) int stream = memfd_create("stream", MFD_CLOEXEC);
    CLEANUP(fd) int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (tar < 0 || stream < 0 || null < 0 || write(tar, data, size) != (ssize_t)size)
        return 0;
    lseek(tar, 0, SEEK_SET);
    pack_out_init(&out, stream);
    int r = packtar_read(tar, &out, NULL);
    if (r < 0 || pack_put_end(&out) < 0 || lseek(stream, 0, SEEK_CUR) > STREAM_MAX)
        return 0;
    /* What we made ourselves we can read. A tar may have a size without content: it is then short.
     */
    lseek(stream, 0, SEEK_SET);
    pack_in_init(&in, pack_fill_fd, &stream);
    (void)!packtar_write(&in, NULL, "x", size & 1, null, NULL);
    return 0;
}
