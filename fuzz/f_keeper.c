/* A client of a keeper: requests and frames, of anybody who may open its socket. */
#include <assert.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/keeperpriv.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

enum { SOCKET_MAX = 100 * 1024, ROUNDS = 64 };

static size_t t_input(struct task *t, const void *bytes, size_t len)
{
    (void)t;
    (void)bytes;
    assert(len > 0);
    return len / 2;
}

static void t_nothing(struct task *t)
{
    (void)t;
}

static void t_hold(struct task *t, bool yes)
{
    (void)t;
    (void)yes;
}

static void t_resize(struct task *t, uint16_t rows, uint16_t cols)
{
    (void)t;
    (void)rows;
    (void)cols;
}

static int t_kill(struct task *t, int sig, struct err *e)
{
    (void)t;
    (void)e;
    assert(sig >= 0 && sig < 256);
    return 0;
}

static int t_pause(struct task *t, bool yes, struct err *e)
{
    (void)t;
    (void)yes;
    (void)e;
    return 0;
}

static int t_update(struct task *t, const struct task_limits *l, struct err *e)
{
    (void)t;
    (void)l;
    return err_set(e, -1, "no");
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const struct task_ops ops = {.input = t_input,
                                        .input_end = t_nothing,
                                        .hold = t_hold,
                                        .resize = t_resize,
                                        .kill = t_kill,
                                        .pause = t_pause,
                                        .update = t_update};
    struct task task = {&ops};
    struct record rec = {.dir = -1, .lock = -1, .state = {.status = RECORD_RUNNING}};
    CLEANUP(mem) struct keeper *k = calloc(1, sizeof(*k));
    char answer[4096];
    int v[2];

    signal(SIGPIPE, SIG_IGN);
    if (!k || n > SOCKET_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v) < 0)
        return 0;
    spec_init(&rec.spec);
    *k = (struct keeper){.rec = &rec,
                         .ops = &ops,
                         .task = &task,
                         .store = (char *)"/nonexistent",
                         .dir = RUNDIR_NONE,
                         .listen_fd = -1,
                         .signal_fd = -1,
                         .kill_at = UINT64_MAX,
                         .lose_at = UINT64_MAX};
    k->loop = loop_new(NULL, NULL);
    assert(k->loop && peer_new(k, v[0]));
    if (n > 0)
        (void)!write(v[1], p, n);
    for (unsigned i = 0; i < ROUNDS && peers_any(k, false); i++) {
        peers_output(k, TASK_STDOUT, "output", 6);
        loop_once(k->loop, 0);
        while (recv(v[1], answer, sizeof(answer), MSG_DONTWAIT) > 0) {
        }
        peers_sweep(k);
        if (i == ROUNDS / 2)
            shutdown(v[1], SHUT_WR);
    }
    peers_end(k, 0, NULL);
    peers_answer(k, PEER_END, 0);
    peers_free(k);
    assert(k->n_peers == 0 && k->n_full == 0 && k->unacked == 0);
    loop_free(k->loop);
    close(v[1]);
    return 0;
}
