/* `kiln fork`: a machine in its jail can make neither folders nor sockets for its copies. They are
 * made here, and a warden that stays is left for them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/conlog.h"
#include "container/control.h"
#include "container/ctlask.h"
#include "container/machine.h"
#include "container/warden.h"
#include "jail/cgroup.h"
#include "net/vsockd.h"
#include "os/fds.h"
#include "vm/snapdisk.h"

enum {
    FORK_MIB = 8, /* memory that has to be there for each fork */
    FDS_EACH = 8, /* descriptors, here and in the warden, at most */
    SAY_MS = 60000,
};

struct copy { /* owned */
    struct rundir dir;
    int link, theirs; /* warden_pair() */
    char vsock[RUNDIR_PATH_MAX + 16];
    char name[RUNDIR_NAME_MAX + 16];
};

struct forking {
    unsigned n;
    const char *prefix; /* NULL = no names */
    const json_t *info; /* of the parent */
    int fd;             /* connected to it */
    struct copy *copy;
    struct ward *ward;
};

/* --- room ------------------------------------------------------------------------- */

/* Memory this host can still give, MiB; 0 = it does not say. */
static uint64_t available_mib(void)
{
    CLEANUP(file) FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib = 0;

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    return kib >> 10;
}

static int check_room(unsigned n, struct err *e)
{
    uint64_t have = available_mib(), want = (uint64_t)n * FORK_MIB;
    struct rlimit l;

    if (have && have < want)
        return err_set(
            e, -ENOMEM,
            "%u copies want %llu MiB of memory at the least; this host has %llu MiB left", n,
            (unsigned long long)want, (unsigned long long)have);
    if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < n * FDS_EACH + 64) {
        l.rlim_cur = l.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &l); /* without it opening fails and says so */
    }
    return 0;
}

/* --- what each copy gets ------------------------------------------------------------ */

static bool has_vsock(const struct forking *k)
{
    const char *vsock = json_string_value(json_object_get(k->info, "vsock"));

    return vsock && vsock[0];
}

static int make_copy(struct forking *k, unsigned i, const char *base, struct err *e)
{
    struct copy *c = &k->copy[i];

    if (k->prefix)
        snprintf(c->name, sizeof(c->name), "%s-%u", k->prefix, i + 1);
    int r = rundir_new(base, k->prefix ? c->name : NULL, &c->dir, e);
    if (r == 0)
        r = warden_pair(&c->link, &c->theirs, e);
    if (r == 0 && has_vsock(k))
        snprintf(c->vsock, sizeof(c->vsock), "%s/vsock", c->dir.path);
    if (r == 0)
        k->ward[i] =
            (struct ward){.link = c->link, .dir = c->dir, .vsock = c->vsock[0] ? c->vsock : NULL};
    return r;
}

/* An empty file for the copy of each of the machine's own disks, near it. */
static int add_disks(const struct forking *k, struct ctlwire_fds *f, struct err *e)
{
    size_t i;
    json_t *path;

    json_array_foreach(json_object_get(k->info, "own_paths"), i, path)
    {
        const char *near = json_string_value(path);
        int fd = near && f->n < CTLWIRE_FDS_MAX ? snapdisk_new(near, e) : -EINVAL;

        if (fd < 0)
            return fd;
        f->fd[f->n++] = fd;
    }
    return 0;
}

static int add(struct ctlwire_fds *f, int fd)
{
    if (fd >= 0)
        f->fd[f->n++] = fd;
    return fd < 0 ? fd : 0;
}

/* In the order of enum machine_fd. */
static int open_copy(const struct forking *k, struct copy *c, struct ctlwire_fds *f, struct err *e)
{
    struct conlog_files log;
    int r = conlog_open(c->dir.dir, &log, e);

    if (r < 0)
        return r;
    (void)add(f, log.log);
    (void)add(f, log.old);
    r = add(f, control_listen(c->dir.path, e));
    if (r == 0)
        r = add(f, c->theirs);
    c->theirs = -1;
    if (r == 0 && c->vsock[0])
        r = add(f, vsockd_listen(c->vsock, e));
    return r == 0 ? add_disks(k, f, e) : r;
}

static int hand_over(const struct forking *k, struct copy *c, struct err *e)
{
    struct ctlwire_fds f = {.n = 0};
    json_t *line =
        json_pack("{s:s, s:s, s:s}", "id", c->dir.id, "name", c->dir.name, "vsock", c->vsock);
    int r = open_copy(k, c, &f, e);

    if (r == 0)
        r = ctlwire_write_fds(k->fd, line, &f, SAY_MS, e);
    ctlwire_close(&f);
    json_decref(line);
    return r;
}

/* --- the warden of all of them ---------------------------------------------------- */

/* It outlives this process, and removes the folders of copies that were never made, too. */
static int leave_warden(struct forking *k, struct err *e)
{
    int *keep = calloc(k->n, 4 * sizeof(*keep));
    unsigned n = 0;

    if (!keep)
        return err_set(e, -ENOMEM, "out of memory");
    for (unsigned i = 0; i < k->n; i++) {
        keep[n++] = k->copy[i].link;
        keep[n++] = k->copy[i].dir.base;
        keep[n++] = k->copy[i].dir.dir;
        keep[n++] = k->copy[i].dir.lock;
    }
    pid_t pid = fork();
    if (pid == 0) {
        machine_detach();
        fds_close_but(keep, n);
        warden_main(k->ward, k->n, -1, 0);
    }
    free(keep);
    return pid < 0 ? err_errno(e, -errno, "fork") : 0;
}

/* The folders are the warden's now, if there is one. */
static void free_copies(struct forking *k, bool warden)
{
    for (unsigned i = 0; k->copy && i < k->n; i++) {
        struct copy *c = &k->copy[i];

        cleanup_fd(&c->link);
        cleanup_fd(&c->theirs);
        if (!warden) {
            rundir_remove(&c->dir);
            continue;
        }
        cleanup_fd(&c->dir.base);
        cleanup_fd(&c->dir.dir);
        cleanup_fd(&c->dir.lock);
    }
    free(k->copy);
    free(k->ward);
}

static int make_copies(struct forking *k, struct err *e)
{
    char base[RUNDIR_PATH_MAX];
    int r = rundir_base(base, sizeof(base), e);

    k->copy = calloc(k->n, sizeof(*k->copy));
    k->ward = calloc(k->n, sizeof(*k->ward));
    if (r == 0 && (!k->copy || !k->ward))
        r = err_set(e, -ENOMEM, "out of memory");
    for (unsigned i = 0; k->copy && i < k->n; i++) {
        k->copy[i].dir = RUNDIR_NONE;
        k->copy[i].link = k->copy[i].theirs = -1;
    }
    for (unsigned i = 0; r == 0 && i < k->n; i++)
        r = make_copy(k, i, base, e);
    return r;
}

/* --- asking ------------------------------------------------------------------------ */

/* Who connects to a copy's control socket learns its pid. */
static pid_t pid_of(const struct copy *c)
{
    struct sockaddr_un a;
    CLEANUP(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || ctlwire_address(c->dir.path, "control", &a, NULL) < 0 ||
        connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0)
        return -1;
    return ctlask_peer(fd);
}

static void describe(const struct forking *k, json_t *answer)
{
    json_t *machines = json_array();

    for (unsigned i = 0; i < k->n; i++) {
        const struct copy *c = &k->copy[i];

        json_array_append_new(machines,
                              json_pack("{s:s, s:s, s:i, s:s}", "id", c->dir.id, "name",
                                        c->dir.name, "pid", (int)pid_of(c), "vsock", c->vsock));
    }
    json_object_set_new(answer, "machines", machines);
}

static int read_answer(int fd, json_t **answer, struct err *e)
{
    CLEANUP(mem) char *line = ctlwire_read_fds(fd, -1, -1, NULL, e);

    return line ? ctlask_read(line, answer, e)
                : err_set(e, -ECONNRESET, "the machine ended while it was copied");
}

/* Who wrote what can be read next, as the kernel says: SO_PASSCRED, unix(7). */
static pid_t sender_of(int fd)
{
    union {
        struct cmsghdr h;
        char room[CMSG_SPACE(sizeof(struct ucred))];
    } c;
    char byte;
    struct iovec iov = {&byte, 1};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof(c)};
    struct ucred u;

    if (recvmsg(fd, &m, MSG_PEEK) != 1)
        return -1;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    if (!h || h->cmsg_type != SCM_CREDENTIALS || h->cmsg_len != CMSG_LEN(sizeof(u)))
        return -1;
    memcpy(&u, CMSG_DATA(h), sizeof(u));
    return u.pid;
}

/* The process that copies are forked from leaves the container's control group for ours: they are
 * not to use up the memory that the container may have. Best effort. */
static void move_here(pid_t pid)
{
    struct cgroup_host host;
    char path[CGROUP_PATH_MAX + 16], text[16];

    if (pid <= 0 || cgroup_host_find("", &host, NULL) < 0)
        return;
    int n = snprintf(text, sizeof(text), "%d", (int)pid);
    for (unsigned i = 0; i < ARRAY_LEN(host.own); i++) {
        if (!host.own[i][0])
            continue;
        snprintf(path, sizeof(path), "%s/cgroup.procs", host.own[i]);
        CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)!write(fd, text, (size_t)n);
    }
}

static int ask(struct forking *k, json_t **answer, struct err *e)
{
    json_t *req = json_pack("{s:s, s:I}", "op", "fork", "n", (json_int_t)k->n);
    struct ctlwire_fds f = {.n = 0};
    int r = add_disks(k, &f, e);

    (void)setsockopt(k->fd, SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
    if (r == 0)
        r = ctlwire_write_fds(k->fd, req, &f, SAY_MS, e);
    ctlwire_close(&f);
    json_decref(req);
    for (unsigned i = 0; r == 0 && i < k->n; i++) {
        json_t *ready = NULL;

        if (i == 0)
            move_here(sender_of(k->fd));
        r = read_answer(k->fd, &ready, e);
        if (r == 0)
            r = hand_over(k, &k->copy[i], e);
        json_decref(ready);
    }
    if (r == 0)
        r = read_answer(k->fd, answer, e);
    if (r == 0)
        describe(k, *answer);
    return r;
}

static int info_of(int fd, json_t **info, struct err *e)
{
    json_t *req = json_pack("{s:s}", "op", "info");
    int r = ctlask_on(fd, req, NULL, info, e);

    json_decref(req);
    return r;
}

int ctlfork_ask(const char *machine, const json_t *req, json_t **answer, struct err *e)
{
    json_int_t n = json_integer_value(json_object_get(req, "n"));
    struct forking k = {.prefix = json_string_value(json_object_get(req, "prefix"))};
    json_t *info = NULL;
    bool warden = false;

    if (n < 1 || n > CONTROL_FORKS_MAX)
        return err_set(e, -EINVAL, "%lld copies: from 1 to %d can be had", (long long)n,
                       CONTROL_FORKS_MAX);
    if (k.prefix && strlen(k.prefix) > RUNDIR_NAME_MAX - 6)
        return err_set(e, -EINVAL, "a name's beginning has at most %d bytes", RUNDIR_NAME_MAX - 6);
    k.n = (unsigned)n;
    CLEANUP(fd) int fd = ctlask_connect(machine, e);
    int r = fd < 0 ? fd : check_room(k.n, e);
    if (r == 0)
        r = info_of(fd, &info, e);
    k.fd = fd;
    k.info = info;
    if (r == 0)
        r = make_copies(&k, e);
    if (r == 0) {
        r = leave_warden(&k, e);
        warden = r == 0;
    }
    if (r == 0)
        r = ask(&k, answer, e);
    free_copies(&k, warden);
    json_decref(info);
    return r;
}
