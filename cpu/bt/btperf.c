#include "cpu/bt/btperf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_MAX_LEN = 96 };

/* As perf knows the process: in a PID namespace it has another number for itself. */
static int own_pid(void)
{
    char text[16] = {0};

    return readlink("/proc/self", text, sizeof(text) - 1) > 0 ? (int)strtol(text, NULL, 10)
                                                              : (int)getpid();
}

int btperf_open(struct err *e)
{
    char path[32];

    snprintf(path, sizeof(path), "/tmp/perf-%d.map", own_pid());
    (void)unlink(path); /* of a process that had this number before */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return fd < 0 ? err_errno(e, -errno, "make %s", path) : fd;
}

/* Whole lines, written at once: the process may be killed at any time. A full disk costs names and
 * nothing else. */
static void put(int fd, const void *code, size_t bytes, const char *name)
{
    char line[LINE_MAX_LEN];
    int n = snprintf(line, sizeof(line), "%" PRIxPTR " %zx %s\n", (uintptr_t)code, bytes, name);

    (void)!write(fd, line, (size_t)n);
}

void btperf_reset(int fd, const void *stubs, size_t bytes)
{
    if (fd < 0)
        return;
    (void)!ftruncate(fd, 0);
    put(fd, stubs, bytes, "kiln_bt_stubs");
}

void btperf_block(int fd, const void *code, size_t bytes, bool user, uint64_t lin)
{
    char name[32];

    if (fd < 0)
        return;
    snprintf(name, sizeof(name), "guest_%c_%" PRIx64, user ? 'u' : 'k', lin);
    put(fd, code, bytes, name);
}
