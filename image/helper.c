#include "image/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"

enum {
    LINE_LEN_MAX = 1024, /* bytes of a line of output; longer ones are cut */
    EXEC_FAILED = 127,   /* status of a child that could not become the program */
};

extern char **environ;

/* A copy of the environment with `extra` in front, so that it wins. NULL = out of memory. */
static char **join_env(const char *const *extra)
{
    size_t n = 0, k = 0;

    while (environ && environ[n])
        n++;
    while (extra && extra[k])
        k++;
    char **all = calloc(n + k + 1, sizeof(char *));
    if (!all)
        return NULL;
    if (k)
        memcpy(all, extra, k * sizeof(char *));
    if (n)
        memcpy(all + k, environ, n * sizeof(char *));
    return all;
}

/* In the forked child: only async-signal-safe calls. */
static _Noreturn void become(const char *const *argv, char **env, int in, int out, int err,
                             pid_t parent, int tell)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() == parent && dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(err, 2) >= 0)
        execvpe(argv[0], (char *const *)argv, env);
    int why = errno;
    ssize_t n = write(tell, &why, sizeof(why));
    (void)n;
    _exit(EXEC_FAILED); /* a forked child must not run our exit handlers */
}

static void forget(struct helper *h)
{
    cleanup_fd(&h->in);
    cleanup_fd(&h->out);
    cleanup_fd(&h->err);
    h->in = h->out = h->err = -1;
    h->pid = 0;
}

static int wait_for(struct helper *h)
{
    int status = 0;

    while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR)
        ;
    h->pid = 0;
    return status;
}

int helper_start(struct helper *h, const char *const *argv, const char *const *env,
                 const char *package, bool with_in, bool with_out, struct err *e)
{
    CLEANUP(mem) char **full = join_env(env);
    CLEANUP(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    CLEANUP(fd) int in = -1;
    CLEANUP(fd) int out = -1;
    CLEANUP(fd) int err = -1;
    CLEANUP(fd) int tell = -1;
    CLEANUP(fd) int told = -1;
    int pair[2], why = 0;

    *h = (struct helper){.in = -1, .out = -1, .err = -1};
    if (!full || null < 0)
        return err_set(e, full ? -errno : -ENOMEM, "/dev/null: %s",
                       strerror(full ? errno : ENOMEM));
    if (with_in && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        h->in = pair[0];
        in = pair[1];
    }
    if (with_out && pipe2(pair, O_CLOEXEC) == 0) {
        h->out = pair[0];
        out = pair[1];
    }
    if (pipe2(pair, O_CLOEXEC) == 0) {
        h->err = pair[0];
        err = pair[1];
    }
    if (pipe2(pair, O_CLOEXEC) == 0) {
        told = pair[0];
        tell = pair[1];
    }
    if ((with_in && in < 0) || (with_out && out < 0) || err < 0 || tell < 0) {
        why = errno;
        forget(h);
        return err_set(e, -why, "pipe to %s: %s", argv[0], strerror(why));
    }

    pid_t parent = getpid();
    h->pid = fork();
    if (h->pid < 0) {
        why = errno;
        forget(h);
        return err_set(e, -why, "fork: %s", strerror(why));
    }
    if (h->pid == 0)
        become(argv, full, in >= 0 ? in : null, out >= 0 ? out : null, err, parent, tell);

    close(tell);
    tell = -1;
    if (read(told, &why, sizeof(why)) == (ssize_t)sizeof(why)) {
        wait_for(h);
        forget(h);
        if (why == ENOENT)
            return err_set(e, -ENOENT, "%s is not installed: apt-get install %s", argv[0], package);
        return err_set(e, -why, "%s: %s", argv[0], strerror(why));
    }
    return 0;
}

/* Keep the end of what it says. */
static void keep(struct helper *h, const char *p, size_t n)
{
    if (n >= HELPER_SAID_MAX) {
        p += n - (HELPER_SAID_MAX - 1);
        n = HELPER_SAID_MAX - 1;
    }
    if (h->said_len + n > HELPER_SAID_MAX - 1) {
        size_t drop = h->said_len + n - (HELPER_SAID_MAX - 1);

        memmove(h->said, h->said + drop, h->said_len - drop);
        h->said_len -= drop;
    }
    memcpy(h->said + h->said_len, p, n);
    h->said_len += n;
    h->said[h->said_len] = '\0';
}

/* Read standard error once; false when it is closed. */
static bool hear(struct helper *h)
{
    char buf[1024];
    ssize_t n = read(h->err, buf, sizeof(buf));

    if (n > 0)
        keep(h, buf, (size_t)n);
    return n > 0 || (n < 0 && errno == EINTR);
}

int helper_write(struct helper *h, const void *p, size_t n)
{
    const char *s = p;

    while (n > 0) {
        struct pollfd fds[2] = {{h->in, POLLOUT, 0}, {h->err, POLLIN, 0}};

        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return -errno;
        /* What it says is read all the time, or it would wait for us while we wait for it. */
        if (fds[1].revents & POLLIN)
            (void)hear(h);
        if (!(fds[0].revents & (POLLOUT | POLLERR | POLLHUP)))
            continue;
        ssize_t k = send(h->in, s, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (k < 0 && errno != EINTR && errno != EAGAIN)
            return -errno;
        if (k > 0) {
            s += k;
            n -= (size_t)k;
        }
    }
    return 0;
}

struct lines {
    char text[LINE_LEN_MAX];
    size_t len;
};

static void split(struct lines *l, const char *p, size_t n,
                  void (*line)(void *ctx, const char *text), void *ctx)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' || p[i] == '\r') {
            l->text[l->len] = '\0';
            if (l->len && line)
                line(ctx, l->text);
            l->len = 0;
        } else if (l->len < sizeof(l->text) - 1) {
            l->text[l->len++] = p[i];
        }
    }
}

void helper_drain(struct helper *h, void (*line)(void *ctx, const char *text), void *ctx)
{
    struct lines l = {.len = 0};
    bool out = h->out >= 0, err = h->err >= 0;

    while (out || err) {
        struct pollfd fds[2] = {{out ? h->out : -1, POLLIN, 0}, {err ? h->err : -1, POLLIN, 0}};

        if (poll(fds, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            return;
        }
        if (fds[1].revents)
            err = hear(h);
        if (fds[0].revents) {
            char buf[4096];
            ssize_t n = read(h->out, buf, sizeof(buf));

            if (n > 0)
                split(&l, buf, (size_t)n, line, ctx);
            out = n > 0 || (n < 0 && errno == EINTR);
        }
    }
}

/* The last line it said that holds something; `said` is changed. */
static const char *last_line(struct helper *h)
{
    size_t n = h->said_len;

    while (n > 0 && (h->said[n - 1] == '\n' || h->said[n - 1] == ' '))
        h->said[--n] = '\0';
    const char *nl = strrchr(h->said, '\n');
    return nl ? nl + 1 : h->said;
}

int helper_end(struct helper *h, struct err *e)
{
    cleanup_fd(&h->in);
    h->in = -1;
    helper_drain(h, NULL, NULL);
    int status = wait_for(h);
    forget(h);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (strstr(h->said, "No space left on device") || strstr(h->said, "no space left on device"))
        return err_set(e, -ENOSPC, "no space left on device");
    if (WIFSIGNALED(status))
        return err_set(e, -EIO, "ended by signal %d", WTERMSIG(status));
    return err_set(e, -EIO, "%.400s", h->said_len ? last_line(h) : "failed without a word");
}

void helper_kill(struct helper *h)
{
    if (h->pid > 0) {
        kill(h->pid, SIGKILL);
        (void)wait_for(h);
    }
    forget(h);
}
