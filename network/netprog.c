#include "network/netprog.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

extern char **environ;

enum { END_TIMEOUT_MS = 5000, MESSAGE_MAX = 400 };

static int memory_file(const char *text, size_t len)
{
    CLEANUP(fd) int fd = memfd_create("kiln-helper", MFD_CLOEXEC);

    if (fd < 0 || (len && pwrite(fd, text, len, 0) != (ssize_t)len))
        return -errno;
    return take_fd(&fd);
}

/* posix_spawn looks the program up in PATH, and takes no copy of this process. */
static int run(const char *const *argv, int in, int out, pid_t *pid)
{
    posix_spawn_file_actions_t a;
    posix_spawnattr_t attr;
    sigset_t none;

    sigemptyset(&none);
    if (posix_spawn_file_actions_init(&a) != 0)
        return -ENOMEM;
    if (posix_spawnattr_init(&attr) != 0) {
        posix_spawn_file_actions_destroy(&a);
        return -ENOMEM;
    }
    int r = posix_spawn_file_actions_adddup2(&a, in, 0);
    for (int fd = 1; r == 0 && fd <= 2; fd++)
        r = posix_spawn_file_actions_adddup2(&a, out, fd);
    if (r == 0)
        r = posix_spawnattr_setsigmask(&attr, &none);
    if (r == 0)
        r = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    if (r == 0)
        r = posix_spawnp(pid, argv[0], &a, &attr, (char **)argv, environ);
    posix_spawnattr_destroy(&attr);
    posix_spawn_file_actions_destroy(&a);
    return -r;
}

static int complain(const char *program, int out, struct err *e)
{
    char text[MESSAGE_MAX] = "";
    ssize_t n = pread(out, text, sizeof(text) - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    return err_set(e, -EIO, "%s: %s", program, text[0] ? text : "failed without a word");
}

int netprog_feed(const char *const *argv, const char *text, size_t len, struct err *e)
{
    CLEANUP(fd) int in = memory_file(text, len);
    CLEANUP(fd) int out = memory_file(NULL, 0);
    int status = 0, r;
    pid_t pid;

    if (in < 0 || out < 0)
        return err_errno(e, in < 0 ? in : out, "%s", argv[0]);
    r = run(argv, in, out, &pid);
    if (r == -ENOENT)
        return err_set(e, r, "the program %s is not installed", argv[0]);
    if (r < 0)
        return err_errno(e, r, "%s", argv[0]);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(e, -errno, "%s", argv[0]);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : complain(argv[0], out, e);
}

/* Field 22, and field 3; 0 = no such process. */
static uint64_t read_stat(pid_t pid, char *state)
{
    char path[32], text[1024];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* Field 2 may hold anything, brackets too. */
    char *p = strrchr(text, ')');
    if (!p || p[1] != ' ')
        return 0;
    p += 2;
    *state = *p;
    for (int field = 3; p && field < 22; field++) {
        p = strchr(p, ' ');
        p = p ? p + 1 : NULL;
    }
    return p ? strtoull(p, NULL, 10) : 0;
}

uint64_t netprog_start_time(pid_t pid)
{
    char state = 0;
    uint64_t start = read_stat(pid, &state);

    return state == 'Z' || state == 'X' ? 0 : start;
}

void netprog_end(pid_t pid, uint64_t start)
{
    char state;

    if (pid <= 0 || start == 0)
        return;
    /* What is checked behind the descriptor is what the descriptor means. */
    CLEANUP(fd) int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0 || read_stat(pid, &state) != start)
        return;
    struct pollfd p = {fd, POLLIN, 0};
    (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    while (poll(&p, 1, END_TIMEOUT_MS) < 0 && errno == EINTR)
        ;
    (void)waitid(P_PIDFD, (id_t)fd, &(siginfo_t){0}, WEXITED | WNOHANG);
}
