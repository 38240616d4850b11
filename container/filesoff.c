/* What stands for a container that does not run while its files are worked on. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "container/files_priv.h"
#include "container/upper.h"

/* ---- a machine that gets the disks, and runs nothing */

static int begin_machine(struct files_at *at, struct err *e)
{
    at->tc = (struct task_conf){
        .rec = at->r,
        .dir = &at->dir,
        .store = at->store,
        .rootfs = at->rootfs,
        .fstype = at->fstype,
        .kernel = at->kernel,
        .kernel_dir = at->kernel_dir,
        .cancel_fd = -1,
        .idle = true,
    };
    int r = task_vm.start(&at->tc, &at->task, e);
    if (r < 0)
        return r;
    snprintf(at->state.run, sizeof(at->state.run), "%s", at->dir.path);
    return 0;
}

/* What was put there has been written back: FILEWORK_SYNC. */
static void end_machine(struct files_at *at)
{
    if (at->task)
        at->task->ops->free(at->task);
}

/* ---- the root in a mount namespace */

static int begin_root(struct files_at *at, struct err *e)
{
    static const char *const args[] = {"/", NULL}, *const env[] = {NULL};
    CLEANUP(mem) struct process_mount *mounts = NULL;
    CLEANUP(mem) struct process_maps *maps = calloc(1, sizeof(*maps));
    struct process_conf *c = calloc(1, sizeof(*c));
    int r = volume_prepare(at->store, &at->r->spec, at->rootfs, at->fstype, &at->volumes,
                           &at->n_volumes, e);

    if (r == 0 && (!c || !maps || !(mounts = calloc(at->n_volumes + 1, sizeof(*mounts)))))
        r = err_errno(e, -ENOMEM, "files");
    if (r < 0) {
        free(c);
        return r;
    }
    *c = (struct process_conf){
        .id = at->dir.id,
        .dir = at->dir.path,
        .process = {.args = args, .env = env, .cwd = "/", .io = {-1, -1, -1}},
        .root = {.image = at->rootfs, .fstype = at->fstype, .upper = at->r->path},
        .mounts = mounts,
        .no_cgroup = true,
    };
    c->ns[PROCESS_NS_MNT].how = PROCESS_NS_NEW;
    if (geteuid() != 0) {
        r = process_rootless_maps(maps, e);
        c->ns[PROCESS_NS_USER].how = PROCESS_NS_NEW;
        c->uid_maps = maps->uid;
        c->n_uid_maps = maps->n_uid;
        c->gid_maps = maps->gid;
        c->n_gid_maps = maps->n_gid;
    }
    for (size_t i = 0; i < at->n_volumes; i++)
        if (at->volumes[i].host)
            mounts[c->n_mounts++] = (struct process_mount){
                .target = at->volumes[i].guest, .type = "bind", .source = at->volumes[i].host};
    if (r == 0)
        r = process_create(c, &at->st, &at->child, e);
    free(c);
    at->made = r == 0;
    at->state.pid = at->st.pid;
    return r;
}

static void end_root(struct files_at *at)
{
    if (at->made) {
        (void)!process_kill(&at->st, SIGKILL, false, NULL);
        (void)waitpid(at->child.pid, NULL, 0);
        (void)!process_delete(&at->st, true, NULL);
    }
    process_child_done(&at->child);
    volumes_done(at->volumes, at->n_volumes);
}

/* ---- either */

int filesoff_begin(struct files_at *at, struct err *e)
{
    const struct record *r = at->r;
    bool on_disk = r->spec.isolation == SPEC_VM ? upper_on_disk(&r->spec) : !r->spec.storage_memory;
    char base[RUNDIR_PATH_MAX];

    if (!on_disk)
        return err_set(e, -ENODATA,
                       "container %s does not run, and what it had written was in memory: it is "
                       "gone",
                       r->name);
    int rc = rundir_base(base, sizeof(base), e);
    if (rc == 0)
        rc = rundir_new(base, NULL, &at->dir, e);
    if (rc == 0)
        rc = r->spec.isolation == SPEC_VM ? begin_machine(at, e) : begin_root(at, e);
    return rc;
}

void filesoff_end(struct files_at *at)
{
    end_machine(at);
    end_root(at);
    rundir_remove(&at->dir);
}
