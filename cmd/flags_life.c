/* Flags that say how a container begins anew, is watched, ends and is logged. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "cmd/verb.h"
#include "container/spec.h"

static int set_timeout(void *ms, const char *value, struct err *e)
{
    uint64_t ns;
    int r = parse_duration(value, &ns, e);

    if (r < 0)
        return r;
    if (ns < 1000000 || ns / 1000000 > INT32_MAX)
        return err_set(e, -ERANGE, "'%s' is out of range: 1 ms to %d s", value, INT32_MAX / 1000);
    *(int64_t *)ms = (int64_t)(ns / 1000000);
    return 0;
}

/* Replaces the image's. */
static int health_words(struct strv *cmd, const char *kind, const char *line, struct err *e)
{
    strv_done(cmd);
    int r = strv_add(cmd, kind);
    if (r == 0 && line)
        r = strv_add(cmd, line);
    return r < 0 ? err_errno(e, r, "%s", kind) : 0;
}

static int set_health_cmd(void *strv, const char *value, struct err *e)
{
    if (!value[0])
        return err_set(e, -EINVAL, "an empty command checks nothing; see --no-healthcheck");
    return health_words(strv, "CMD-SHELL", value, e);
}

static int set_no_health(void *strv, const char *value, struct err *e)
{
    return strcmp(value, "true") == 0 ? health_words(strv, "NONE", NULL, e) : 0;
}

static int set_log_driver(void *text, const char *value, struct err *e)
{
    /* docker's names of the file on this host are taken for it. */
    bool file = strcmp(value, "file") == 0 || strcmp(value, "json-file") == 0 ||
                strcmp(value, "local") == 0 || strcmp(value, "k8s-file") == 0;

    if (!file && strcmp(value, "none") != 0)
        return err_set(e, -EINVAL, "there is no log driver '%s': file, none", value);
    return flags_copy(text, file ? "file" : "none", e);
}

static int set_log_opt(void *spec, const char *value, struct err *e)
{
    struct spec *s = spec;
    uint64_t n;

    if (strncmp(value, "max-size=", 9) == 0)
        return flags_size(&s->log_max_size, value + 9, e);
    if (strncmp(value, "max-file=", 9) == 0) {
        int r = parse_uint("max-file", value + 9, 1, 1000, &n, e);
        if (r == 0)
            s->log_max_file = (int64_t)n;
        return r;
    }
    return err_set(e, -EINVAL, "'%s' is neither max-size=SIZE nor max-file=N", value);
}

#define S struct spec
enum { MS = 1000000, DAY_S = 86400 };
static const struct flag life_flags[] = {
    {"restart", 0, "POLICY",
     "start again when it ended: no, on-failure[:N], always, unless-stopped",
     FLAG_SET(flags_restart), .values = "no on-failure always unless-stopped"},
    {"stop-signal", 0, "SIGNAL", "what kiln stop sends (default SIGTERM)",
     FLAG_AT(S, stop_signal, flags_signal), .values = "@signal"},
    {"stop-timeout", 0, "S", "seconds until kiln stop kills (default 10)",
     FLAG_INT(S, stop_timeout_s, -1, DAY_S * 365)},
    {"timeout", 0, "TIME", "end it after this long, such as 30 or 5m",
     FLAG_AT(S, timeout_ms, set_timeout)},
    {"health-cmd", 0, "COMMAND", "command whose status tells its health",
     FLAG_AT(S, health.cmd, set_health_cmd)},
    {"health-interval", 0, "TIME", "between two checks (default 30s)",
     FLAG_DURATION(S, health.interval_ns), .min = MS},
    {"health-timeout", 0, "TIME", "what a check may take (default 30s)",
     FLAG_DURATION(S, health.timeout_ns), .min = MS},
    {"health-start-period", 0, "TIME", "time to start in which failures do not count (default 0)",
     FLAG_DURATION(S, health.start_period_ns)},
    {"health-retries", 0, "N", "failures in a row that make it unhealthy (default 3)",
     FLAG_INT(S, health.retries, 0, 1000000)},
    {"no-healthcheck", 0, NULL, "leave out the image's health command",
     FLAG_AT(S, health.cmd, set_no_health)},
    {"log-driver", 0, "NAME", "file (default) or none", FLAG_AT(S, log_driver, set_log_driver),
     .values = "file none"},
    {"log-opt", 0, "K=V", "max-size=SIZE of one log file, max-file=N of them",
     FLAG_SET(set_log_opt), .values = "max-size= max-file="},
    {"detach-keys", 0, "KEYS", "what leaves a terminal (default ctrl-p,ctrl-q)",
     FLAG_AT(S, detach_keys, flags_keys)},
    {0},
};
const struct flag_group flags_life = {"Life", life_flags};
