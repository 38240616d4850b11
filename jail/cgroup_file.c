#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/cgroup_priv.h"

static int file_path(char out[CGROUP_FILE_MAX], const char *dir, const char *file)
{
    int n = snprintf(out, CGROUP_FILE_MAX, "%s/%s", dir, file);

    return n < 0 || n >= CGROUP_FILE_MAX ? -ENAMETOOLONG : 0;
}

int cgroup_file_open(const char *dir, const char *file)
{
    char path[CGROUP_FILE_MAX];
    int r = file_path(path, dir, file);

    if (r < 0)
        return r;
    /* O_CREAT for a folder that plays a group in tests; the kernel makes no files there and says
     * EACCES. */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return errno == EACCES && access(path, F_OK) < 0 ? -ENOENT : -errno;
    return fd;
}

int cgroup_file_put(const char *dir, const char *file, const char *text)
{
    size_t len = strlen(text);
    CLEANUP(fd) int fd = cgroup_file_open(dir, file);

    if (fd < 0)
        return fd;
    ssize_t n = write(fd, text, len);
    return n < 0 ? -errno : (size_t)n == len ? 0 : -EIO;
}

int cgroup_file_get(const char *dir, const char *file, char *buf, size_t len)
{
    char path[CGROUP_FILE_MAX];
    size_t have = 0;
    int r = file_path(path, dir, file);

    if (r < 0)
        return r;
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    while (have < len - 1) {
        ssize_t n = read(fd, buf + have, len - 1 - have);

        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    buf[have] = '\0';
    return (int)have;
}

static int number(const char *s, uint64_t *out)
{
    char *end;

    if (strncmp(s, "max", 3) == 0) {
        *out = UINT64_MAX;
        return 0;
    }
    if (!isdigit((unsigned char)*s))
        return -EBADMSG;
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    if (errno)
        return -ERANGE;
    /* v1 says "no limit" as the highest number of pages. */
    *out = v >= (UINT64_MAX >> 1) - 65535 ? UINT64_MAX : v;
    return 0;
}

int cgroup_file_u64(const char *dir, const char *file, uint64_t *out)
{
    char buf[64];
    int n = cgroup_file_get(dir, file, buf, sizeof(buf));

    return n < 0 ? n : number(buf, out);
}

int cgroup_file_key(const char *dir, const char *file, const char *key, uint64_t *out)
{
    char buf[CGROUP_TEXT_MAX];
    size_t len = strlen(key);
    int n = cgroup_file_get(dir, file, buf, sizeof(buf));

    if (n < 0)
        return n;
    for (char *p = buf, *line; (line = strsep(&p, "\n"));)
        if (strncmp(line, key, len) == 0 && line[len] == ' ')
            return number(line + len + 1, out);
    return -ENOENT;
}

bool cgroup_is_v2(const struct cgroup *c, enum cgroup_controller k)
{
    return c->path[k][0] && strcmp(c->path[k], c->path[CGROUP_UNIFIED]) == 0;
}

int cgroup_each_folder(const struct cgroup *c, int (*fn)(void *ctx, const char *dir, bool v2),
                       void *ctx)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i <= CGROUP_UNIFIED; i++) {
        bool again = !c->path[i][0];

        for (unsigned j = 0; !again && j < i; j++)
            again = strcmp(c->path[i], c->path[j]) == 0;
        if (!again)
            r = fn(ctx, c->path[i], strcmp(c->path[i], c->path[CGROUP_UNIFIED]) == 0);
    }
    return r;
}
