/* Starting a container: what its keeper needs is found here, so that the keeper itself never looks
 * into images; then it is forked. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/keeperpriv.h"
#include "container/wire.h"
#include "image/initrd.h"
#include "image/store_priv.h"
#include "proto/agent.h"

enum { READY_MS = 60000 };

/* The keeper lives in another folder. */
static int make_absolute(char **path, struct err *e)
{
    if (!*path || (*path)[0] == '/')
        return 0;
    char *full = realpath(*path, NULL);
    if (!full)
        return err_errno(e, -errno, "%s", *path);
    free(*path);
    *path = full;
    return 0;
}

/* By its id: neither names nor documents are read, and the name may be another's by now. */
static int find_image(struct keeper *k, struct err *e)
{
    const struct spec *s = &k->rec->spec;
    char name[128] = "";

    if (s->image_id)
        store_rootfs_name(s->image_id, name);
    k->store = record_root(k->conf->store);
    if (!k->store || asprintf(&k->rootfs, "%s/%s", k->store, name) < 0) {
        k->rootfs = NULL;
        return err_set(e, -ENOMEM, "out of memory");
    }
    if (!name[0] || access(k->rootfs, R_OK) < 0)
        return err_set(e, -ENOENT, "container %s: its image '%s' is gone", k->rec->name, s->image);
    snprintf(k->fstype, sizeof(k->fstype), "%s", strrchr(name, '.') + 1);
    int r = s->isolation == SPEC_VM
                ? kernel_find(k->store, s->kernel, &k->kernel, &k->kernel_dir, e)
                : 0;
    char **paths[] = {&k->store, &k->rootfs, &k->kernel, &k->kernel_dir};
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(paths); i++)
        r = make_absolute(paths[i], e);
    return r;
}

static void forget(struct keeper *k)
{
    free(k->store);
    free(k->rootfs);
    free(k->kernel);
    free(k->kernel_dir);
    cleanup_fd(&k->alive);
}

static int fork_keeper(struct keeper *k, struct keeper_line *l, struct err *e)
{
    int v[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, v) < 0)
        return err_errno(e, -errno, "socketpair");
    pid_t pid = fork();
    if (pid == 0)
        keeper_main(k, v[1]);
    int failed = errno;
    close(v[1]);
    if (pid < 0) {
        close(v[0]);
        return err_errno(e, -failed, "fork");
    }
    l->keeper = pid;
    return session_join(v[0], k->conf->watch, &l->s, e);
}

/* Its first word: it can be reached, or why it never will. */
static int first_word(struct keeper_line *l, struct err *e)
{
    struct session_watch watch = l->s->watch;
    struct proto_frame f;

    /* A moment that nobody may interrupt: the record is locked. */
    l->s->watch = (struct session_watch){.machine_fd = -1, .signal_fd = -1};
    int r = wire_next(l->s, wire_now_ms() + READY_MS, &f, e);
    l->s->watch = watch;
    if (r < 0)
        return err_set(e, -ECONNRESET, "the container's keeper died");
    if (f.type == PROTO_ERROR)
        r = wire_error(&f, e);
    else if (f.type != KEEPER_READY)
        r = err_set(e, -EPROTO, "the container's keeper speaks another protocol");
    wire_drop(l->s, &f);
    return r;
}

int keeper_start(struct record *r, const struct keeper_conf *c, struct keeper_line *l,
                 struct err *e)
{
    static const struct session_watch nothing = {.machine_fd = -1, .signal_fd = -1};
    struct keeper_conf conf = *c;
    struct keeper k = {
        .rec = r, .conf = &conf, .alive = -1, .listen_fd = -1, .signal_fd = -1, .dir = RUNDIR_NONE};

    *l = (struct keeper_line){.s = NULL};
    if (!conf.watch)
        conf.watch = &nothing;
    k.ops = c->task ? c->task : task_class(&r->spec);
    int rc = k.ops ? 0 : err_set(e, -EOPNOTSUPP, "there are no such containers in this program");
    if (rc == 0)
        rc = record_hold(r, &k.alive, e);
    if (rc == -EBUSY)
        rc = err_set(e, -EALREADY, "container %s is running", r->name);
    if (rc == 0)
        rc = c->task ? 0 : find_image(&k, e);
    if (rc == 0)
        rc = fork_keeper(&k, l, e);
    if (rc == 0)
        rc = first_word(l, e);
    forget(&k);
    record_unlock(r);
    if (rc < 0)
        keeper_hang_up(l);
    return rc;
}

int keeper_start_status(int code)
{
    switch (code) {
    case -ENOENT:
        return KEEPER_NOT_FOUND;
    case -EACCES:
    case -ENOEXEC:
        return KEEPER_CANNOT;
    case -ETIMEDOUT:
        return KEEPER_TIMEOUT;
    default:
        return KEEPER_KILN;
    }
}
