/* The bytes are a stream of files from a hostile guest; what is made of them must lie in the folder
 * they are for. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "proto/packread.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
    const uint8_t *p;
    size_t len;
};

static ssize_t fill(void *ctx, void *buf, size_t len)
{
    struct bytes *b = ctx;
    size_t n = b->len < len ? b->len : len;

    memcpy(buf, b->p, n);
    b->p += n;
    b->len -= n;
    return (ssize_t)n;
}

static void wipe(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    CLEANUP(dir) DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *de;

    while (d && (de = readdir(d)))
        if (strcmp(de->d_name, ".") != 0 && strcmp(de->d_name, "..") != 0 &&
            unlinkat(dirfd(d), de->d_name, 0) < 0)
            wipe(dirfd(d), de->d_name);
    (void)unlinkat(at, name, AT_REMOVEDIR);
}

static void decode(const uint8_t *data, size_t size)
{
    static struct pack_in in;
    static struct pack_record rec;
    struct bytes b = {data, size};

    pack_in_init(&in, fill, &b);
    while (pack_next(&in, &rec, NULL) == 0 && rec.kind != PACK_END)
        if (rec.kind == PACK_ENTRY && !pack_path_ok(rec.entry.path))
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct pack_in in;
    char top[] = "/dev/shm/kiln-f-pack-XXXXXX";
    const struct rlimit small = {1 << 20, 1 << 20};
    struct bytes b = {data, size};

    decode(data, size);
    (void)setrlimit(RLIMIT_FSIZE, &small);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (!mkdtemp(top))
        return 0;
    CLEANUP(fd) int dir = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct packread_conf c = {.root = dir,
                              .base = "in",
                              .name = size & 1 ? "x" : NULL,
                              .keep = size & 2,
                              .uid = -1,
                              .gid = (gid_t)-1,
                              .follow = size & 4};
    struct stat st;

    if (dir >= 0 && mkdirat(dir, "in", 0700) == 0) {
        pack_in_init(&in, fill, &b);
        (void)!packread(&in, &c, NULL);
        /* Two names: "." and "in". Where links mean the root, it may be written. */
        if (!c.follow && (fstat(dir, &st) < 0 || st.st_nlink != 3))
            abort();
    }
    wipe(AT_FDCWD, top);
    return 0;
}
