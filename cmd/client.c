#include "cmd/client.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"

int client_open(struct client *c, bool proxy, struct err *e)
{
    static const int wanted[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t set;

    *c = (struct client){.watch = {.machine_fd = -1, .signal_fd = -1}};
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
        if (proxy || wanted[i] == SIGWINCH)
            sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    c->watch.signal = &c->signal;
    c->watch.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return c->watch.signal_fd < 0 ? err_errno(e, -errno, "signalfd") : 0;
}

void client_close(struct client *c)
{
    keeper_hang_up(&c->line);
    cleanup_fd(&c->watch.signal_fd);
    c->watch.signal_fd =
        -1; /* the signals stay blocked: one more must not change the exit status */
}

static int terminal(const struct client *c)
{
    for (int fd = 0; c->tty && fd < 3; fd++)
        if (isatty(fd))
            return fd;
    return -1;
}

void client_size(const struct client *c, uint16_t *rows, uint16_t *cols)
{
    struct winsize ws = {0};
    int fd = terminal(c);

    if (fd >= 0)
        (void)ioctl(fd, TIOCGWINSZ, &ws);
    *rows = ws.ws_row;
    *cols = ws.ws_col;
}

/* Every key is the container's. */
static bool raw_mode(struct termios *saved)
{
    struct termios t;

    if (tcgetattr(0, saved) < 0)
        return false;
    t = *saved;
    cfmakeraw(&t);
    return tcsetattr(0, TCSADRAIN, &t) == 0;
}

static int one_key(const char *word, size_t len, uint8_t *key)
{
    if (len == 1)
        *key = (uint8_t)word[0];
    else if (len == 6 && strncmp(word, "ctrl-", 5) == 0 && word[5] >= 'a' && word[5] <= 'z')
        *key = (uint8_t)(word[5] - 'a' + 1);
    else if (len == 6 && strncmp(word, "ctrl-", 5) == 0 && word[5] != '`' && word[5] >= '@' &&
             word[5] <= '_')
        *key = (uint8_t)(word[5] - '@');
    else
        return -EINVAL;
    return 0;
}

int client_keys(const char *text, uint8_t keys[SESSION_DETACH_MAX], struct err *e)
{
    int n = 0;

    for (const char *p = text; *p;) {
        size_t len = strcspn(p, ",");

        if (len == 0 && *p == ',') /* the comma itself */
            len = 1;
        if (n == SESSION_DETACH_MAX || one_key(p, len, &keys[n]) < 0)
            return err_set(e, -EINVAL, "invalid detach keys '%s'", text);
        n++;
        p += len;
        if (*p == ',')
            p++;
    }
    return n;
}

static int pump(struct client *c, int *status, struct err *e)
{
    uint8_t keys[SESSION_DETACH_MAX];
    struct session_streams io = {
        .in = c->in ? 0 : -1, .out = c->out ? 1 : -1, .err = c->err ? 2 : -1, .tty = terminal(c)};
    struct termios saved;
    /* docker's rule: keys that come from a pipe are not typed. */
    int n = c->tty && io.in >= 0
                ? client_keys(c->detach_keys ? c->detach_keys : "ctrl-p,ctrl-q", keys, e)
                : 0;

    if (n < 0)
        return n;
    io.detach = keys;
    io.n_detach = (size_t)n;
    bool raw = io.in == 0 && io.tty == 0 && raw_mode(&saved);
    int r = keeper_pump(&c->line, &io, status, e);
    if (raw)
        tcsetattr(0, TCSADRAIN, &saved);
    return r;
}

static int by_signal(const struct client *c)
{
    return 128 + (c->signal ? c->signal : SIGINT);
}

int client_stay(struct client *c, bool await, bool end_it, struct err *e)
{
    int status = 0, r = await ? keeper_await(&c->line, e) : 0;

    if (r == 0)
        r = pump(c, &status, e);
    else if (r != -EINTR)
        return keeper_start_status(r);
    if (r == SESSION_DETACHED)
        return 0;
    if (r == -EINTR || r == -ECANCELED) {
        if (end_it)
            keeper_give_up(&c->line);
        return by_signal(c);
    }
    if (r < 0)
        return r == -ETIMEDOUT ? KEEPER_TIMEOUT : KEEPER_KILN;
    *e = (struct err){0};
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
