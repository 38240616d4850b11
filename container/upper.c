#include "container/upper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/helper.h"
#include "image/store.h"
#include "vm/snapdisk.h"

#define SMALL ((uint64_t)1 << 30)
#define DISK_NAME "disk.img"

bool upper_on_disk(const struct spec *s)
{
    if (s->storage_memory)
        return false;
    return !s->auto_remove || s->storage_size != SPEC_UNSET;
}

uint64_t upper_limit(const struct spec *s)
{
    return s->storage_size > 0 ? (uint64_t)s->storage_size : 0;
}

int upper_check(const struct spec *s, struct err *e)
{
    uint64_t limit = upper_limit(s);

    if (s->isolation != SPEC_VM || limit == 0)
        return 0;
    if (limit < UPPER_BYTES_MIN || limit > (uint64_t)16 << 40)
        return err_set(e, -EINVAL, "--storage-size %llu is out of range: 16 MiB to 16 TiB",
                       (unsigned long long)limit);
    return 0;
}

/* No checksums of metadata: a software engine pays for each. A journal, because a machine may be
 * killed at any moment. Few inodes and no table for later growth: what is not written at all costs
 * nothing to copy. */
static int make_fs(const char *path, uint64_t bytes, struct err *e)
{
    const char *argv[] = {"mke2fs",
                          "-q",
                          "-F",
                          "-t",
                          "ext4",
                          "-b",
                          "4096",
                          "-m",
                          "0",
                          "-i",
                          bytes < SMALL ? "16384" : "65536",
                          "-O",
                          "^resize_inode,sparse_super2,^metadata_csum,uninit_bg",
                          "-E",
                          "lazy_itable_init=1,lazy_journal_init=1,packed_meta_blocks=1,"
                          "num_backup_sb=0,nodiscard",
                          "-J",
                          bytes < SMALL ? "size=4" : "size=16",
                          path,
                          NULL};
    struct helper h;
    CLEANUP(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0 || ftruncate(fd, (off_t)(bytes & ~4095ull)) < 0)
        return err_errno(e, -errno, "%s", path);
    int r = helper_start(&h, argv, NULL, "e2fsprogs", false, false, e);
    return r < 0 ? r : helper_end(&h, e);
}

/* The empty one of this size, which others are copied from. */
static int open_empty(const char *root, uint64_t bytes, int *ret, struct err *e)
{
    CLEANUP(mem) char *top = store_root_path(root);
    char dir[PATH_MAX], path[PATH_MAX + 64], temp[PATH_MAX + 96];

    if (!top || (size_t)snprintf(dir, sizeof(dir), "%s/upper", top) >= sizeof(dir))
        return err_errno(e, top ? -ENAMETOOLONG : -ENOMEM, "writable layer");
    snprintf(path, sizeof(path), "%s/ext4-1-%llu.img", dir, (unsigned long long)bytes);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(temp, sizeof(temp), "%s.%d", path, (int)getpid());
        (void)unlink(temp);
        if (mkdir(dir, 0700) < 0 && errno != EEXIST)
            return err_errno(e, -errno, "%s", dir);
        int r = make_fs(temp, bytes, e);
        if (r == 0 && rename(temp, path) < 0)
            r = err_errno(e, -errno, "%s", path);
        if (r < 0) {
            (void)unlink(temp);
            return r;
        }
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    *ret = fd;
    return fd < 0 ? err_errno(e, -errno, "%s", path) : 0;
}

static int make_disk(const char *root, const struct record *r, uint64_t bytes, struct err *e)
{
    CLEANUP(fd) int empty = -1;
    int rc = open_empty(root, bytes, &empty, e);

    if (rc < 0)
        return rc;
    (void)unlinkat(r->dir, DISK_NAME ".new", 0);
    CLEANUP(fd)
    int fd = openat(r->dir, DISK_NAME ".new", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(e, -errno, "writable layer");
    rc = snapdisk_copy(empty, fd, bytes & ~4095ull, e);
    if (rc == 0 && renameat(r->dir, DISK_NAME ".new", r->dir, DISK_NAME) < 0)
        rc = err_errno(e, -errno, "writable layer");
    if (rc < 0)
        (void)unlinkat(r->dir, DISK_NAME ".new", 0);
    return rc;
}

int upper_disk(const char *root, const struct record *r, char path[PATH_MAX], struct err *e)
{
    uint64_t limit = upper_limit(&r->spec);
    int rc = 0;

    if ((size_t)snprintf(path, PATH_MAX, "%s/" DISK_NAME, r->path) >= PATH_MAX)
        return err_errno(e, -ENAMETOOLONG, "%s", r->path);
    if (faccessat(r->dir, DISK_NAME, F_OK, 0) < 0)
        rc = make_disk(root, r, limit ? limit : UPPER_BYTES, e);
    return rc < 0 ? err_wrap(e, rc, "writable layer of %s", r->name) : 0;
}
