/* test/unit/t_sh.h - a shell command and what it wrote, for tests that compare with other programs.
 */
#ifndef TEST_UNIT_T_SH_H
#define TEST_UNIT_T_SH_H

#include <sys/wait.h>
#include <unistd.h>

/* Runs it; up to len - 1 bytes of its output, if asked. The exit status, -1 when it did not exit.
 */
static inline int t_sh(const char *cmd, char *out, size_t len)
{
    int v[2], status;
    size_t n = 0;
    char sink[512];

    if (pipe(v) < 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(v[1], 1);
        close(v[0]);
        close(v[1]);
        execl("/bin/sh", "sh", "-c", cmd, (char *)NULL);
        _exit(127);
    }
    close(v[1]);
    for (;;) {
        size_t room = out && n < len - 1 ? len - 1 - n : 0;
        ssize_t k = read(v[0], room ? out + n : sink, room ? room : sizeof(sink));

        if (k <= 0)
            break;
        if (room)
            n += (size_t)k;
    }
    if (out)
        out[n] = '\0';
    close(v[0]);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
