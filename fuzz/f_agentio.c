/* The guest as a keeper sees it: bytes from a hostile agent, in portions, among requests of ours.
 */
#include <assert.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "container/agentio.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { SOCKET_MAX = 100 * 1024, ROUNDS = 64 };

struct seen {
    struct agentio *io;
    unsigned over, outputs;
};

static void on_output(void *ctx, enum task_stream stream, const void *bytes, size_t len)
{
    struct seen *s = ctx;

    (void)bytes;
    assert(len > 0 && (stream == TASK_STDOUT || stream == TASK_STDERR) && !s->over);
    if (++s->outputs % 4 == 0)
        agentio_hold(s->io, true);
}

static void on_input_ready(void *ctx)
{
    struct seen *s = ctx;

    (void)agentio_input(s->io, "more", 4);
}

static void on_exited(void *ctx, int status)
{
    struct seen *s = ctx;

    assert((status & ~0xffff) == 0 && !s->over);
    s->over = 1;
}

static void on_broken(void *ctx, const struct err *e)
{
    struct seen *s = ctx;

    assert(e->code < 0 && e->msg[0] && !s->over);
    s->over = 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    const struct session_watch w = {.machine_fd = -1, .signal_fd = -1};
    struct seen seen = {.io = NULL};
    struct agentio_events ev = {on_output, on_input_ready, on_exited, on_broken, &seen};
    struct session *s = NULL;
    int v[2];

    signal(SIGPIPE, SIG_IGN);
    if (n > SOCKET_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v) < 0)
        return 0;
    struct loop *loop = loop_new(NULL, NULL);
    assert(loop && session_join(v[0], &w, &s, NULL) == 0);
    assert(agentio_new(s, loop, &ev, &seen.io, NULL) == 0);
    (void)agentio_input(seen.io, "input", 5);
    for (size_t at = 0, part = n / 3 + 1; at < n; at += part)
        if (write(v[1], p + at, n - at < part ? n - at : part) > 0)
            loop_once(loop, 0);
    shutdown(v[1], SHUT_WR);
    for (unsigned i = 0; i < ROUNDS && !seen.over; i++) {
        agentio_hold(seen.io, false);
        loop_once(loop, 0);
    }
    if (!seen.over)
        agentio_last_words(seen.io);
    agentio_free(seen.io);
    loop_free(loop);
    close(v[1]);
    return 0;
}
