#include "container/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/strv.h"
#include "container/exec_priv.h"
#include "container/keeper.h"
#include "container/vmconf.h"

struct before { /* a container's sample before */
    char id[RECORD_ID_LEN + 1];
    int64_t at_ns;
    struct task_stats was;
};

struct stats {
    char *root;
    bool all;
    struct strv ids; /* those asked for; none = all */
    struct stats_row *rows;
    struct before *before;
    size_t n_rows, n_before;
};

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int stats_open(const char *root, const char *const *names, bool all, struct stats **ret,
               struct err *e)
{
    struct stats *s = calloc(1, sizeof(*s));
    struct record r;
    int rc = 0;

    if (!s || (root && !(s->root = strdup(root)))) {
        free(s);
        return err_errno(e, -ENOMEM, "stats");
    }
    s->all = all;
    for (size_t i = 0; rc == 0 && names && names[i]; i++) {
        rc = record_find(root, names[i], RECORD_LOOK, &r, e);
        if (rc == 0) {
            rc = strv_add(&s->ids, r.id);
            record_done(&r);
        }
    }
    if (rc < 0) {
        stats_close(s);
        return rc;
    }
    *ret = s;
    return 0;
}

void stats_close(struct stats *s)
{
    if (!s)
        return;
    strv_done(&s->ids);
    free(s->rows);
    free(s->before);
    free(s->root);
    free(s);
}

/* ---- one container */

/* CPU time of the machine's process: what the host spends for it. */
static uint64_t host_cpu_ns(pid_t pid)
{
    char path[40], text[1024];
    unsigned long long utime = 0, stime = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    const char *p = strrchr(text, ')');
    if (!p || sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &utime,
                     &stime) != 2)
        return 0;
    return (utime + stime) * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK));
}

/* A machine: the host's word for the CPU, the guest's for the rest. One that is paused says
 * nothing. */
static int ask_vm(const struct record *r, struct task_stats *t)
{
    static const struct session_watch none = {.machine_fd = -1, .signal_fd = -1};
    struct session_usage u = {0};
    struct session *s = NULL;
    struct err e;

    *t = (struct task_stats){.cpu_ns = host_cpu_ns(r->state.pid)};
    t->memory_limit = r->spec.memory > 0 ? (uint64_t)r->spec.memory : VMCONF_RAM_DEFAULT;
    if (r->state.status != RECORD_RUNNING)
        return 0;
    int rc = exec_vm_call(r, &none, &s, &e);
    if (rc == 0)
        rc = session_usage(s, STATS_ANSWER_MS, &u, &e);
    session_close(s);
    if (rc < 0)
        return rc;
    t->memory = u.memory;
    t->net_rx = u.net_rx;
    t->net_tx = u.net_tx;
    t->disk_read = u.disk_read;
    t->disk_write = u.disk_write;
    t->pids = u.pids;
    return 0;
}

static int ask_keeper(const struct record *r, struct task_stats *t)
{
    json_t *req = json_pack("{s:s}", "op", "stats"), *out = NULL;
    struct err e;
    int rc = keeper_ask(r, req, STATS_ANSWER_MS, &out, &e);
    const struct {
        const char *name;
        uint64_t *to;
    } member[] = {{"cpu_ns", &t->cpu_ns},
                  {"memory", &t->memory},
                  {"memory_limit", &t->memory_limit},
                  {"memory_peak", &t->memory_peak},
                  {"net_rx", &t->net_rx},
                  {"net_tx", &t->net_tx},
                  {"disk_read", &t->disk_read},
                  {"disk_write", &t->disk_write},
                  {"pids", &t->pids}};

    *t = (struct task_stats){0};
    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(member); i++)
        *member[i].to = (uint64_t)json_integer_value(json_object_get(out, member[i].name));
    json_decref(out);
    json_decref(req);
    return rc;
}

static const struct before *find_before(const struct stats *s, const char *id)
{
    for (size_t i = 0; i < s->n_before; i++)
        if (strcmp(s->before[i].id, id) == 0)
            return &s->before[i];
    return NULL;
}

static double rate(uint64_t now, uint64_t was, double seconds)
{
    return now > was ? (double)(now - was) / seconds : 0;
}

static void fill(struct stats *s, const struct record *r, struct stats_row *row)
{
    const struct before *b = find_before(s, r->id);
    static const struct task_stats nothing;
    bool runs = r->state.status == RECORD_RUNNING || r->state.status == RECORD_PAUSED;

    *row = (struct stats_row){.isolation = r->spec.isolation,
                              .status = r->state.status,
                              .started_ns = r->state.started_ns};
    memcpy(row->id, r->id, sizeof(row->id));
    memcpy(row->name, r->name, sizeof(row->name));
    snprintf(row->image, sizeof(row->image), "%s", r->spec.image ? r->spec.image : "");
    if (!runs)
        return;
    row->valid =
        (r->spec.isolation == SPEC_VM ? ask_vm(r, &row->now) : ask_keeper(r, &row->now)) == 0;
    if (!row->valid)
        return;
    const struct task_stats *was = b ? &b->was : &nothing;
    double seconds = (double)(now_ns() - (b ? b->at_ns : r->state.started_ns)) / 1e9;
    if (seconds < 1e-3)
        seconds = 1e-3;
    row->cpu_percent = rate(row->now.cpu_ns, was->cpu_ns, seconds) / 1e7;
    row->memory_percent =
        row->now.memory_limit ? 100.0 * (double)row->now.memory / (double)row->now.memory_limit : 0;
    row->net_rx_rate = rate(row->now.net_rx, was->net_rx, seconds);
    row->net_tx_rate = rate(row->now.net_tx, was->net_tx, seconds);
    row->disk_read_rate = rate(row->now.disk_read, was->disk_read, seconds);
    row->disk_write_rate = rate(row->now.disk_write, was->disk_write, seconds);
}

/* ---- a sample */

static bool is_wanted(const struct stats *s, const struct record *r)
{
    for (size_t i = 0; i < s->ids.n; i++)
        if (strcmp(s->ids.v[i], r->id) == 0)
            return true;
    return s->ids.n == 0 &&
           (s->all || r->state.status == RECORD_RUNNING || r->state.status == RECORD_PAUSED);
}

/* As they were asked for. */
static void order(const struct stats *s, struct stats_row *rows, size_t n)
{
    size_t at = 0;

    for (size_t i = 0; i < s->ids.n; i++)
        for (size_t k = at; k < n; k++)
            if (strcmp(rows[k].id, s->ids.v[i]) == 0) {
                struct stats_row row = rows[k];

                memmove(&rows[at + 1], &rows[at], (k - at) * sizeof(row));
                rows[at++] = row;
                break;
            }
}

static void remember(struct stats *s)
{
    struct before *b = calloc(s->n_rows ? s->n_rows : 1, sizeof(*b));
    int64_t at = now_ns();

    if (!b)
        return; /* the rates are then since an earlier sample */
    for (size_t i = 0; i < s->n_rows; i++) {
        memcpy(b[i].id, s->rows[i].id, sizeof(b[i].id));
        b[i].at_ns = at;
        b[i].was = s->rows[i].now;
    }
    free(s->before);
    s->before = b;
    s->n_before = s->n_rows;
}

int stats_take(struct stats *s, const struct stats_row **rows, size_t *n, struct err *e)
{
    struct record *list;
    size_t n_list;
    int r = record_list(s->root, &list, &n_list, NULL, e);

    if (r < 0)
        return r;
    free(s->rows);
    s->n_rows = 0;
    s->rows = calloc(n_list ? n_list : 1, sizeof(*s->rows));
    for (size_t i = 0; i < n_list; i++) {
        if (s->rows && is_wanted(s, &list[i]))
            fill(s, &list[i], &s->rows[s->n_rows++]);
        record_done(&list[i]);
    }
    free(list);
    if (!s->rows)
        return err_errno(e, -ENOMEM, "stats");
    order(s, s->rows, s->n_rows);
    remember(s);
    *rows = s->rows;
    *n = s->n_rows;
    return 0;
}
