#include "cmd/liveview.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/livedraw.h"
#include "cmd/rawterm.h"
#include "cmd/termwidth.h"
#include "cmd/verb.h"
#include "container/stats.h"

enum { EVERY_MS = 2000, JOBS_MAX = 8, KEYS_READ = 64 };

struct job { /* kiln stop and the like, beside us */
    pid_t pid;
    int err; /* what it says */
};

struct view {
    struct livedraw draw;
    struct stats *stats;
    const struct stats_row **row; /* owned array of borrowed rows */
    size_t n;
    bool all, quit;
    int64_t due; /* of the next sample, CLOCK_MONOTONIC in ms */
    int asked;   /* 's' or 'K', to be confirmed; 0 = nothing */
    char message[256];
    struct job job[JOBS_MAX];
    int signal_fd;
    sigset_t before; /* our mask, for what we run */
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int sample(struct view *v, struct err *e)
{
    const struct stats_row *rows = NULL;
    size_t n = 0;
    int r = v->stats ? 0 : stats_open(NULL, NULL, v->all, &v->stats, e);

    if (r == 0)
        r = stats_take(v->stats, &rows, &n, e);
    if (r < 0)
        return r;
    const struct stats_row **all = reallocarray(v->row, n + 1, sizeof(*all));
    if (!all)
        return err_errno(e, -ENOMEM, "list");
    v->row = all;
    v->n = n;
    for (size_t i = 0; i < n; i++)
        all[i] = &rows[i];
    return 0;
}

static void draw(struct view *v)
{
    CLEANUP(mem) char *text = NULL;
    size_t len, done = 0;
    struct winsize w;
    FILE *out = open_memstream(&text, &len);

    if (!out)
        return;
    v->draw.cols = 80;
    v->draw.rows = 24;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col && w.ws_row) {
        v->draw.cols = w.ws_col;
        v->draw.rows = w.ws_row;
    }
    v->draw.message = v->message[0] ? v->message : NULL;
    livedraw(&v->draw, v->row, v->n, out);
    fclose(out);
    while (done < len) {
        ssize_t n = write(STDOUT_FILENO, text + done, len - done);

        if (n <= 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
}

/* kiln itself with these words. `err` < 0: on this terminal. */
static pid_t spawn(const struct view *v, const char *const *words, int err)
{
    char self[PATH_MAX];
    pid_t pid = fork();

    if (pid != 0)
        return pid;
    sigprocmask(SIG_SETMASK, &v->before, NULL);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    if (err >= 0) {
        int null = open("/dev/null", O_RDWR);

        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
    self[n > 0 ? n : 0] = '\0';
    execv(self, (char *const *)words);
    execv("/proc/self/exe", (char *const *)words); /* it was replaced meanwhile */
    _exit(EXIT_KILN);                              /* a forked child */
}

static void begin_job(struct view *v, const char *verb, const struct stats_row *r)
{
    const char *words[] = {"kiln", verb, r->id, NULL};

    for (unsigned i = 0; i < JOBS_MAX; i++) {
        if (v->job[i].pid)
            continue;
        int err = memfd_create("kiln-top", MFD_CLOEXEC);
        pid_t pid = err >= 0 ? spawn(v, words, err) : -1;

        if (pid < 0) {
            snprintf(v->message, sizeof(v->message), "%s: %s", verb, strerror(errno));
            if (err >= 0)
                close(err);
            return;
        }
        v->job[i] = (struct job){pid, err};
        snprintf(v->message, sizeof(v->message), "%s %s...", verb, r->name);
        return;
    }
    snprintf(v->message, sizeof(v->message), "too much at once");
}

static void end_jobs(struct view *v)
{
    int status;

    for (unsigned i = 0; i < JOBS_MAX; i++) {
        struct job *j = &v->job[i];

        if (!j->pid || waitpid(j->pid, &status, WNOHANG) != j->pid)
            continue;
        ssize_t n = pread(j->err, v->message, sizeof(v->message) - 1, 0);
        v->message[n > 0 ? n : 0] = '\0';
        v->message[strcspn(v->message, "\n")] = '\0';
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            v->message[0] = '\0';
        close(j->err);
        *j = (struct job){0};
        v->due = 0; /* what it did is to be seen */
    }
}

/* A verb on this terminal, until it ends. */
static void in_front(struct view *v, const char *const *words)
{
    int status;

    rawterm_leave();
    pid_t pid = spawn(v, words, -1);
    /* Ctrl-C is for it. */
    void (*old)(int) = signal(SIGINT, SIG_IGN);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    signal(SIGINT, old);
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) >= EXIT_KILN) {
        fputs("(Enter goes back)", stderr);
        (void)!read(STDIN_FILENO, &(char){0}, 1);
    }
    rawterm_enter();
}

static void set_sort(struct view *v, enum livedraw_sort sort)
{
    v->draw.sort = sort;
    v->draw.reverse = false;
    v->draw.top = 0;
}

static void confirm(struct view *v, int key, const struct stats_row *r)
{
    const char *verb = v->asked == 's' ? "stop" : "kill";

    v->asked = 0;
    v->message[0] = '\0';
    if ((key == 'y' || key == 'Y') && r)
        begin_job(v, verb, r);
}

static void ask(struct view *v, int key, const struct stats_row *r)
{
    v->asked = key;
    snprintf(v->message, sizeof(v->message), "%s %s? y or n", key == 's' ? "stop" : "kill",
             r->name);
}

/* What is done to the selected one. */
static void act(struct view *v, int key, const struct stats_row *r)
{
    const char *log[] = {"kiln", "logs", "-f", "--tail", "100", r->id, NULL};
    const char *shell[] = {"kiln", "exec", "-it", r->id, "sh", NULL};

    switch (key) {
    case 's':
    case 'K':
        ask(v, key, r);
        break;
    case 'p':
        begin_job(v, r->status == RECORD_PAUSED ? "unpause" : "pause", r);
        break;
    case 'l':
        in_front(v, log);
        break;
    case 'e':
        in_front(v, shell);
        break;
    }
}

static void on_key(struct view *v, int key)
{
    static const char sorts[] = "cmndia"; /* in the order of enum livedraw_sort */
    const struct stats_row *r = livedraw_row(&v->draw, v->row, v->n);
    const char *sort = key > 0 && key < 128 ? strchr(sorts, key) : NULL;
    int page = v->draw.rows > 8 ? v->draw.rows - 6 : 1;

    if (v->asked) {
        confirm(v, key, r);
        return;
    }
    v->message[0] = '\0';
    if (sort) {
        set_sort(v, (enum livedraw_sort)(sort - sorts));
        return;
    }
    switch (key) {
    case 'q':
    case 3: /* Ctrl-C */
        v->quit = true;
        break;
    case KEY_UP:
    case 'k':
        livedraw_move(&v->draw, v->row, v->n, -1);
        break;
    case KEY_DOWN:
    case 'j':
        livedraw_move(&v->draw, v->row, v->n, 1);
        break;
    case KEY_PAGE_UP:
        livedraw_move(&v->draw, v->row, v->n, -page);
        break;
    case KEY_PAGE_DOWN:
        livedraw_move(&v->draw, v->row, v->n, page);
        break;
    case KEY_HOME:
        livedraw_move(&v->draw, v->row, v->n, -(int)v->n);
        break;
    case KEY_END:
        livedraw_move(&v->draw, v->row, v->n, (int)v->n);
        break;
    case 'r':
        v->draw.reverse = !v->draw.reverse;
        break;
    case 'A':
        v->all = !v->all;
        stats_close(v->stats);
        v->stats = NULL;
        v->n = 0;
        break;
    case 'h':
    case '?':
        v->draw.help = !v->draw.help;
        break;
    default:
        if (r)
            act(v, key, r);
    }
}

static void read_keys(struct view *v)
{
    char bytes[KEYS_READ];
    ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
    unsigned used;

    if (n <= 0) {
        v->quit = n == 0 || (errno != EINTR && errno != EAGAIN); /* the terminal went away */
        return;
    }
    for (unsigned at = 0; at < (unsigned)n && !v->quit; at += used) {
        on_key(v, rawterm_key(bytes + at, (unsigned)n - at, &used));
        livedraw_settle(&v->draw, v->row, v->n); /* the next key is about what it changed */
    }
}

static void read_signals(struct view *v)
{
    struct signalfd_siginfo s;

    while (read(v->signal_fd, &s, sizeof(s)) == sizeof(s))
        if (s.ssi_signo == SIGCHLD)
            end_jobs(v);
}

static int loop(struct view *v, struct err *e)
{
    int r = 0;

    while (r == 0 && !v->quit) {
        struct pollfd p[] = {{STDIN_FILENO, POLLIN, 0}, {v->signal_fd, POLLIN, 0}};
        int64_t t = now_ms();

        if (t >= v->due || !v->stats) {
            r = sample(v, e);
            v->due = now_ms() + EVERY_MS;
        }
        if (r == 0)
            draw(v);
        t = now_ms();
        if (r == 0 && poll(p, 2, v->due > t ? (int)(v->due - t) : 0) < 0 && errno != EINTR)
            r = err_errno(e, -errno, "poll");
        if (p[1].revents)
            read_signals(v);
        if (p[0].revents)
            read_keys(v);
    }
    return r;
}

static int watch_signals(struct view *v, struct err *e)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, &v->before);
    v->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    return v->signal_fd < 0 ? err_errno(e, -errno, "signalfd") : 0;
}

int liveview(void)
{
    struct view v = {.draw = {.color = termwidth_color(STDOUT_FILENO)}, .signal_fd = -1};
    struct err e = {0};
    int r = watch_signals(&v, &e);

    if (r == 0)
        r = rawterm_open(&e);
    if (r == -ENOTTY)
        err_set(&e, r, "top without a container needs a terminal; see 'kiln stats'");
    if (r == 0)
        r = loop(&v, &e);
    rawterm_close();
    stats_close(v.stats);
    free(v.row);
    if (v.signal_fd >= 0)
        close(v.signal_fd);
    sigprocmask(SIG_SETMASK, &v.before, NULL);
    return r < 0 ? say_err(&e, EXIT_KILN) : 0;
}
