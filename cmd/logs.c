/* kiln logs: what a container wrote. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/flag.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "cmd/when.h"
#include "container/ctrlog.h"
#include "container/keeper.h"

struct logs_args {
    bool follow, timestamps;
    int64_t since_ns, until_ns, tail;
};

static int set_when(void *ns, const char *value, struct err *e)
{
    return when_parse(value, human_now_ns(), ns, e);
}

static int set_tail(void *tail, const char *value, struct err *e)
{
    char *end = NULL;
    long long n = strtoll(value, &end, 10);

    if (strcmp(value, "all") == 0 || (end != value && !*end && n < 0))
        *(int64_t *)tail = -1;
    else if (end == value || *end)
        return err_set(e, -EINVAL, "'%s' is neither a number nor all", value);
    else
        *(int64_t *)tail = n;
    return 0;
}

#define A struct logs_args
static const struct flag flags[] = {
    {"follow", 'f', NULL, "go on with what it writes, until it ends", FLAG_BOOL(A, follow)},
    {"since", 0, "TIME", "from this moment on: 2026-11-21T17:40:11Z, 1732210811, or 10m ago",
     FLAG_AT(A, since_ns, set_when)},
    {"until", 0, "TIME", "up to this moment", FLAG_AT(A, until_ns, set_when)},
    {"tail", 'n', "LINES", "the last ones only (default all)", FLAG_AT(A, tail, set_tail)},
    {"timestamps", 't', NULL, "with the time of each line", FLAG_BOOL(A, timestamps)},
    {0},
};
static const struct flag_group group = {NULL, flags};

static int cmd_logs(int argc, char **argv);

const struct command command_logs = {
    .name = "logs",
    .operands = "CONTAINER",
    .summary = "show what a container wrote",
    .about = "Shows what a container wrote to its standard output and standard error, each where "
             "it belongs.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = 1,
    .values = "@container",
    .run = cmd_logs,
};

static int64_t ms_until(int64_t ns)
{
    int64_t left = (ns - human_now_ns()) / 1000000 + 1;

    return left < 0 ? 0 : left;
}

/* Until the container has ended, and all it wrote is shown. */
static int follow(const struct logs_args *a, const struct record *r, struct ctrlog_reader *log,
                  const int out[2], struct err *e)
{
    CLEANUP(fd) int keeper = keeper_watch_fd(r, NULL);
    int rc = ctrlog_copy(log, out, e);

    while (rc == 0 && keeper >= 0) {
        struct pollfd p[] = {{.fd = ctrlog_read_fd(log), .events = POLLIN},
                             {.fd = keeper, .events = POLLIN},
                             {.fd = out[0], .events = 0}}; /* its reader goes: POLLERR */
        int64_t left = a->until_ns ? ms_until(a->until_ns) : -1;

        if (poll(p, ARRAY_LEN(p), left > INT32_MAX ? INT32_MAX : (int)left) < 0 && errno != EINTR)
            return err_errno(e, -errno, "poll");
        if (p[2].revents & (POLLERR | POLLHUP))
            return 0;
        bool over = p[1].revents != 0 || (a->until_ns && ms_until(a->until_ns) == 0);
        rc = ctrlog_copy(log, out, e);
        if (over)
            break;
    }
    return rc < 0 ? rc : 0;
}

static int show(const struct logs_args *a, const struct record *r, struct err *e)
{
    struct ctrlog_options o = {.since_ns = a->since_ns,
                               .until_ns = a->until_ns,
                               .tail = a->tail,
                               .timestamps = a->timestamps};
    const int out[2] = {1, 2};
    struct ctrlog_reader *log = NULL;

    if (r->spec.log_driver && strcmp(r->spec.log_driver, "none") == 0)
        return err_set(e, -EOPNOTSUPP, "container %s was told to keep no log", r->name);
    int rc = ctrlog_read_open(r->dir, &o, &log, e);
    if (rc == 0)
        rc = a->follow ? follow(a, r, log, out, e) : ctrlog_copy(log, out, e);
    ctrlog_read_close(log);
    return rc == -EPIPE ? 0 : rc; /* nobody reads it: no failure of ours */
}

static int cmd_logs(int argc, char **argv)
{
    struct logs_args a = {.tail = -1};
    struct err e = {0};
    struct record r;
    int at = flag_parse(&command_logs, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&command_logs, at, &e);
    int rc = record_find(NULL, argv[at], RECORD_LOOK, &r, &e);
    if (rc == 0)
        rc = show(&a, &r, &e);
    record_done(&r);
    return rc < 0 ? say_err(&e, 1) : 0;
}
