/* process/process_priv.h - what the files of process/ share: what the parent prepared for the
 * child, and what they tell each other. */
#ifndef PROCESS_PROCESS_PRIV_H
#define PROCESS_PROCESS_PRIV_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

#include "base/err.h"
#include "base/strv.h"
#include "os/user.h"
#include "process/process.h"

/* Close a descriptor that a struct owns; again is harmless. */
static inline void shut(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

/* ---- process_note.c: messages on the socket pair between parent and child */

enum note_kind {
    NOTE_PID = 1, /* stage to parent: `pid` is the child */
    NOTE_MAPPED,  /* parent to child: its user namespace has ids, it is in its groups */
    NOTE_SERVE,   /* child to parent, with a descriptor: serve the image on this /dev/fuse */
    NOTE_SERVED,  /* parent to child: done, or `err` */
    NOTE_READY,   /* child to parent, with the terminal's master end if there is one */
    NOTE_FAILED,  /* child to parent: `err` */
};

struct note {
    uint32_t kind;
    int32_t pid;
    struct err err;
};

/* `fd` goes along (borrowed); -1 = none. */
int note_send(int sock, const struct note *n, int fd) MUST_CHECK;
/* *fd (may be NULL) is owned by the caller. -ECONNRESET: the other side is gone. */
int note_receive(int sock, struct note *n, int *fd) MUST_CHECK;

/* ---- process_fork.c: children in namespaces */

/* The CLONE_NEW* flag of a namespace. */
uint64_t fork_flag(enum process_ns kind);
/* A child in new namespaces `flags`. 0 in the child. */
pid_t fork_new(uint64_t flags, struct err *e);
/* The same after namespaces were joined, in a stage that is waited for: `enter` runs in it. In the
 * caller: the pid; in the child 0. `sock`: the caller's and the child's ends; the child waits for a
 * note before it sends any, so that the pid comes first. */
pid_t fork_staged(uint64_t flags, int (*enter)(void *ctx, struct err *e), void *ctx,
                  const int sock[2], struct err *e);

/* ---- process_idmap.c */

int idmap_write(pid_t pid, const struct process_conf *c, struct err *e) MUST_CHECK;

/* ---- rootimage.c: in the parent */

/* A detached read-only mount of `image`, owned by the caller. */
int rootimage_mount(const char *image, const char *fstype, struct err *e) MUST_CHECK;
/* Serve `image` on `fuse`, an open /dev/fuse that is mounted, by *pid, a child of the caller. */
int rootimage_serve(const char *image, int fuse, pid_t *pid, struct err *e) MUST_CHECK;

/* ---- the child's plan */

struct plan {
    const struct process_conf *conf;
    bool user_ns;  /* a new one */
    bool rootless; /* the caller is not the host's root */
    bool staged;   /* namespaces are joined: its pid is to come before what it says */
    int sync;      /* its end; owned */
    int listener;  /* the socket "start", -1 = none; owned */
    int go;        /* else its end of process_child.start; owned */
    int last;      /* sealed memfd with the program of process/last; owned */
    int image;     /* rootimage_mount(); -1 = none or to be served; owned */
    int source[PROCESS_MOUNTS_MAX]; /* detached trees of binds; owned */
    int enter[CGROUP_CONTROLLERS + 1];
    unsigned n_enter; /* of cgroup_open_enter(); owned */
    struct cgroup_host host;
    struct cgroup cgroup;
};

/* Devices were to be limited, and no group does: then none may be made, and those of the image are
 * of no use. (In a user namespace they never are.) */
static inline bool plan_devices_open(const struct plan *p)
{
    return !p->user_ns && p->conf->resources.devices && p->cgroup.layout == CGROUP_NONE;
}

/* ---- process_state.c */

/* Start time and boot of st->pid. */
int state_identify(struct process_state *st, struct err *e) MUST_CHECK;
/* Until the command was executed, or a struct err says why not. */
int report_wait(int fd, struct err *e) MUST_CHECK;

/* ---- process_init.c */

_Noreturn void init_main(struct plan *p);

/* ---- rootfs.c: in the child's mount namespace */

/* The root at conf->dir. *root: an O_PATH descriptor of it, owned. */
int rootfs_make(struct plan *p, int *root, struct err *e) MUST_CHECK;
int rootfs_finish(struct plan *p, int root, struct err *e) MUST_CHECK; /* flags; pivot_root(2) */

/* ---- inroot.c: paths of the image, walked inside of it */

/* An O_PATH descriptor of `path` below `root`; links lead to inside. `no_links`: not one on the
 * way. */
int inroot_open(int root, const char *path, bool no_links) MUST_CHECK;
/* The same with other flags of open(2). */
int inroot_open_flags(int root, const char *path, uint64_t flags) MUST_CHECK;
/* Made with its parents if missing, as a directory or an empty file. */
int inroot_make(int root, const char *path, bool directory, bool no_links) MUST_CHECK;
/* The directory of `path`, made if missing, and the last name in it. */
int inroot_parent(int root, const char *path, const char **name) MUST_CHECK;

/* ---- mounts.c */

/* The tree a bind mount shows, detached. In the parent if that is root, else in the child. */
int mounts_source(const struct process_mount *m, struct err *e) MUST_CHECK;
bool mounts_is_bind(const struct process_mount *m);
int mounts_make(struct plan *p, int root, struct err *e) MUST_CHECK;
/* Attach a detached tree over what `target` names. */
int mounts_attach(int tree, int target) MUST_CHECK;

/* ---- mountcg.c */

int mountcg_make(const struct plan *p, int root, const struct process_mount *m,
                 struct err *e) MUST_CHECK;

/* ---- fsmount.c: the new mount API */

/* A detached mount of a new instance of `type`. Errors carry what the kernel logged. */
int fsmount_new(const char *type, const char *source, const char *data, uint64_t attrs,
                struct err *e) MUST_CHECK;
/* MS_* as MOUNT_ATTR_*. */
uint64_t fsmount_attrs(unsigned long ms);
/* mount_setattr(2) on a descriptor. `clear`, `set`: MS_*; propagation: MS_SLAVE..., 0 = none. */
int fsmount_change(int tree, unsigned long set, unsigned long clear, unsigned long propagation,
                   bool recursive) MUST_CHECK;

/* ---- devnodes.c, hidden.c, console.c */

int devnodes_make(const struct plan *p, int root, struct err *e) MUST_CHECK;
int hidden_paths(const struct plan *p, int root, struct err *e) MUST_CHECK;
/* A terminal of the devpts below `root`. Both ends owned by the caller. */
int console_open(int root, const struct process_proc *proc, int *master, int *slave,
                 struct err *e) MUST_CHECK;
/* Show it as /dev/console. */
int console_bind(int root, int slave, struct err *e) MUST_CHECK;

/* ---- finish.c: the last steps before the command */

struct finish {
    const struct process_proc *proc;
    bool user_ns;
    bool no_mknod; /* no group limits devices: the power to make them goes */
    int last;      /* borrowed */
    int io[3];     /* what becomes 0, 1, 2; borrowed */
    int tty;       /* becomes the controlling terminal; -1 = none */
    struct user user;
    struct strv env; /* owned */
};
/* Early, with the host's /proc: the score for the OOM killer. */
int finish_early(const struct process_proc *proc, bool rootless, struct err *e) MUST_CHECK;
/* In the container's root: user, environment, streams, working directory. */
int finish_place(struct finish *f, struct err *e) MUST_CHECK;
/* Limits, user, powers, filter, and the command. Returns on failure only. `report`: a socket that
 * gets a struct err then, and ends when the command was executed. */
int finish_exec(struct finish *f, int report, struct err *e);
/* The status a child that could not execute its command ends with. */
int finish_status(int code);

/* The program of process/last. Owned by the caller. */
int last_open(struct err *e) MUST_CHECK;

#endif
