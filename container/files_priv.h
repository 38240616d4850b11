/* container/files_priv.h - what files.c, filesoff.c and fileslayer.c share. */
#ifndef CONTAINER_FILES_PRIV_H
#define CONTAINER_FILES_PRIV_H

#include "container/files.h"
#include "container/procconf.h"
#include "container/rundir.h"
#include "container/task.h"
#include "container/volume.h"
#include "process/process.h"

struct files_at {
    const struct record *r;    /* borrowed */
    struct record_state state; /* of what runs: the container's, or the helper's below */
    bool running;              /* the container itself does */
    char *store, *rootfs, *kernel, *kernel_dir;
    char fstype[16];
    /* Of a stopped one. */
    struct rundir dir;
    struct record idle; /* borrows the container's description, with another state */
    struct task_conf tc;
    struct task *task; /* the machine */
    struct process_state st;
    struct process_child child;
    bool made; /* st is to be deleted */
    struct volume *volumes;
    size_t n_volumes;
};

/* filesoff.c: make what stands for a stopped container, and undo it. */
int filesoff_begin(struct files_at *at, struct err *e) MUST_CHECK;
void filesoff_end(struct files_at *at);

/* fileslayer.c, in the helper: DIFF of a container of the process class. */
int fileslayer_write(const struct files_at *at, int out);

#endif
