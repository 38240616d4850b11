/* What a killed keeper, or a host that went down, left behind. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/recpriv.h"
#include "container/rundir.h"
#include "container/task.h"
#include "container/volume.h"

enum { KILLED = 128 + SIGKILL, DEAD_MS = 10000 };

void recover_boot_id(char out[37])
{
    CLEANUP(fd) int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, 36);

    out[n < 0 ? 0 : n] = '\0';
}

uint64_t recover_pid_start(pid_t pid)
{
    char path[32], text[1024];
    unsigned long long start = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* The name is in brackets and may hold anything; field 3 follows the last one. */
    char *p = strrchr(text, ')');
    for (unsigned field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    return p && sscanf(p, " %llu", &start) == 1 ? start : 0;
}

/* Kill it if it is still the one, and wait until it is dead. */
static void end_process(const struct record_state *s)
{
    if (s->pid <= 1 || s->pid_start == 0)
        return;
    CLEANUP(fd) int fd = (int)syscall(SYS_pidfd_open, s->pid, 0);
    if (fd < 0 || recover_pid_start(s->pid) != s->pid_start)
        return;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    (void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
    while (poll(&p, 1, DEAD_MS) < 0 && errno == EINTR) {
    }
}

/* BASE/ID of the machine's folder. */
static void remove_folder(const char *run)
{
    char base[sizeof(((struct record_state *)0)->run)];
    char *slash;

    snprintf(base, sizeof(base), "%s", run);
    slash = strrchr(base, '/');
    if (!slash || slash == base)
        return;
    *slash = '\0';
    CLEANUP(fd) int fd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        rundir_wipe(fd, slash + 1);
}

static bool same_boot(const struct record_state *s)
{
    char boot[37];

    recover_boot_id(boot);
    return boot[0] && strcmp(boot, s->boot_id) == 0;
}

int recover_settle(const char *root, struct record *r, struct err *e)
{
    struct record_state *s = &r->state;
    struct timespec now;
    bool same = same_boot(s), ran = s->status != RECORD_CREATED && s->status != RECORD_EXITED;
    const struct task_ops *task = task_class(&r->spec);

    if (same)
        end_process(s);
    if (task && task->recover)
        task->recover(r);
    CLEANUP(mem) char *store = record_root(root);
    if (store)
        network_detach(store, r->id);
    if (s->run[0])
        remove_folder(s->run);
    if (r->spec.auto_remove) {
        int rc = record_remove(r, e);

        if (rc == 0)
            volume_release(root, &r->spec);
        return rc < 0 ? rc : err_set(e, -ENOENT, "no such container: %s", r->name);
    }
    clock_gettime(CLOCK_REALTIME, &now);
    s->status = RECORD_EXITED;
    s->exit_code = KILLED;
    s->finished_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    snprintf(s->error, sizeof(s->error), "%s",
             !same ? "the host restarted"
             : ran ? "its keeper was killed"
                   : "its keeper was killed while it started");
    s->keeper = s->pid = 0;
    s->pid_start = 0;
    s->run[0] = '\0';
    s->n_addresses = s->n_ports = 0;
    s->health = RECORD_HEALTH_NONE;
    return record_save(r, e);
}
