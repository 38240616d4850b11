/* test/unit/tar.h - small archives made in memory, for tests of the image store. */
#ifndef TEST_UNIT_TAR_H
#define TEST_UNIT_TAR_H

#include <stddef.h>
#include <stdint.h>

struct tar_file {
    const char *path;
    char type; /* as tar has it: '0' file, '1' hard link, '2' symbolic link, '3' char, '5' folder */
    const char *data;   /* contents, or the link's target */
    unsigned mode, uid; /* mode 0: 0644, of a folder 0755 */
    int fd;             /* contents from here instead, when not 0; borrowed */
    const char *xattr;  /* a name, or NULL; its value is "v" */
};

/* A memfd that holds the files, ended by an entry without path. The caller owns it. */
int tar_make(const struct tar_file *files);
/* The same, through a filter of libarchive: "gzip", "zstd", ... */
int tar_make_compressed(const struct tar_file *files, const char *filter);

/* "type path data|..." of the tar in `fd`, sorted by path, folders left out: to compare as one
 * string. */
void tar_list(int fd, char *out, size_t room);

#endif
