/* One connection. Input frames are handled as they come; stdin waits in a ring of the protocol's
 * window until the process takes it. Output is read into frames only while there is room for them,
 * so a slow host stops the process, not the agent. Each buffer has its size from the start. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum {
    IN_LEN = PROTO_HDR + PROTO_FRAME_MAX,
    OUT_LEN = 2 * IN_LEN,
    OUT_RESERVE = 4096, /* of OUT_LEN: for acknowledgements, errors and the exit status */
    OUT_LEAST = 16384,  /* do not make frames smaller than this for want of room */
    REPLY_MAX = 1024,
};

enum peer_state {
    PEER_NEW, /* HELLO is awaited */
    PEER_IDLE,
    PEER_STARTING, /* forked, exec not yet reported */
    PEER_RUNNING,
    PEER_FAILED, /* exec failed, the child is about to be reaped */
    PEER_OVER,   /* EXIT is queued */
};

struct peer {
    struct agent *a;
    int sock;
    enum peer_state state;
    struct start_req start;
    struct process proc;
    struct spawn_failure failure; /* in PEER_FAILED */
    bool reset; /* by the transport: this machine is not the one that the host talked to */
    bool holds; /* the HOLD is this session's */
    bool tty, detached, reaped, over, drained_late;
    bool main;         /* the container ends with it */
    int status;        /* wait status, once reaped */
    uint64_t drain_by; /* CLOCK_MONOTONIC ms; once over */
    uint8_t *stdin_q;  /* PROTO_WINDOW bytes; NULL until a process is started */
    size_t q_head, q_len;
    bool stdin_end; /* close when the ring is empty */
    uint32_t ack;   /* bytes taken by the process, not yet told */
    size_t in_len, out_off, out_len;
    uint8_t in[IN_LEN];
    uint8_t out[OUT_LEN];
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void drop_fd(int *fd)
{
    cleanup_fd(fd);
    *fd = -1;
}

struct peer *peer_new(struct agent *a, int sock)
{
    struct peer *p = calloc(1, sizeof(*p));

    if (!p) {
        close(sock);
        return NULL;
    }
    p->a = a;
    p->sock = sock;
    p->proc = (struct process){.report = -1, .in = -1, .out = -1, .err = -1};
    return p;
}

static void drop_process(struct peer *p)
{
    drop_fd(&p->proc.report);
    drop_fd(&p->proc.in);
    drop_fd(&p->proc.out);
    drop_fd(&p->proc.err);
}

static void release(struct agent *a)
{
    if (a->held)
        group_thaw(a->group);
    a->held = false;
}

void peer_free(struct peer *p)
{
    if (p->proc.pid > 0 && !p->reaped && !p->detached)
        kill(p->proc.pid, SIGKILL);
    if (p->holds && !p->reset)
        release(p->a);
    drop_process(p);
    start_done(&p->start);
    free(p->stdin_q);
    drop_fd(&p->sock);
    free(p);
}

/* ---- output queue */

static size_t out_room(const struct peer *p)
{
    return OUT_LEN - p->out_len;
}

static bool room_for_stream(const struct peer *p)
{
    return out_room(p) >= OUT_RESERVE + PROTO_HDR + OUT_LEAST;
}

static void out_pack(struct peer *p)
{
    memmove(p->out, p->out + p->out_off, p->out_len - p->out_off);
    p->out_len -= p->out_off;
    p->out_off = 0;
}

/* Small frames; the reserve makes room for those of one turn. */
static void reply(struct peer *p, enum proto_type type, const void *payload, size_t len)
{
    if (out_room(p) < PROTO_HDR + len)
        out_pack(p);
    if (out_room(p) < PROTO_HDR + len)
        return; /* the host does not read; it loses its answers */
    proto_header(p->out + p->out_len, type, 0, (uint32_t)len);
    if (len)
        memcpy(p->out + p->out_len + PROTO_HDR, payload, len);
    p->out_len += PROTO_HDR + len;
}

static void reply_u32(struct peer *p, enum proto_type type, uint32_t v)
{
    uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};

    reply(p, type, le, sizeof(le));
}

/* Frames of fields. proto_buf is large and this is one thread, hence static. */
static struct proto_buf *fields_begin(enum proto_type type)
{
    static struct proto_buf b;

    proto_begin(&b, type, 0);
    return &b;
}

static void fields_reply(struct peer *p, const struct proto_buf *b, enum proto_type type)
{
    reply(p, type, b->b + PROTO_HDR, b->len - PROTO_HDR);
}

static void reply_error(struct peer *p, int code, const char *text)
{
    struct proto_buf *b = fields_begin(PROTO_ERROR);

    proto_put_u32(b, PF_CODE, (uint32_t)(code < 0 ? -code : code));
    proto_put_str(b, PF_TEXT, text);
    fields_reply(p, b, PROTO_ERROR);
}

/* Not a host that hung up, but a transport that was reset: this machine goes on from a saved state,
 * and who listened is with another one. The command goes on, its output unread. False: the session
 * ends. */
static bool lose_host(struct peer *p, int err)
{
    p->reset |= err == ECONNRESET || err == ENOTCONN;
    if (!p->reset || p->state != PEER_RUNNING || p->over)
        return false;
    drop_fd(&p->sock);
    p->out_off = p->out_len = 0;
    return true;
}

static bool sock_error(struct peer *p)
{
    int err = 0;
    socklen_t len = sizeof(err);

    return getsockopt(p->sock, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && lose_host(p, err);
}

static bool out_flush(struct peer *p)
{
    if (p->sock < 0) {
        p->out_off = p->out_len = 0;
        return p->state != PEER_OVER;
    }
    while (p->out_off < p->out_len) {
        ssize_t n = send(p->sock, p->out + p->out_off, p->out_len - p->out_off,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || lose_host(p, errno);
        p->out_off += (size_t)n;
    }
    p->out_off = p->out_len = 0;
    return true;
}

/* ---- stdin */

static void stdin_close(struct peer *p)
{
    struct termios t;

    /* A terminal has no end; a program that reads lines takes its EOF character for one. */
    if (p->proc.in >= 0 && p->tty && tcgetattr(p->proc.in, &t) == 0 && (t.c_lflag & ICANON))
        (void)!write(p->proc.in, &t.c_cc[VEOF], 1);
    drop_fd(&p->proc.in);
    p->q_len = 0;
}

static void stdin_flush(struct peer *p)
{
    while (p->proc.in >= 0 && p->q_len > 0) {
        size_t run = PROTO_WINDOW - p->q_head;
        ssize_t n = write(p->proc.in, p->stdin_q + p->q_head, run < p->q_len ? run : p->q_len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0) {
            /* Nobody reads it any more. Without credit the host stops sending. */
            drop_fd(&p->proc.in);
            p->q_len = 0;
            return;
        }
        p->q_head = (p->q_head + (size_t)n) % PROTO_WINDOW;
        p->q_len -= (size_t)n;
        p->ack += (uint32_t)n;
    }
    if (p->stdin_end && p->q_len == 0)
        stdin_close(p);
}

static bool stdin_take(struct peer *p, const struct proto_frame *f)
{
    if (f->len == 0)
        p->stdin_end = true;
    if (p->proc.in < 0)
        return true; /* already closed: late bytes have no reader */
    if (f->len > PROTO_WINDOW - p->q_len)
        return false; /* beyond its credit */
    size_t at = (p->q_head + p->q_len) % PROTO_WINDOW, run = PROTO_WINDOW - at;

    if (run > f->len)
        run = f->len;
    memcpy(p->stdin_q + at, f->p, run);
    memcpy(p->stdin_q, f->p + run, f->len - run);
    p->q_len += f->len;
    stdin_flush(p);
    return true;
}

/* Credit is told in large portions: each costs the host a wake-up. */
static void stdin_ack(struct peer *p)
{
    if (p->ack == 0 || (p->ack < PROTO_WINDOW / 4 && p->q_len > 0))
        return;
    if (OUT_LEN - p->out_len < 64)
        return;
    reply_u32(p, PROTO_STDIN_ACK, p->ack);
    p->ack = 0;
}

/* ---- requests */

static void on_hello(struct peer *p, const struct proto_frame *f)
{
    struct proto_buf *b = fields_begin(PROTO_HELLO);
    struct utsname u;

    if (uname(&u) < 0)
        u.release[0] = '\0';
    proto_put_u32(b, PF_VERSION, PROTO_VERSION);
    proto_put_str(b, PF_KERNEL, u.release);
    fields_reply(p, b, PROTO_HELLO);
    if (p->state == PEER_NEW)
        p->state = PEER_IDLE;
}

/* As request.c reads it. */
static int parse_setup(struct peer *p, const struct proto_frame *f, struct setup_req *r,
                       struct err *e)
{
    r->wall_port = !p->a->any_peer;
    return setup_parse(f, r, e);
}

static void on_setup(struct peer *p, const struct proto_frame *f)
{
    struct err e = {0};
    struct setup_req r = {0};
    int rc = p->a->box.pid ? err_set(&e, -EALREADY, "the machine is set up already")
                           : parse_setup(p, f, &r, &e);

    if (rc == 0)
        rc = ident_machine(&r, &e);
    if (rc == 0)
        rc = netconf_apply(&r, false, &e);
    if (rc == 0)
        rc = sandbox_open(&p->a->box, &r, p->a->base, p->a->group, &e);
    setup_done(&r);
    if (rc < 0)
        reply_error(p, rc, e.msg);
    else
        reply(p, PROTO_SETUP_OK, NULL, 0);
}

static void on_identity(struct peer *p, const struct proto_frame *f)
{
    struct err e = {0};
    struct setup_req r = {0};
    int rc = parse_setup(p, f, &r, &e);

    if (rc == 0)
        rc = ident_machine(&r, &e);
    if (rc == 0)
        rc = netconf_apply(&r, true, &e);
    if (rc == 0 && p->a->box.pid)
        rc = ident_renew(&p->a->box, &r, &e);
    setup_done(&r);
    if (rc < 0) {
        reply_error(p, rc, e.msg);
        return;
    }
    reply(p, PROTO_IDENTITY_OK, NULL, 0);
    release(p->a);
}

static void on_hold(struct peer *p)
{
    struct err e = {0};
    int rc = p->a->held ? err_set(&e, -EBUSY, "the container's processes are held already")
                        : group_freeze(p->a->group, &e);

    if (rc < 0) {
        reply_error(p, rc, e.msg);
        return;
    }
    p->a->held = p->holds = true;
    reply(p, PROTO_HOLD_OK, NULL, 0);
}

static void on_usage(struct peer *p)
{
    struct proto_buf *b = fields_begin(PROTO_USAGE_IS);

    usage_put(p->a->group, b);
    fields_reply(p, b, PROTO_USAGE_IS);
}

static void on_limit(struct peer *p, const struct proto_frame *f)
{
    struct err e = {0};
    int rc = usage_limit(p->a->group, f, &e);

    if (rc < 0)
        reply_error(p, rc, e.msg);
    else
        reply(p, PROTO_LIMIT_OK, NULL, 0);
}

static int start(struct peer *p, const struct proto_frame *f, struct err *e)
{
    int rc = start_parse(f, &p->start, e);

    if (rc < 0 || f->type == PROTO_MORE)
        return rc;
    if (!p->a->box.pid || p->a->main_pid < 0)
        return err_set(e, -ESRCH, "there is no container to run in");
    if (!p->stdin_q)
        p->stdin_q = malloc(PROTO_WINDOW);
    if (!p->stdin_q)
        return err_set(e, -ENOMEM, "no memory for the session");
    return spawn(&p->a->box, &p->start, &p->proc, e);
}

static void on_start(struct peer *p, const struct proto_frame *f)
{
    struct err e = {0};
    int rc = start(p, f, &e);

    if (rc == 0 && f->type == PROTO_MORE)
        return;
    if (rc == 0) {
        p->tty = p->start.tty;
        p->detached = p->start.detach;
        p->state = PEER_STARTING;
        if (p->a->main_pid == 0 && !p->start.work && !p->start.beside)
            p->a->main_pid = p->proc.pid;
    } else {
        reply_error(p, rc, e.msg);
    }
    start_done(&p->start);
}

static void on_signal(struct peer *p, const struct proto_frame *f)
{
    struct proto_field_view v = {.p = f->p, .len = f->len};
    uint64_t sig;

    if (p->proc.pid <= 0 || p->reaped || proto_field_u64(&v, &sig) < 0 || sig < 1 || sig > 64)
        return;
    /* What a terminal would send goes to all that would stand in its foreground. */
    bool group = p->tty || sig == SIGINT || sig == SIGQUIT || sig == SIGTSTP || sig == SIGHUP;
    if (!group || kill(-p->proc.pid, (int)sig) < 0)
        kill(p->proc.pid, (int)sig);
}

static void on_winsize(struct peer *p, const struct proto_frame *f)
{
    if (f->len != 4 || !p->tty || p->proc.out < 0)
        return;
    struct winsize ws = {
        .ws_row = (unsigned short)(f->p[0] | f->p[1] << 8),
        .ws_col = (unsigned short)(f->p[2] | f->p[3] << 8),
    };
    (void)ioctl(p->proc.out, TIOCSWINSZ, &ws);
}

/* False: the host breaks the protocol, the session ends. */
static bool on_frame(struct peer *p, const struct proto_frame *f)
{
    if (p->state == PEER_NEW && f->type != PROTO_HELLO)
        return false;
    switch (f->type) {
    case PROTO_HELLO:
        on_hello(p, f);
        return true;
    case PROTO_SETUP:
        on_setup(p, f);
        return true;
    case PROTO_IDENTITY:
        on_identity(p, f);
        return true;
    case PROTO_HOLD:
        on_hold(p);
        return true;
    case PROTO_MORE:
    case PROTO_START:
    case PROTO_WORK:
        if (p->state != PEER_IDLE)
            return false;
        on_start(p, f);
        return true;
    case PROTO_STDIN:
        return stdin_take(p, f);
    case PROTO_STDOUT:
        drop_fd(&p->proc.out);
        return true;
    case PROTO_STDERR:
        drop_fd(&p->proc.err);
        return true;
    case PROTO_WINSIZE:
        on_winsize(p, f);
        return true;
    case PROTO_SIGNAL:
        on_signal(p, f);
        return true;
    case PROTO_POWEROFF:
        p->a->poweroff = true;
        return true;
    case PROTO_USAGE:
        on_usage(p);
        return true;
    case PROTO_LIMIT:
        on_limit(p, f);
        return true;
    default: /* from a later version */
        reply_error(p, ENOSYS, "this agent does not know that request");
        return true;
    }
}

static bool sock_read(struct peer *p)
{
    ssize_t n = recv(p->sock, p->in + p->in_len, IN_LEN - p->in_len, MSG_DONTWAIT);

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR || lose_host(p, errno));
    p->in_len += (size_t)n;

    size_t used = 0;
    struct proto_frame f;
    int k;
    while ((k = proto_next(p->in + used, p->in_len - used, &f)) > 0) {
        if (!on_frame(p, &f))
            return false;
        used += (size_t)k;
    }
    memmove(p->in, p->in + used, p->in_len - used);
    p->in_len -= used;
    return k == 0;
}

/* ---- the process */

static void report_read(struct peer *p)
{
    struct spawn_failure *f = &p->failure;
    ssize_t n = read(p->proc.report, f, sizeof(*f));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop_fd(&p->proc.report);
        p->state = PEER_RUNNING;
        reply_u32(p, PROTO_STARTED, (uint32_t)p->proc.pid);
        return;
    }
    if (n != sizeof(*f))
        *f = (struct spawn_failure){.code = EIO};
    f->text[sizeof(f->text) - 1] = '\0';
    drop_process(p);
    p->state = PEER_FAILED;
    if (p->a->main_pid == p->proc.pid)
        p->a->main_pid = 0; /* another START may follow */
}

/* One read into one frame. */
static void stream_read(struct peer *p, int *fd, enum proto_type type)
{
    if (!room_for_stream(p))
        return;

    size_t room = out_room(p) - OUT_RESERVE - PROTO_HDR;
    if (room > PROTO_FRAME_MAX)
        room = PROTO_FRAME_MAX;
    ssize_t n = read(*fd, p->out + p->out_len + PROTO_HDR, room);
    if (n < 0 && errno == EINTR)
        return;
    if (n < 0 && errno == EAGAIN && !p->drained_late)
        return;
    if (n <= 0) { /* EOF; a terminal without processes says EIO */
        drop_fd(fd);
        reply(p, type, NULL, 0);
        return;
    }
    proto_header(p->out + p->out_len, type, 0, (uint32_t)n);
    p->out_len += PROTO_HDR + (size_t)n;
}

bool peer_reaped(struct peer *p, pid_t pid, int status)
{
    if (p->reaped || p->proc.pid != pid)
        return false;
    /* Nothing more: whether that was the command or an exec that failed is in the report, which may
     * still be unread. */
    p->reaped = true;
    p->status = status;
    return true;
}

/* The command ran and has ended. */
static void over(struct peer *p)
{
    p->over = true;
    p->drain_by = now_ms() + AGENT_DRAIN_MS;
    /* The main process takes the container with it, so its pipes will end. Beside it, whoever a
     * session left behind lives on: what it has written so far is all. */
    if (p->a->main_pid == p->proc.pid) {
        p->a->main_pid = -1;
        sandbox_kill_all(&p->a->box);
        p->main = true;
    } else {
        p->drained_late = true;
    }
}

static void settle(struct peer *p)
{
    if (p->state == PEER_RUNNING && p->reaped && !p->over)
        over(p);
    if (p->over && now_ms() >= p->drain_by)
        p->drained_late = true;
    if (p->state == PEER_FAILED && p->reaped) {
        p->state = PEER_IDLE;
        p->reaped = p->drained_late = false;
        p->proc.pid = 0;
        reply_error(p, p->failure.code, p->failure.text);
    }
    if (p->state == PEER_RUNNING && p->over && p->proc.out < 0 && p->proc.err < 0) {
        drop_process(p);
        /* Whoever hears of the end may take the machine away at once. */
        if (p->main && p->a->box.disks)
            sync();
        reply_u32(p, PROTO_EXIT, (uint32_t)p->status);
        p->state = PEER_OVER;
    }
}

/* ---- poll */

unsigned peer_polls(struct peer *p, struct pollfd *v, int *timeout_ms)
{
    /* A host that does not read its answers is not listened to either. */
    bool listen = out_room(p) >= OUT_RESERVE / 2;
    bool streams = p->state == PEER_RUNNING && room_for_stream(p);

    v[0] = (struct pollfd){.fd = p->sock, .events = (short)(listen ? POLLIN : 0)};
    if (p->out_len > p->out_off)
        v[0].events |= POLLOUT;
    v[1] = (struct pollfd){.fd = p->proc.report, .events = POLLIN};
    v[2] = (struct pollfd){.fd = p->q_len ? p->proc.in : -1, .events = POLLOUT};
    v[3] = (struct pollfd){.fd = streams ? p->proc.out : -1, .events = POLLIN};
    v[4] = (struct pollfd){.fd = streams ? p->proc.err : -1, .events = POLLIN};
    if (p->over && p->state == PEER_RUNNING && (!p->drained_late || streams)) {
        uint64_t now = now_ms(), left = p->drain_by > now ? p->drain_by - now : 0;

        if (p->drained_late) /* what is there is read without waiting for more */
            left = 0;
        if (*timeout_ms < 0 || left < (uint64_t)*timeout_ms)
            *timeout_ms = (int)left;
    }
    return AGENT_PEER_POLLS;
}

bool peer_handle(struct peer *p, const struct pollfd *v)
{
    if ((v[0].revents & (POLLERR | POLLNVAL)) && !sock_error(p))
        return false;
    if (p->sock >= 0 && (v[0].revents & (POLLIN | POLLHUP)) && !sock_read(p))
        return false;
    if (p->proc.report >= 0 && v[1].fd == p->proc.report && v[1].revents)
        report_read(p);
    if (v[2].revents)
        stdin_flush(p);
    if (p->stdin_end && p->q_len == 0 && p->proc.in >= 0)
        stdin_close(p);
    if (p->proc.out >= 0 && v[3].fd == p->proc.out && (v[3].revents || p->drained_late))
        stream_read(p, &p->proc.out, PROTO_STDOUT);
    if (!room_for_stream(p) && !out_flush(p))
        return false;
    if (p->proc.err >= 0 && v[4].fd == p->proc.err && (v[4].revents || p->drained_late))
        stream_read(p, &p->proc.err, PROTO_STDERR);
    settle(p);
    stdin_ack(p);
    if (!out_flush(p))
        return false;
    /* Room may be at the end only: give what was sent back. */
    if (p->out_off > 0)
        out_pack(p);
    return true;
}
