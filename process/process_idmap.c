/* Which ids a new user namespace has: user_namespaces(7), newuidmap(1), subuid(5). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

enum { TEXT_MAX = PROCESS_MAPS_MAX * 40, LINE_MAX_LEN = 256 };

static int put(pid_t pid, const char *file, const char *text)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
    CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
}

static int write_direct(pid_t pid, const char *file, const struct process_map *m, size_t n)
{
    char text[TEXT_MAX] = "";
    size_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len,
                                "%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", m[i].inside, m[i].outside,
                                m[i].count);
    return put(pid, file, text);
}

/* newuidmap PID inside outside count ... */
static int write_helper(const char *program, pid_t pid, const struct process_map *m, size_t n,
                        struct err *e)
{
    char number[3 * PROCESS_MAPS_MAX + 1][12];
    char *argv[3 * PROCESS_MAPS_MAX + 3];
    size_t k = 0;
    int status = 0;

    argv[0] = (char *)program;
    snprintf(number[k], sizeof(number[k]), "%d", (int)pid);
    argv[1] = number[k++];
    for (size_t i = 0; i < n; i++) {
        const uint32_t v[] = {m[i].inside, m[i].outside, m[i].count};

        for (unsigned j = 0; j < 3; j++, k++) {
            snprintf(number[k], sizeof(number[k]), "%" PRIu32, v[j]);
            argv[k + 1] = number[k];
        }
    }
    argv[k + 1] = NULL;
    pid_t child = fork();
    if (child < 0)
        return err_errno(e, -errno, "fork");
    if (child == 0) {
        execvp(program, argv);
        _exit(127); /* forked child */
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return err_set(e, -EPERM, "%s refused the mapping (see subuid(5)), or is not installed",
                   program);
}

static int check(const struct process_map *m, size_t n, const char *what, struct err *e)
{
    if (n == 0 || n > PROCESS_MAPS_MAX)
        return err_set(e, -EINVAL, "a user namespace needs 1 to %d mappings of %s",
                       PROCESS_MAPS_MAX, what);
    for (size_t i = 0; i < n; i++)
        if (m[i].count == 0 || m[i].inside > UINT32_MAX - m[i].count ||
            m[i].outside > UINT32_MAX - m[i].count)
            return err_set(e, -EINVAL, "a mapping of %s is out of range", what);
    return 0;
}

static int write_kind(pid_t pid, bool gid, const struct process_map *m, size_t n, struct err *e)
{
    const char *file = gid ? "gid_map" : "uid_map";
    bool single = n == 1 && m[0].count == 1 && m[0].outside == (gid ? getegid() : geteuid());

    /* A single id of our own: the kernel asks that setgroups(2) is given up first. */
    if (geteuid() != 0 && single && gid) {
        int r = put(pid, "setgroups", "deny");

        if (r < 0)
            return err_errno(e, r, "setgroups");
    }
    if (geteuid() != 0 && !single)
        return write_helper(gid ? "newgidmap" : "newuidmap", pid, m, n, e);
    int r = write_direct(pid, file, m, n);
    return r < 0 ? err_errno(e, r, "%s", file) : 0;
}

int idmap_write(pid_t pid, const struct process_conf *c, struct err *e)
{
    int r = check(c->uid_maps, c->n_uid_maps, "user ids", e);

    if (r == 0)
        r = check(c->gid_maps, c->n_gid_maps, "group ids", e);
    if (r == 0)
        r = write_kind(pid, false, c->uid_maps, c->n_uid_maps, e);
    if (r == 0)
        r = write_kind(pid, true, c->gid_maps, c->n_gid_maps, e);
    return r;
}

/* ---- what may be mapped */

/* "name:start:count" lines of subuid(5); the name may be a number. */
static size_t subordinate(const char *file, const char *name, uid_t uid, struct process_map *m,
                          size_t n)
{
    char line[LINE_MAX_LEN], number[16];
    uint32_t inside = 1;

    snprintf(number, sizeof(number), "%u", (unsigned)uid);
    CLEANUP(file) FILE *f = fopen(file, "re");
    while (f && n < PROCESS_MAPS_MAX && fgets(line, sizeof(line), f)) {
        char *p = line, *who = strsep(&p, ":"), *start = strsep(&p, ":");

        if (!p || (strcmp(who, number) != 0 && strcmp(who, name) != 0))
            continue;
        unsigned long first = strtoul(start, NULL, 10), count = strtoul(p, NULL, 10);
        if (count == 0 || count > UINT32_MAX - inside || first > UINT32_MAX - count)
            continue;
        m[n++] = (struct process_map){inside, (uint32_t)first, (uint32_t)count};
        inside += (uint32_t)count;
    }
    return n;
}

static bool runnable(const char *program)
{
    char path[64];

    snprintf(path, sizeof(path), "/usr/bin/%s", program);
    return access(path, X_OK) == 0;
}

int process_rootless_maps(struct process_maps *out, struct err *e)
{
    const struct passwd *pw = getpwuid(geteuid());
    const char *name = pw ? pw->pw_name : NULL;

    if (geteuid() == 0)
        return err_set(e, -EINVAL, "root's own ids are no mapping that isolates");
    *out = (struct process_maps){.n_uid = 1, .n_gid = 1};
    out->uid[0] = (struct process_map){0, geteuid(), 1};
    out->gid[0] = (struct process_map){0, getegid(), 1};
    /* They want to know their caller by name. */
    if (!name || !runnable("newuidmap") || !runnable("newgidmap"))
        return 0;
    size_t nu = subordinate("/etc/subuid", name, geteuid(), out->uid, 1);
    size_t ng = subordinate("/etc/subgid", name, geteuid(), out->gid, 1);
    if (nu > 1 && ng > 1) { /* one kind alone is of no use */
        out->n_uid = nu;
        out->n_gid = ng;
    }
    return 0;
}

static _Noreturn void called(int go, int (*fn)(void *ctx), void *ctx)
{
    char c;

    if (read(go, &c, 1) != 1 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        _exit(EXIT_FAILURE);               /* forked child */
    _exit(fn(ctx) < 0 ? EXIT_FAILURE : 0); /* forked child */
}

int process_rootless_call(const struct process_maps *m, int (*fn)(void *ctx), void *ctx,
                          struct err *e)
{
    const struct process_conf c = {
        .uid_maps = m->uid, .n_uid_maps = m->n_uid, .gid_maps = m->gid, .n_gid_maps = m->n_gid};
    int go[2], status = 0;

    if (pipe2(go, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    pid_t pid = fork_new(CLONE_NEWUSER, e);
    if (pid == 0) {
        close(go[1]);
        called(go[0], fn, ctx);
    }
    int r = pid < 0 ? pid : idmap_write(pid, &c, e);
    if (r == 0 && write(go[1], "", 1) != 1)
        r = err_errno(e, -errno, "user namespace");
    close(go[0]);
    close(go[1]);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (r < 0)
        return r;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : err_set(e, -EIO, "in the user namespace it failed");
}
