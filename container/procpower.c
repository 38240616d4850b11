/* What a process-class container may do and use: capabilities, filter, devices, hidden paths,
 * limits. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/procpriv.h"
#include "os/jsonfile.h"
#include "process/defaults.h"

enum {
    PROFILE_MAX = 1 << 20, /* bytes of a seccomp profile */
    PATHS_MAX = PROCESS_PATHS_MAX,
    NANO_US = 1000,
};

/* ---- capabilities */

/* Names, or ALL. */
static int cap_set(const struct strv *names, uint64_t *set, struct err *e)
{
    *set = 0;
    for (size_t i = 0; i < names->n; i++) {
        if (strcasecmp(names->v[i], "ALL") == 0 || strcasecmp(names->v[i], "CAP_ALL") == 0) {
            *set = DEFAULTS_CAPS_ALL;
            continue;
        }
        int n = defaults_cap_number(names->v[i]);
        if (n < 0)
            return err_set(e, -EINVAL, "unknown capability \"%s\"", names->v[i]);
        *set |= DEFAULTS_CAP(n);
    }
    return 0;
}

static bool has_all(const struct strv *names)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcasecmp(names->v[i], "ALL") == 0 || strcasecmp(names->v[i], "CAP_ALL") == 0)
            return true;
    return false;
}

/* docker's order: with --cap-drop=ALL what is added stays, with --cap-add=ALL what is dropped goes.
 */
static int caps_of(const struct spec *s, bool privileged, uint64_t *caps, struct err *e)
{
    uint64_t add, drop;
    int r = cap_set(&s->cap_add, &add, e);

    if (r == 0)
        r = cap_set(&s->cap_drop, &drop, e);
    if (r < 0)
        return r;
    if (privileged)
        *caps = DEFAULTS_CAPS_ALL;
    else if (has_all(&s->cap_drop))
        *caps = add;
    else
        *caps = (DEFAULTS_CAPS | add) & ~drop;
    return 0;
}

/* ---- --security-opt */

/* The value of "KEY=VALUE" or "KEY:VALUE"; "" for the key alone; NULL: another word. */
static const char *value_of(const char *word, const char *key)
{
    size_t n = strlen(key);

    if (strncmp(word, key, n) != 0)
        return NULL;
    return word[n] == '=' || word[n] == ':' ? word + n + 1 : word[n] == '\0' ? word + n : NULL;
}

static int profile_file(const char *path, uint64_t caps, struct filter *out, struct err *e)
{
    json_error_t je;
    struct stat st;
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &st) < 0)
        return err_errno(e, -errno, "opening seccomp profile (%s) failed", path);
    if (st.st_size > PROFILE_MAX)
        return err_set(e, -E2BIG, "seccomp profile %s: more than %d bytes", path, PROFILE_MAX);
    json_t *j = jsonfile_load(fd, JSON_REJECT_DUPLICATES, &je);
    if (!j)
        return err_set(e, -EINVAL, "decoding seccomp profile %s failed: line %d: %s", path, je.line,
                       je.text);
    int r = filter_profile(j, caps, out, e);
    json_decref(j);
    return r < 0 ? err_wrap(e, r, "seccomp profile %s", path) : 0;
}

static int set_security(const struct spec *s, bool privileged, uint64_t caps, struct procconf *p,
                        struct err *e)
{
    const char *profile = privileged ? "unconfined" : NULL;
    int r = 0;

    for (size_t i = 0; i < s->security_opt.n; i++) {
        const char *word = s->security_opt.v[i], *v;

        if ((v = value_of(word, "no-new-privileges")))
            p->conf.process.no_new_privileges = strcmp(v, "false") != 0;
        else if ((v = value_of(word, "seccomp")))
            profile = v;
    }
    if (!profile)
        r = filter_default(caps, &p->filter, e);
    else if (strcmp(profile, "unconfined") != 0)
        r = profile_file(profile, caps, &p->filter, e);
    if (r == 0 && p->filter.f.n)
        p->conf.process.filter = &p->filter.f;
    return r;
}

/* ---- hidden paths */

static bool listed(const char *list, const char *path)
{
    size_t n = strlen(path);

    for (const char *at = list; (at = strstr(at, path)); at++)
        if ((at == list || at[-1] == ':') && (at[n] == ':' || at[n] == '\0'))
            return true;
    return false;
}

static bool unmasked(const struct spec *s, const char *path)
{
    for (size_t i = 0; i < s->security_opt.n; i++) {
        const char *v = value_of(s->security_opt.v[i], "unmask");

        if (v && (strcmp(v, "ALL") == 0 || listed(v, path)))
            return true;
    }
    return false;
}

static int add_masked(const struct spec *s, struct procconf *p, size_t n, struct err *e)
{
    for (size_t i = 0; i < s->security_opt.n; i++) {
        const char *v = value_of(s->security_opt.v[i], "mask");

        for (const char *at = v; at && *at;) {
            char path[PROCESS_TARGET_MAX];
            size_t len = strcspn(at, ":");

            if (len >= sizeof(path) || n == PATHS_MAX)
                return err_set(e, -E2BIG, "--security-opt mask: too much");
            memcpy(path, at, len);
            path[len] = '\0';
            p->masked[n] = procconf_keep(p, path);
            if (!p->masked[n++])
                return err_errno(e, -ENOMEM, "hidden paths");
            at += len + (at[len] == ':');
        }
    }
    return 0;
}

static int set_hidden(const struct spec *s, struct procconf *p, struct err *e)
{
    size_t n = 0;

    p->masked = calloc(PATHS_MAX + 1, sizeof(*p->masked));
    p->readonly = calloc(PATHS_MAX + 1, sizeof(*p->readonly));
    if (!p->masked || !p->readonly)
        return err_errno(e, -ENOMEM, "hidden paths");
    for (const char *const *v = defaults_readonly_paths; *v && !s->privileged; v++)
        if (!unmasked(s, *v))
            p->readonly[n++] = *v;
    n = 0;
    for (const char *const *v = defaults_masked_paths; *v && !s->privileged; v++)
        if (!unmasked(s, *v))
            p->masked[n++] = *v;
    p->conf.masked_paths = p->masked;
    p->conf.readonly_paths = p->readonly;
    return add_masked(s, p, n, e);
}

/* ---- devices */

static int add_rule(struct procconf *p, const struct cgroup_device *d, struct err *e)
{
    if (p->conf.resources.n_devices == PROCCONF_RULES_MAX)
        return err_set(e, -E2BIG, "more than %d devices", PROCCONF_RULES_MAX);
    p->rules[p->conf.resources.n_devices++] = *d;
    return 0;
}

static int add_device(struct procconf *p, const char *host, const char *guest, const char *access,
                      struct err *e)
{
    struct stat st;

    if (stat(host, &st) < 0)
        return err_errno(e, -errno,
                         "error gathering device information while adding custom device "
                         "\"%s\"",
                         host);
    if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
        return err_set(e, -EINVAL, "--device: %s is not a device node", host);
    if (p->conf.n_devices == PROCESS_DEVICES_MAX)
        return err_set(e, -E2BIG, "more than %d devices", PROCESS_DEVICES_MAX);
    char type = S_ISBLK(st.st_mode) ? 'b' : 'c';
    p->devices[p->conf.n_devices++] = (struct process_device){.path = procconf_keep(p, guest),
                                                              .type = type,
                                                              .major = major(st.st_rdev),
                                                              .minor = minor(st.st_rdev),
                                                              .mode = st.st_mode & 0777,
                                                              .uid = st.st_uid,
                                                              .gid = st.st_gid};
    if (!p->devices[p->conf.n_devices - 1].path)
        return err_errno(e, -ENOMEM, "devices");
    if (!access)
        return 0;
    struct cgroup_device rule = {.allow = true,
                                 .type = type,
                                 .major = (int)major(st.st_rdev),
                                 .minor = (int)minor(st.st_rdev)};
    snprintf(rule.access, sizeof(rule.access), "%s", access);
    return add_rule(p, &rule, e);
}

/* --privileged: the host's devices, but those that a container has its own of. */
static int all_devices(struct procconf *p, const char *folder, unsigned depth, struct err *e)
{
    static const char *const own[] = {"/dev/pts", "/dev/shm",     "/dev/mqueue",
                                      "/dev/fd",  "/dev/console", "/dev/ptmx"};
    CLEANUP(dir) DIR *d = opendir(folder);
    struct dirent *de;
    int r = 0;

    while (r == 0 && d && (de = readdir(d))) {
        char path[512];
        bool skip = de->d_name[0] == '.';
        int n = snprintf(path, sizeof(path), "%s/%s", folder, de->d_name);

        for (unsigned i = 0; i < ARRAY_LEN(own); i++)
            skip = skip || strcmp(path, own[i]) == 0;
        if (skip || n < 0 || (size_t)n >= sizeof(path))
            continue;
        if (de->d_type == DT_DIR && depth < 4)
            r = all_devices(p, path, depth + 1, e);
        else if ((de->d_type == DT_CHR || de->d_type == DT_BLK) &&
                 p->conf.n_devices < PROCESS_DEVICES_MAX)
            r = add_device(p, path, path, NULL, e);
    }
    return r;
}

static int set_devices(const struct spec *s, struct procconf *p, struct err *e)
{
    const struct cgroup_device any = {
        .allow = true, .type = 'a', .major = -1, .minor = -1, .access = "rwm"};
    bool root = geteuid() == 0;
    int r = 0;

    p->devices = calloc(PROCESS_DEVICES_MAX, sizeof(*p->devices));
    if (!p->devices)
        return err_errno(e, -ENOMEM, "devices");
    p->conf.devices = p->devices;
    if (s->privileged && root) {
        r = all_devices(p, "/dev", 0, e);
        return r < 0 ? r : add_rule(p, &any, e);
    }
    memcpy(p->devices, defaults_devices, defaults_n_devices * sizeof(*p->devices));
    p->conf.n_devices = defaults_n_devices;
    for (size_t i = 0; r == 0 && i < defaults_n_device_rules; i++)
        r = add_rule(p, &defaults_device_rules[i], e);
    for (size_t i = 0; r == 0 && i < s->n_devices; i++) {
        const struct spec_device *d = &s->devices[i];

        r = add_device(p, d->host, d->guest ? d->guest : d->host, d->access ? d->access : "rwm", e);
    }
    /* Without root no node can be made, and no group may say what is used. */
    p->conf.resources.devices = root ? p->rules : NULL;
    return r;
}

/* ---- limits */

static const struct {
    const char *name;
    int resource;
} limit_of[] = {
    {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},
    {"data", RLIMIT_DATA},       {"fsize", RLIMIT_FSIZE},       {"locks", RLIMIT_LOCKS},
    {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE}, {"nice", RLIMIT_NICE},
    {"nofile", RLIMIT_NOFILE},   {"nproc", RLIMIT_NPROC},       {"rss", RLIMIT_RSS},
    {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING},
    {"stack", RLIMIT_STACK},
};

/* -1 and "unlimited" = none. */
static bool limit_value(const char *s, rlim_t *out)
{
    char *end;

    if (strcmp(s, "-1") == 0 || strcmp(s, "unlimited") == 0) {
        *out = RLIM_INFINITY;
        return true;
    }
    errno = 0;
    unsigned long long v = strtoull(s, &end, 10);
    *out = (rlim_t)v;
    return s[0] >= '0' && s[0] <= '9' && !*end && !errno;
}

/* "nofile=1024:2048"; one number is both. */
static int add_ulimit(const char *text, struct procconf *p, struct err *e)
{
    char buf[128], *hard = buf;
    struct process_rlimit *out = &p->rlimits[p->conf.process.n_rlimits];

    if (strlen(text) >= sizeof(buf) || p->conf.process.n_rlimits == PROCCONF_LIMITS_MAX)
        return err_set(e, -EINVAL, "invalid ulimit argument: %.100s", text);
    memcpy(buf, text, strlen(text) + 1);
    char *name = strsep(&hard, "="), *soft = hard ? strsep(&hard, ":") : NULL;
    for (unsigned i = 0; soft && i < ARRAY_LEN(limit_of); i++) {
        if (strcmp(name, limit_of[i].name) != 0)
            continue;
        if (!limit_value(soft, &out->limit.rlim_cur) ||
            !limit_value(hard ? hard : soft, &out->limit.rlim_max))
            break;
        if (out->limit.rlim_cur > out->limit.rlim_max)
            return err_set(e, -EINVAL,
                           "ulimit soft limit must be less than or equal to hard limit: %s", text);
        out->resource = limit_of[i].resource;
        p->conf.process.n_rlimits++;
        return 0;
    }
    return err_set(e, -EINVAL, "invalid ulimit argument: %s", text);
}

static int64_t said(int64_t v)
{
    return v == SPEC_UNSET ? 0 : v;
}

static void set_limits(const struct spec *s, struct cgroup_limits *l)
{
    l->memory_bytes = said(s->memory);
    l->memory_swap_bytes = said(s->memory_swap);
    if (l->memory_bytes > 0 && l->memory_swap_bytes == 0) { /* docker's default: as much again */
        l->memory_swap_bytes = l->memory_bytes > INT64_MAX / 2 ? INT64_MAX : 2 * l->memory_bytes;
        l->swap_optional = true;
    }
    l->memory_reservation_bytes = said(s->memory_reservation);
    l->cpu_quota_us = said(s->cpu_quota_us);
    l->cpu_period_us = (uint64_t)said(s->cpu_period_us);
    if (s->nano_cpus > 0) {
        l->cpu_period_us = CGROUP_CPU_PERIOD_US;
        l->cpu_quota_us = s->nano_cpus / NANO_US * CGROUP_CPU_PERIOD_US / 1000000;
    }
    l->cpu_shares = (uint64_t)said(s->cpu_shares);
    l->cpus = s->cpuset_cpus;
    l->mems = s->cpuset_mems;
    l->pids = said(s->pids_limit);
    l->io_weight = (unsigned)said(s->blkio_weight);
}

static int set_sysctls(const struct spec *s, struct procconf *p, struct err *e)
{
    p->conf.sysctls = p->sysctls;
    for (size_t i = 0; i < s->sysctls.n; i++) {
        const char *eq = strchr(s->sysctls.v[i], '=');
        const char *name = procconf_keep(p, s->sysctls.v[i]);

        if (!eq || p->conf.n_sysctls == PROCESS_SYSCTLS_MAX)
            return err_set(e, -EINVAL, "--sysctl: '%s' is not NAME=VALUE", s->sysctls.v[i]);
        if (!name)
            return err_errno(e, -ENOMEM, "sysctls");
        ((char *)name)[eq - s->sysctls.v[i]] = '\0';
        p->sysctls[p->conf.n_sysctls++] = (struct process_sysctl){name, eq + 1};
    }
    return 0;
}

int procconf_powers(const struct task_conf *c, struct procconf *p, struct err *e)
{
    const struct spec *s = &c->rec->spec;
    int r = set_hidden(s, p, e);

    if (r == 0)
        r = set_devices(s, p, e);
    if (r == 0)
        r = set_sysctls(s, p, e);
    if (r == 0)
        r = procconf_group_path(s, c->dir->id, p, e);
    set_limits(s, &p->conf.resources);
    return r;
}

int procconf_process(const struct spec *s, bool privileged, struct procconf *out, struct err *e)
{
    struct process_proc *proc = &out->conf.process;
    uint64_t caps;

    *proc = (struct process_proc){
        .fill_env = true,
        .cwd = s->cwd,
        .user = {.name = s->user ? s->user : "", .more_groups = (const char *const *)s->groups.v},
        .has_oom_score_adj = s->oom_score_adj != SPEC_UNSET && s->oom_score_adj != 0,
        .oom_score_adj = (int)said(s->oom_score_adj),
        .io = {-1, -1, -1},
    };
    int r = caps_of(s, privileged || s->privileged, &caps, e);
    if (r < 0)
        return r;
    proc->caps = defaults_caps(caps);
    r = set_security(s, privileged || s->privileged, caps, out, e);
    proc->rlimits = out->rlimits;
    for (size_t i = 0; r == 0 && i < s->ulimits.n; i++)
        r = add_ulimit(s->ulimits.v[i], out, e);
    return r;
}
