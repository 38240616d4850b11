#include "container/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/sessnet.h"
#include "container/wire.h"
#include "proto/filework.h"

enum {
    ANSWER_MS = 120000, /* to SETUP and START: an interpreted guest is slow */
    ENTROPY_LEN = 64,
    OK_LINE_MAX = 32,
};

static int unix_address(const char *path, const char *suffix, struct sockaddr_un *sa, struct err *e)
{
    *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
    int n = snprintf(sa->sun_path, sizeof(sa->sun_path), "%s%s", path, suffix);
    if (n < 0 || (size_t)n >= sizeof(sa->sun_path))
        return err_set(e, -ENAMETOOLONG, "%s%s: too long for a socket's name", path, suffix);
    return 0;
}

int session_listen(const char *vsock_path, int *listen_fd, struct err *e)
{
    char suffix[16];
    struct sockaddr_un sa;

    snprintf(suffix, sizeof(suffix), "_%d", PROTO_READY_PORT);
    int r = unix_address(vsock_path, suffix, &sa, e);
    if (r < 0)
        return r;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 4) < 0)
        return err_errno(e, -errno, "%s", sa.sun_path);
    *listen_fd = take_fd(&fd);
    return 0;
}

static int wait_ready(int listen_fd, const struct session_watch *w, uint64_t deadline,
                      struct err *e)
{
    for (;;) {
        char c;
        int r = wire_wait(listen_fd, POLLIN, w, deadline, e);

        if (r < 0)
            return r;
        CLEANUP(fd) int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        r = wire_wait(fd, POLLIN, w, deadline, e);
        if (r < 0)
            return r;
        if (read(fd, &c, 1) == 1)
            return 0;
    }
}

/* "CONNECT port\n"... */
static int ask_port(int fd, struct err *e)
{
    char line[OK_LINE_MAX];
    int n = snprintf(line, sizeof(line), "CONNECT %d\n", PROTO_PORT);

    if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
        return err_errno(e, errno == EPIPE ? -ECONNRESET : -errno, "call the agent");
    return 0;
}

/* ... and "OK number\n", byte by byte: what follows the line is the agent's. */
static int wait_port(int fd, const struct session_watch *w, uint64_t deadline, struct err *e)
{
    char line[OK_LINE_MAX];

    for (size_t len = 0; len < sizeof(line) - 1; len++) {
        int r = wire_wait(fd, POLLIN, w, deadline, e);

        if (r < 0)
            return r;
        if (read(fd, line + len, 1) != 1)
            return err_set(e, -ECONNRESET, "the agent does not listen");
        if (line[len] == '\n')
            return strncmp(line, "OK ", 3) == 0 ? 0 : err_set(e, -EPROTO, "not a vsock's answer");
    }
    return err_set(e, -EPROTO, "not a vsock's answer");
}

static int connect_port(const char *vsock_path, const struct session_watch *w, uint64_t deadline,
                        int *out, struct err *e)
{
    struct sockaddr_un sa;
    int r = unix_address(vsock_path, "", &sa, e);

    if (r < 0)
        return r;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return err_errno(e, -errno, "%s", vsock_path);
    r = ask_port(fd, e);
    if (r == 0)
        r = wait_port(fd, w, deadline, e);
    if (r == 0)
        *out = take_fd(&fd);
    return r;
}

int session_pair(int *theirs, int *ours, struct err *e)
{
    int v[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v) < 0)
        return err_errno(e, -errno, "socketpair");
    *ours = v[0];
    *theirs = v[1];
    return 0;
}

static uint64_t deadline_in(int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : wire_now_ms() + (uint64_t)timeout_ms;
}

/* Does the agent speak our protocol? */
static int check_hello(const struct proto_frame *f, struct err *e)
{
    struct proto_field_view v;
    uint64_t version = 0;
    size_t pos = 0;

    while (proto_field_next(f, &pos, &v) == 1)
        if (v.id == PF_VERSION && proto_field_u64(&v, &version) < 0)
            version = 0;
    return version >= PROTO_VERSION ? 0 : err_set(e, -EPROTO, "the agent speaks another protocol");
}

/* The answer `want`, or an ERROR. */
static int answer(struct session *s, enum proto_type want, uint64_t deadline, struct err *e)
{
    struct proto_frame f;
    int r = wire_next(s, deadline, &f, e);

    if (r < 0)
        return r;
    if (f.type == PROTO_ERROR)
        r = wire_error(&f, e);
    else if (f.type != want)
        r = err_set(e, -EPROTO, "the agent answered with frame type %u", f.type);
    else if (want == PROTO_HELLO)
        r = check_hello(&f, e);
    wire_drop(s, &f);
    return r;
}

/* Send s->out and wait for the answer `want`, or have it awaited later. */
static int ask(struct session *s, enum proto_type want, uint64_t deadline, struct err *e)
{
    int r = wire_send(s, deadline, e);

    if (r < 0 || !s->ahead)
        return r < 0 ? r : answer(s, want, deadline, e);
    BUG_ON(s->n_expect == SESSION_AHEAD_MAX);
    s->expect[s->n_expect++] = want;
    return 0;
}

int session_await(struct session *s, int timeout_ms, struct err *e)
{
    uint64_t deadline = deadline_in(timeout_ms);
    enum proto_type want = s->expect[0];

    BUG_ON(s->n_expect == 0);
    int r = s->called ? wait_port(s->fd, &s->watch, deadline, e) : 0;
    if (r < 0)
        return r;
    s->called = false;
    s->ahead = --s->n_expect > 0;
    memmove(s->expect, s->expect + 1, s->n_expect * sizeof(s->expect[0]));
    return answer(s, want, deadline, e);
}

static int hello(struct session *s, uint64_t deadline, struct err *e)
{
    proto_begin(&s->out, PROTO_HELLO, 0);
    proto_put_u32(&s->out, PF_VERSION, PROTO_VERSION);
    BUG_ON(proto_end(&s->out) < 0);
    return ask(s, PROTO_HELLO, deadline, e);
}

/* Owns fd, also on failure. `ahead`: behind a socket device that was not asked for the port yet. */
static int begin(int fd, const struct session_watch *w, bool ahead, int timeout_ms,
                 struct session **ret, struct err *e)
{
    struct session *s = calloc(1, sizeof(*s));

    if (!s) {
        close(fd);
        return err_errno(e, -ENOMEM, "session");
    }
    s->fd = fd;
    s->watch = *w;
    s->ahead = s->called = ahead;
    int r = ahead ? ask_port(fd, e) : 0;
    if (r == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        r = err_errno(e, -errno, "session");
    if (r == 0)
        r = hello(s, deadline_in(timeout_ms), e);
    if (r < 0) {
        session_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

int session_join(int fd, const struct session_watch *w, struct session **ret, struct err *e)
{
    struct session *s = calloc(1, sizeof(*s));

    if (!s || fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        int r = err_errno(e, s ? -errno : -ENOMEM, "session");

        close(fd);
        free(s);
        return r;
    }
    s->fd = fd;
    s->watch = *w;
    *ret = s;
    return 0;
}

int session_open_fd(int fd, const struct session_watch *w, int timeout_ms, struct session **ret,
                    struct err *e)
{
    return begin(fd, w, false, timeout_ms, ret, e);
}

int session_call(int ours, const struct session_watch *w, struct session **ret, struct err *e)
{
    return begin(ours, w, true, ANSWER_MS, ret, e);
}

int session_open(const char *vsock_path, int listen_fd, const struct session_watch *w,
                 int timeout_ms, struct session **ret, struct err *e)
{
    uint64_t deadline = deadline_in(timeout_ms);
    int fd = -1;
    int r = listen_fd < 0 ? 0 : wait_ready(listen_fd, w, deadline, e);

    if (r == 0)
        r = connect_port(vsock_path, w, deadline, &fd, e);
    if (r == 0)
        r = session_open_fd(fd, w, ANSWER_MS, ret, e);
    return r;
}

int session_open_pair(int ours, const struct session_watch *w, int timeout_ms, struct session **ret,
                      struct err *e)
{
    CLEANUP(fd) int fd = ours;
    int r = ask_port(fd, e);

    if (r == 0)
        r = wait_port(fd, w, deadline_in(timeout_ms), e);
    return r == 0 ? session_open_fd(take_fd(&fd), w, ANSWER_MS, ret, e) : r;
}

void session_close(struct session *s)
{
    if (!s)
        return;
    close(s->fd);
    free(s);
}

static void put_opt(struct session *s, enum proto_field id, const char *v)
{
    if (v)
        proto_put_str(&s->out, id, v);
}

/* Fields that make a machine itself. */
static int put_identity(struct session *s, const struct session_setup *c, struct err *e)
{
    uint8_t entropy[ENTROPY_LEN];
    struct timespec now;

    if (getrandom(entropy, sizeof(entropy), 0) != sizeof(entropy))
        return err_errno(e, -errno, "getrandom");
    clock_gettime(CLOCK_REALTIME, &now);
    proto_put(&s->out, PF_ENTROPY, entropy, sizeof(entropy));
    proto_put_u64(&s->out, PF_WALL_NS, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    put_opt(s, PF_HOSTNAME, c->hostname);
    put_opt(s, PF_MACHINE_ID, c->machine_id);
    put_opt(s, PF_HOSTS, c->hosts);
    put_opt(s, PF_RESOLV, c->resolv);
    return sessnet_put(&s->out, c, e);
}

int session_identity(struct session *s, const struct session_setup *c, struct err *e)
{
    proto_begin(&s->out, PROTO_IDENTITY, 0);
    int r = put_identity(s, c, e);
    if (r < 0)
        return r;
    if (proto_end(&s->out) < 0)
        return err_set(e, -E2BIG, "the machine's name exceeds %d bytes", PROTO_FRAME_MAX);
    return ask(s, PROTO_IDENTITY_OK, deadline_in(ANSWER_MS), e);
}

int session_setup(struct session *s, const struct session_setup *c, struct err *e)
{
    proto_begin(&s->out, PROTO_SETUP, 0);
    int r = put_identity(s, c, e);
    if (r < 0)
        return r;
    put_opt(s, PF_ROOT_DEV, c->root_dev);
    put_opt(s, PF_ROOT_FSTYPE, c->root_fstype);
    put_opt(s, PF_OVERLAY_DEV, c->overlay_dev);
    proto_put(&s->out, PF_ROOT_RO, &(uint8_t){c->root_ro}, 1);
    if (c->overlay_bytes)
        proto_put_u64(&s->out, PF_OVERLAY_BYTES, c->overlay_bytes);
    for (size_t i = 0; c->mounts && c->mounts[i]; i++)
        proto_put(&s->out, PF_MOUNT, c->mounts[i], c->mount_len[i]);
    if (proto_end(&s->out) < 0)
        return err_set(e, -E2BIG, "the machine's description exceeds %d bytes", PROTO_FRAME_MAX);
    return ask(s, PROTO_SETUP_OK, deadline_in(ANSWER_MS), e);
}

/* Add a string to the START; when the frame is full, send it as MORE and begin the next. */
static int add(struct session *s, enum proto_field id, const char *str, struct err *e)
{
    size_t before = s->out.len;

    proto_put_str(&s->out, id, str);
    if (!s->out.overflow)
        return 0;
    if (before == PROTO_HDR)
        return err_set(e, -E2BIG, "an argument or variable exceeds %d bytes", PROTO_FRAME_MAX);
    s->out.overflow = false;
    s->out.len = before;
    BUG_ON(proto_end(&s->out) < 0);
    int r = wire_send(s, deadline_in(ANSWER_MS), e);
    if (r < 0)
        return r;
    proto_begin(&s->out, PROTO_MORE, 0);
    proto_put_str(&s->out, id, str);
    return s->out.overflow
               ? err_set(e, -E2BIG, "an argument or variable exceeds %d bytes", PROTO_FRAME_MAX)
               : 0;
}

static int add_all(struct session *s, enum proto_field id, const char *const *v, struct err *e)
{
    int r = 0;

    for (size_t i = 0; v && v[i] && r == 0; i++)
        r = add(s, id, v[i], e);
    return r;
}

static int check_size(const struct session_process *p, struct err *e)
{
    const char *const *v[] = {p->argv, p->env};
    size_t sum = PROTO_FRAME_MAX; /* frames of the other fields */

    for (unsigned k = 0; k < ARRAY_LEN(v); k++)
        for (size_t i = 0; v[k] && v[k][i] && sum <= PROTO_START_MAX; i++)
            sum += strlen(v[k][i]) + 8;
    if (sum > PROTO_START_MAX)
        return err_set(e, -E2BIG, "arguments and environment exceed %d bytes", PROTO_START_MAX);
    return 0;
}

int session_start(struct session *s, const struct session_process *p, struct err *e)
{
    int r = check_size(p, e);

    if (r < 0)
        return r;
    proto_begin(&s->out, PROTO_MORE, 0);
    r = add_all(s, PF_ARG, p->argv, e);
    if (r == 0)
        r = add_all(s, PF_ENV, p->env, e);
    if (r < 0)
        return r;
    BUG_ON(proto_end(&s->out) < 0);
    r = wire_send(s, deadline_in(ANSWER_MS), e);
    if (r < 0)
        return r;
    proto_begin(&s->out, PROTO_START, 0);
    put_opt(s, PF_CWD, p->cwd);
    put_opt(s, PF_USER, p->user);
    proto_put(&s->out, PF_TTY, &(uint8_t){p->tty}, 1);
    proto_put(&s->out, PF_STDIN, &(uint8_t){p->with_stdin}, 1);
    if (p->beside)
        proto_put(&s->out, PF_BESIDE, &(uint8_t){1}, 1);
    if (p->detach)
        proto_put(&s->out, PF_DETACH, &(uint8_t){1}, 1);
    proto_put_u32(&s->out, PF_ROWS, p->rows);
    proto_put_u32(&s->out, PF_COLS, p->cols);
    if (proto_end(&s->out) < 0)
        return err_set(e, -EINVAL, "the working directory or the user's name is too long");
    return ask(s, PROTO_STARTED, deadline_in(ANSWER_MS), e);
}

int session_work(struct session *s, unsigned kind, unsigned flags, const char *path,
                 const char *name, struct err *e)
{
    proto_begin(&s->out, PROTO_WORK, 0);
    proto_put_u32(&s->out, PF_WORK, kind);
    proto_put_u32(&s->out, PF_FLAGS, flags);
    proto_put_str(&s->out, PF_ARG, path);
    proto_put_str(&s->out, PF_ARG, name);
    proto_put(&s->out, PF_STDIN, &(uint8_t){kind == FILEWORK_PUT}, 1);
    if (proto_end(&s->out) < 0)
        return err_errno(e, -ENAMETOOLONG, "%.64s...", path);
    return ask(s, PROTO_STARTED, deadline_in(ANSWER_MS), e);
}

static void take_usage(const struct proto_frame *f, struct session_usage *u)
{
    const struct {
        enum proto_field id;
        uint64_t *to;
    } known[] = {{PF_CPU_NS, &u->cpu_ns},
                 {PF_MEMORY, &u->memory},
                 {PF_MEMORY_TOTAL, &u->memory_total},
                 {PF_PIDS, &u->pids},
                 {PF_NET_RX, &u->net_rx},
                 {PF_NET_TX, &u->net_tx},
                 {PF_DISK_READ, &u->disk_read},
                 {PF_DISK_WRITE, &u->disk_write}};
    struct proto_field_view v;
    size_t pos = 0;

    while (proto_field_next(f, &pos, &v) == 1)
        for (unsigned i = 0; i < ARRAY_LEN(known); i++)
            if (v.id == known[i].id && proto_field_u64(&v, known[i].to) < 0)
                *known[i].to = 0;
}

int session_usage(struct session *s, int timeout_ms, struct session_usage *u, struct err *e)
{
    uint64_t deadline = deadline_in(timeout_ms);
    struct proto_frame f;

    *u = (struct session_usage){0};
    while (s->n_expect > 0) {
        int rc = session_await(s, timeout_ms, e);
        if (rc < 0)
            return rc;
    }
    proto_begin(&s->out, PROTO_USAGE, 0);
    BUG_ON(proto_end(&s->out) < 0);
    int r = wire_send(s, deadline, e);
    if (r == 0)
        r = wire_next(s, deadline, &f, e);
    if (r < 0)
        return r;
    if (f.type == PROTO_USAGE_IS)
        take_usage(&f, u);
    else
        r = f.type == PROTO_ERROR
                ? wire_error(&f, e)
                : err_set(e, -EPROTO, "the agent answered with frame type %u", f.type);
    wire_drop(s, &f);
    return r;
}

int session_limit(struct session *s, const struct session_limit *l, struct err *e)
{
    proto_begin(&s->out, PROTO_LIMIT, 0);
    if (l->memory)
        proto_put_u64(&s->out, PF_MEMORY, l->memory);
    if (l->pids)
        proto_put_u64(&s->out, PF_PIDS, l->pids);
    if (l->cpu_us)
        proto_put_u64(&s->out, PF_CPU_US, l->cpu_us);
    BUG_ON(proto_end(&s->out) < 0);
    return ask(s, PROTO_LIMIT_OK, deadline_in(ANSWER_MS), e);
}

int session_hold(struct session *s, struct err *e)
{
    proto_begin(&s->out, PROTO_HOLD, 0);
    BUG_ON(proto_end(&s->out) < 0);
    return ask(s, PROTO_HOLD_OK, deadline_in(ANSWER_MS), e);
}

int session_poweroff(struct session *s, struct err *e)
{
    proto_begin(&s->out, PROTO_POWEROFF, 0);
    BUG_ON(proto_end(&s->out) < 0);
    return wire_send(s, deadline_in(1000), e);
}
