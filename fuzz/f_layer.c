/* A layer as the fuzzer makes it, compressed or not, laid on another: whatever it says, the merged
 * tar names nothing outside the image. The first byte says where the input is cut into the two
 * layers. */
#include <archive.h>
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/merge.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { CUT_UNIT = 512 }; /* bytes: a tar's block */

static int file_of(const uint8_t *p, size_t n)
{
    int fd = memfd_create("layer", MFD_CLOEXEC);

    assert(fd >= 0 && write(fd, p, n) == (ssize_t)n);
    return fd;
}

static void check_paths(struct tree *t)
{
    for (struct tree_node *x = tree_root(t); x; x = tree_walk(t, x)) {
        char path[TREE_PATH_MAX + 1];

        if (tree_path(x, path) < 0)
            continue;
        assert(path[0] != '/' && strcmp(x->name, "..") != 0 && !strchr(x->name, '/'));
        assert(x->inode && x->inode->names);
    }
}

static la_ssize_t drop(struct archive *a, void *ctx, const void *buf, size_t n)
{
    return (la_ssize_t)n;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 1)
        return 0;
    size_t cut = (size_t)p[0] * CUT_UNIT;

    p++;
    n--;
    if (cut > n)
        cut = n;
    struct merge_layer layers[2] = {{.fd = file_of(p, cut)}, {.fd = file_of(p + cut, n - cut)}};
    struct merge_layer *from = cut ? layers : layers + 1;
    size_t count = cut && cut < n ? 2 : 1;
    struct tree *t = tree_new(7);

    if (merge_scan(t, from, count, NULL, NULL, NULL) == 0) {
        struct archive *out = archive_write_new();

        archive_write_set_format_pax_restricted(out);
        archive_write_open(out, NULL, NULL, drop, NULL);
        int r = merge_write(t, from, count, out, NULL, NULL, NULL);
        assert(r <= 0);
        archive_write_free(out);
    }
    check_paths(t);
    tree_free(t);
    close(layers[0].fd);
    close(layers[1].fd);
    return 0;
}
