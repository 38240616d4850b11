/* Requests to a keeper: see container/keeper.h. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/cleanup.h"
#include "container/keeperpriv.h"
#include "container/signame.h"

enum { STOP_TIMEOUT_S = 10 };

struct request {
    struct peer *p;
    const json_t *req;
    json_t *out; /* what an answer says besides; taken by peer_answer() */
    bool later;  /* it is answered some other time */
};

static int64_t number(const json_t *req, const char *key, int64_t none)
{
    const json_t *v = json_object_get(req, key);

    return json_is_integer(v) ? json_integer_value(v) : none;
}

static int need_task(struct keeper *k, struct err *e)
{
    return k->task ? 0 : err_set(e, -ESRCH, "container %s is not running", k->rec->name);
}

static int signal_of(const json_t *req, int none, int *sig, struct err *e)
{
    int64_t n = number(req, "signal", none);

    if (n < 1 || n > SIGRTMAX)
        return err_set(e, -EINVAL, "%lld is no signal", (long long)n);
    *sig = (int)n;
    return 0;
}

static int own_stop_signal(const struct keeper *k, int *sig, struct err *e)
{
    const char *name = k->rec->spec.stop_signal;

    *sig = SIGTERM;
    return name ? signame_parse(name, sig, e) : 0;
}

static int do_kill(struct keeper *k, struct request *q, struct err *e)
{
    int sig = 0, own = 0, r = signal_of(q->req, SIGKILL, &sig, e);

    if (r == 0)
        r = need_task(k, e);
    if (r == 0)
        r = own_stop_signal(k, &own, e);
    if (r < 0)
        return r;
    const char *more[] = {"signal", signame_of(sig), NULL};
    keeper_note(k, "kill", more);
    if (sig == SIGKILL) {
        keeper_stop(k, sig, -1);
        peer_wait(q->p, PEER_END);
        q->later = true;
    } else if (sig == own) { /* meant as a stop: its end is no failure that it is restarted for */
        keeper_stop(k, sig, -1);
    } else {
        keeper_signal(k, sig);
        if (k->rec->state.status == RECORD_PAUSED)
            r = keeper_pause(k, false, e);
    }
    return r;
}

static int stop(struct keeper *k, struct request *q, struct err *e)
{
    const struct spec *s = &k->rec->spec;
    int own = 0, sig = 0;
    int64_t timeout_s = s->stop_timeout_s == SPEC_UNSET ? STOP_TIMEOUT_S : s->stop_timeout_s;
    int r = own_stop_signal(k, &own, e);

    if (r == 0)
        r = signal_of(q->req, own, &sig, e);
    if (r < 0)
        return r;
    timeout_s = number(q->req, "timeout_s", timeout_s);
    if (timeout_s > INT32_MAX)
        timeout_s = INT32_MAX;
    q->later = true;
    keeper_stop(k, sig, timeout_s < 0 ? -1 : timeout_s * 1000);
    return 0;
}

static int do_stop(struct keeper *k, struct request *q, struct err *e)
{
    int r = stop(k, q, e);

    if (r == 0) {
        k->again = false;
        peer_wait(q->p, PEER_END);
    }
    return r;
}

static int do_restart(struct keeper *k, struct request *q, struct err *e)
{
    if (k->stopping && !k->again)
        return err_set(e, -EBUSY, "container %s is being stopped", k->rec->name);
    int r = stop(k, q, e);
    if (r == 0) {
        k->again = true;
        peer_wait(q->p, PEER_RESTART);
    }
    return r;
}

static int do_wait(struct keeper *k, struct request *q, struct err *e)
{
    peer_wait(q->p, PEER_END);
    q->later = true;
    return 0;
}

static int do_pause(struct keeper *k, struct request *q, struct err *e)
{
    int r = need_task(k, e);

    if (r == 0 && k->rec->state.status == RECORD_PAUSED)
        r = err_set(e, -EALREADY, "container %s is already paused", k->rec->name);
    return r < 0 ? r : keeper_pause(k, true, e);
}

static int do_resume(struct keeper *k, struct request *q, struct err *e)
{
    if (!k->task || k->rec->state.status != RECORD_PAUSED)
        return err_set(e, -EINVAL, "container %s is not paused", k->rec->name);
    return keeper_pause(k, false, e);
}

static int do_resize(struct keeper *k, struct request *q, struct err *e)
{
    int64_t rows = number(q->req, "rows", 0), cols = number(q->req, "cols", 0);
    int r = need_task(k, e);

    if (r == 0 && (rows < 1 || rows > UINT16_MAX || cols < 1 || cols > UINT16_MAX))
        r = err_set(e, -EINVAL, "no terminal is that large");
    if (r == 0)
        k->ops->resize(k->task, (uint16_t)rows, (uint16_t)cols);
    return r;
}

static int do_update(struct keeper *k, struct request *q, struct err *e)
{
    struct task_limits l = {
        .memory = number(q->req, "memory", SPEC_UNSET),
        .memory_swap = number(q->req, "memory_swap", SPEC_UNSET),
        .nano_cpus = number(q->req, "nano_cpus", SPEC_UNSET),
        .cpu_shares = number(q->req, "cpu_shares", SPEC_UNSET),
        .pids_limit = number(q->req, "pids_limit", SPEC_UNSET),
    };
    int r = need_task(k, e);

    if (r == 0 && !k->ops->update)
        r = err_set(e, -EOPNOTSUPP, "the limits of such a container cannot be changed");
    return r < 0 ? r : k->ops->update(k->task, &l, e);
}

static int do_stats(struct keeper *k, struct request *q, struct err *e)
{
    struct task_stats s = {0};
    int r = need_task(k, e);

    if (r == 0 && k->ops->stats)
        r = k->ops->stats(k->task, &s, e);
    if (r < 0)
        return r;
    const struct {
        const char *name;
        uint64_t v;
    } all[] = {
        {"cpu_ns", s.cpu_ns},
        {"memory", s.memory},
        {"memory_limit", s.memory_limit},
        {"memory_peak", s.memory_peak},
        {"net_rx", s.net_rx},
        {"net_tx", s.net_tx},
        {"disk_read", s.disk_read},
        {"disk_write", s.disk_write},
        {"pids", s.pids},
        {"pid", (uint64_t)k->rec->state.pid},
    };
    q->out = json_object();
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        json_object_set_new(q->out, all[i].name, json_integer((json_int_t)all[i].v));
    const char *engine = k->ops->engine ? k->ops->engine(k->task) : NULL;
    if (engine)
        json_object_set_new(q->out, "engine", json_string(engine));
    return 0;
}

static int do_renamed(struct keeper *k, struct request *q, struct err *e)
{
    struct record_state now = k->rec->state; /* ours is the newer one */
    int r = record_refresh(k->rec, e);

    k->rec->state = now;
    if (r == 0)
        rundir_rename(&k->dir, k->rec->name);
    return r;
}

static int do_attach(struct keeper *k, struct request *q, struct err *e)
{
    q->later = true;
    if (need_task(k, e) < 0) {
        peer_error(k, q->p, e);
        return 0;
    }
    peer_attach(k, q->p, json_is_true(json_object_get(q->req, "stdin")), false);
    keeper_note(k, "attach", NULL);
    return 0;
}

static const struct {
    const char *name;
    int (*run)(struct keeper *k, struct request *q, struct err *e);
} operations[] = {
    {"attach", do_attach}, {"kill", do_kill},     {"pause", do_pause},     {"renamed", do_renamed},
    {"resize", do_resize}, {"resume", do_resume}, {"restart", do_restart}, {"stats", do_stats},
    {"stop", do_stop},     {"update", do_update}, {"wait", do_wait},
};

void request_serve(struct keeper *k, struct peer *p, const char *line)
{
    json_t *req = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
    const char *op = json_string_value(json_object_get(req, "op"));
    struct request q = {.p = p, .req = req};
    struct err e = {0};
    int r = err_set(&e, -EINVAL, "not a request");

    for (size_t i = 0; op && i < ARRAY_LEN(operations); i++)
        if (strcmp(operations[i].name, op) == 0)
            r = operations[i].run(k, &q, &e);
    json_decref(req);
    if (r < 0 || !q.later)
        peer_answer(k, p, r, e.msg, q.out);
}
