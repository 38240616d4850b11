#include "image/initrd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "image/cpio.h"

enum {
    LIST_LEN_MAX = 64 * 1024, /* bytes of modules/list */
    MODULE_LEN_MAX = 128 << 20,
    SIGNATURE_LEN = 12, /* struct module_signature, Linux include/linux/module_signature.h */
};
static const char signature_magic[] = "~Module signature appended~\n";

/* A whole file; *buf owned by the caller. */
static int read_file(int dir, const char *name, size_t max, uint8_t **buf, size_t *len,
                     struct err *e)
{
    CLEANUP(fd) int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, -errno, "%s", name);
    if (!S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size > max)
        return err_set(e, -EFBIG, "%s: not a file of at most %zu bytes", name, max);
    CLEANUP(mem) uint8_t *p = malloc((size_t)st.st_size + 1);
    if (!p)
        return err_errno(e, -ENOMEM, "%s", name);
    size_t got = 0;
    while (got < (size_t)st.st_size) {
        ssize_t n = read(fd, p + got, (size_t)st.st_size - got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(e, -errno, "%s", name);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    p[got] = '\0';
    *len = got;
    *buf = take_ptr(&p);
    return 0;
}

size_t initrd_module_len(const uint8_t *ko, size_t len)
{
    const size_t magic = sizeof(signature_magic) - 1;

    if (len < magic + SIGNATURE_LEN || memcmp(ko + len - magic, signature_magic, magic) != 0)
        return len;
    const uint8_t *s = ko + len - magic - SIGNATURE_LEN;
    /* u8 algo, hash, id_type, signer_len, key_id_len, pad[3]; be32 sig_len */
    size_t tail = (size_t)s[8] << 24 | (size_t)s[9] << 16 | (size_t)s[10] << 8 | s[11];
    tail += (size_t)s[3] + s[4] + SIGNATURE_LEN + magic;
    return tail <= len ? len - tail : len;
}

static bool plain_name(const char *s)
{
    return s[0] && s[0] != '.' && !strchr(s, '/') && strlen(s) < 128;
}

static int add_module(struct cpio *c, int dir, const char *name, struct err *e)
{
    char path[160];
    size_t len;
    CLEANUP(mem) uint8_t *ko = NULL;

    if (!plain_name(name))
        return err_set(e, -EINVAL, "modules/list: '%s' is not the name of a file beside it", name);
    int r = read_file(dir, name, MODULE_LEN_MAX, &ko, &len, e);
    if (r < 0)
        return r;
    snprintf(path, sizeof(path), "modules/%s", name);
    return cpio_add(c, path, S_IFREG | 0644, 0, 0, ko, initrd_module_len(ko, len), e);
}

/* What stands at the end of a line, and its length; 0 = nothing. */
static unsigned mark_of(const char *line, size_t len, size_t *mark_len)
{
    static const struct {
        const char *text;
        unsigned bit;
    } marks[] = {{" share", INITRD_SHARES}, {" net", INITRD_NETS}};

    for (size_t i = 0; i < ARRAY_LEN(marks); i++) {
        *mark_len = strlen(marks[i].text);
        if (len > *mark_len && memcmp(line + len - *mark_len, marks[i].text, *mark_len) == 0)
            return marks[i].bit;
    }
    *mark_len = 0;
    return 0;
}

/* Cuts marks off the lines that have one that is wanted, and other such lines out, in place.
 * Returns the new length. */
static size_t filter_list(char *list, unsigned with)
{
    char *to = list, *from = list;

    while (*from) {
        size_t len = strcspn(from, "\n"), mark_len, keep = len;
        bool last = from[len] == '\0';
        unsigned mark = mark_of(from, len, &mark_len);

        if (mark)
            keep = with & mark ? len - mark_len : 0;
        if (keep > 0) {
            memmove(to, from, keep);
            to += keep;
            *to++ = '\n'; /* in place of a newline, a mark, or the NUL at the end */
        }
        if (last)
            break;
        from += len + 1;
    }
    return (size_t)(to - list);
}

static int add_modules(struct cpio *c, const char *kernel_dir, unsigned with, struct err *e)
{
    char path[4096];
    size_t len;
    CLEANUP(mem) uint8_t *list = NULL;

    if ((size_t)snprintf(path, sizeof(path), "%s/modules", kernel_dir) >= sizeof(path))
        return err_errno(e, -ENAMETOOLONG, "%s", kernel_dir);
    CLEANUP(fd) int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return errno == ENOENT ? 0 : err_errno(e, -errno, "%s", path); /* nothing modular */
    int r = read_file(dir, "list", LIST_LEN_MAX, &list, &len, e);
    if (r == 0) {
        len = filter_list((char *)list, with);
        r = cpio_add(c, "modules", S_IFDIR | 0755, 0, 0, NULL, 0, e);
    }
    if (r == 0)
        r = cpio_add(c, "modules/list", S_IFREG | 0644, 0, 0, list, len, e);
    for (char *p = (char *)list, *line; r == 0 && p < (char *)list + len;) {
        line = strsep(&p, "\n");
        if (line[0] && line[0] != '#')
            r = add_module(c, dir, line, e);
    }
    return r < 0 ? err_wrap(e, r, "kernel %s", kernel_dir) : 0;
}

static int build(struct cpio *c, const char *kernel_dir, unsigned with, struct err *e)
{
    static const char *const dir[] = {"dev", "proc", "sys", "tmp", "kiln"};
    int r = 0;

    for (unsigned i = 0; i < ARRAY_LEN(dir) && r == 0; i++)
        r = cpio_add(c, dir[i], S_IFDIR | 0755, 0, 0, NULL, 0, e);
    /* The kernel opens it for PID 1 before devtmpfs is mounted. */
    if (r == 0)
        r = cpio_add(c, "dev/console", S_IFCHR | 0600, 5, 1, NULL, 0, e);
    if (r == 0)
        r = cpio_add(c, "init", S_IFREG | 0755, 0, 0, agent_image, agent_image_len, e);
    if (r == 0 && kernel_dir)
        r = add_modules(c, kernel_dir, with, e);
    return r == 0 ? cpio_end(c, e) : r;
}

int initrd_build(const char *kernel_dir, unsigned with, int *ret, struct err *e)
{
    CLEANUP(fd) int fd = memfd_create("initrd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct cpio c = {.fd = fd};

    if (fd < 0)
        return err_errno(e, -errno, "memory for the initramfs");
    int r = build(&c, kernel_dir, with, e);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return err_errno(e, -errno, "seal the initramfs");
    *ret = take_fd(&fd);
    return 0;
}
