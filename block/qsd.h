/* block/qsd.h - disks in formats and places kiln does not read itself (qcow2, NBD, Ceph RBD...): a
 * qemu-storage-daemon as a child, which serves one of them to one machine over vhost-user-blk.
 *
 * The child has no network where the place needs none, no capabilities but to read files, cannot
 * gain any, and reaches of the file system what it must (landlock(2), where the kernel has it). It
 * ends with the thread that called qsd_start() (PR_SET_PDEATHSIG): call it from one that lives as
 * long as the machine. Thread: the caller's. */
#ifndef BLOCK_QSD_H
#define BLOCK_QSD_H

#include <sys/types.h>

#include "base/err.h"
#include "block/disktext.h"

enum { QSD_START_MS = 30000, QSD_STOP_MS = 5000 };

struct qsd {
    pid_t pid; /* 0 = none */
    int fd;    /* connected to its vhost-user-blk export: for vm_disk.vhost_fd. -1 = none */
};
#define QSD_NONE ((struct qsd){0, -1})

/* Start the daemon for *d (DISK_QSD) and wait until it answers. *q is owned: qsd_stop(). Errors,
 * with the daemon's own sentence where it wrote one: -ENOENT the program is missing; -EINVAL it
 * does not take the image; -ETIMEDOUT. */
int qsd_start(const struct disktext *d, struct qsd *q, struct err *e) MUST_CHECK;
/* Ends it (SIGTERM, so that it finishes its files; SIGKILL after QSD_STOP_MS) and waits. A QSD_NONE
 * one is fine. */
void qsd_stop(struct qsd *q);

#endif
