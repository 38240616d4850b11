#include "test/unit/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test/unit/t.h"

enum { LIST_MAX = 64, TEXT_MAX = 256 };

static int64_t size_of(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

static void copy(struct archive *a, int fd)
{
    char buf[4096];
    ssize_t n;

    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    while ((n = read(fd, buf, sizeof(buf))) > 0)
        assert_int_equal(archive_write_data(a, buf, (size_t)n), n);
}

static void fill(struct archive_entry *x, const struct tar_file *f)
{
    archive_entry_set_pathname(x, f->path);
    archive_entry_set_mtime(x, 1000, 0);
    archive_entry_set_uid(x, f->uid);
    archive_entry_set_gid(x, f->uid);
    archive_entry_set_filetype(x, f->type == '5'   ? AE_IFDIR
                                  : f->type == '2' ? AE_IFLNK
                                  : f->type == '3' ? AE_IFCHR
                                                   : AE_IFREG);
    archive_entry_set_perm(x, f->mode ? f->mode : f->type == '5' ? 0755 : 0644);
    if (f->type == '2')
        archive_entry_set_symlink(x, f->data);
    if (f->type == '1')
        archive_entry_set_hardlink(x, f->data);
    if (f->type == '3') {
        archive_entry_set_rdevmajor(x, 1);
        archive_entry_set_rdevminor(x, 3);
    }
    if (f->type == '0')
        archive_entry_set_size(x, f->fd ? size_of(f->fd) : (int64_t)strlen(f->data));
    if (f->xattr)
        archive_entry_xattr_add_entry(x, f->xattr, "v", 1);
}

int tar_make_compressed(const struct tar_file *files, const char *filter)
{
    struct archive *a = archive_write_new();
    int fd = memfd_create("tar", MFD_CLOEXEC);

    assert_true(a && fd >= 0);
    archive_write_set_format_pax_restricted(a);
    if (filter)
        assert_int_equal(archive_write_add_filter_by_name(a, filter), ARCHIVE_OK);
    assert_int_equal(archive_write_open_fd(a, fd), ARCHIVE_OK);
    for (const struct tar_file *f = files; f->path; f++) {
        struct archive_entry *x = archive_entry_new();

        fill(x, f);
        assert_int_equal(archive_write_header(a, x), ARCHIVE_OK);
        if (f->type == '0' && f->fd)
            copy(a, f->fd);
        else if (f->type == '0' && *f->data)
            assert_int_equal(archive_write_data(a, f->data, strlen(f->data)), strlen(f->data));
        archive_entry_free(x);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

int tar_make(const struct tar_file *files)
{
    return tar_make_compressed(files, NULL);
}

static int by_text(const void *a, const void *b)
{
    return strcmp((const char *)a + 2, (const char *)b + 2);
}

static void describe(struct archive *a, struct archive_entry *x, char *out)
{
    const char *hard = archive_entry_hardlink(x);
    char data[TEXT_MAX / 2] = "";

    if (hard) {
        snprintf(out, TEXT_MAX, "h %s %s", archive_entry_pathname(x), hard);
    } else if (archive_entry_filetype(x) == AE_IFLNK) {
        snprintf(out, TEXT_MAX, "l %s %s", archive_entry_pathname(x), archive_entry_symlink(x));
    } else if (archive_entry_filetype(x) == AE_IFREG) {
        assert_true(archive_read_data(a, data, sizeof(data) - 1) >= 0);
        snprintf(out, TEXT_MAX, "f %s %s", archive_entry_pathname(x), data);
    } else {
        snprintf(out, TEXT_MAX, "c %s", archive_entry_pathname(x));
    }
}

void tar_list(int fd, char *out, size_t room)
{
    static char text[LIST_MAX][TEXT_MAX];
    struct archive *a = archive_read_new();
    struct archive_entry *x;
    size_t n = 0, at = 0;

    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    archive_read_support_format_tar(a);
    assert_int_equal(archive_read_open_fd(a, fd, 4096), ARCHIVE_OK);
    while (archive_read_next_header(a, &x) == ARCHIVE_OK) {
        if (archive_entry_filetype(x) == AE_IFDIR)
            continue;
        assert_true(n < LIST_MAX);
        describe(a, x, text[n++]);
    }
    archive_read_free(a);
    qsort(text, n, TEXT_MAX, by_text);
    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, room - at, "%s%s", i ? "|" : "", text[i]);
    assert_true(at < room);
}
