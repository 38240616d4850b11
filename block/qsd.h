/* block/qsd.h - disks in formats and places kiln does not read itself (qcow2, NBD, Ceph RBD...): a
 * qemu-storage-daemon as a child, which serves one of them to one machine over vhost-user-blk.
 *
 * The child has a network only where the place needs one, no capabilities, cannot gain any, and
 * sees of the file system what it must (landlock(2), where the kernel has it). It ends with the
 * thread that called qsd_start() (PR_SET_PDEATHSIG): call it from one that lives as long as the
 * machine.
 *
 * A qcow2 file may name others (a backing file, an external data file) that the daemon would open.
 * An image whose format was found by its magic comes from anywhere, from a guest that wrote its own
 * raw disk for example, so such names are refused; whoever says `format=qcow2` vouches for it.
 * Thread: the caller's. */
#ifndef BLOCK_QSD_H
#define BLOCK_QSD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

/* --- what a disk's text says ------------------------------------------------------------- */

enum disk_how {
    DISK_FILE,  /* a raw file or block device: raw_open() */
    DISK_VHOST, /* somebody else's back end listens on socket `place` */
    DISK_QSD    /* qsd_start() */
};

struct disk_text { /* owns nothing but `text` */
    enum disk_how how;
    const char *place;  /* path; for DISK_QSD also "nbd:..." or "rbd:..." */
    const char *format; /* DISK_QSD: "raw", "qcow2", ... */
    bool read_only;
    bool trusted; /* the format was said, not found */
    char *text;   /* owned */
};

/* FILE | vhost-user:SOCKET | nbd:HOST:PORT[/EXPORT] | nbd:unix:SOCKET[/:EXPORT] |
 * rbd:POOL/IMAGE, then any of ",format=F", ",ro" and ":ro". A file's format is found by looking
 * into it where none is said. `text` is copied. Errors: -EINVAL a format that is unknown, an
 * address that is none; what open(2) of the file says. */
int disk_text_parse(const char *text, struct disk_text *d, struct err *e) MUST_CHECK;
void disk_text_done(struct disk_text *d); /* a zeroed one is fine */

/* --- the daemon ---------------------------------------------------------------------------- */

struct qsd {
    pid_t pid; /* 0 = none */
    int fd;    /* connected to its vhost-user-blk export: for vm_disk.vhost_fd. -1 = none */
};
#define QSD_NONE ((struct qsd){0, -1})

/* Start the daemon for *d (DISK_QSD) and wait until it answers, at most half a minute. *q is owned:
 * qsd_stop(). Errors, with the daemon's own sentence where it wrote one: -ENOENT the program or the
 * image is missing; -EINVAL, -EIO it does not take the image; -ETIMEDOUT. */
int qsd_start(const struct disk_text *d, struct qsd *q, struct err *e) MUST_CHECK;
/* Ends it (SIGTERM, so that it finishes its files; SIGKILL after five seconds) and waits. A
 * QSD_NONE one is fine. */
void qsd_stop(struct qsd *q);

#endif
