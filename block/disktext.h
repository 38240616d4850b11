/* block/disktext.h - what a disk is, as users write it:
 *
 *   FILE                                 a file or block device; raw, or qcow2 by its magic
 *   vhost-user:SOCKET                    somebody's back end listens there
 *   nbd:HOST:PORT  nbd:unix:SOCKET       a network block device; [HOST] for IPv6
 *   rbd:POOL/IMAGE[@SNAPSHOT]            Ceph
 *
 * and behind it any of ",format=F" (raw, qcow2, vdi, vhdx, vmdk), ",ro" or ":ro", ",export=NAME"
 * (nbd), ",user=NAME" (rbd).
 *
 * A qcow2 file may name others (a backing file, an external data file) that whoever reads it opens.
 * An image whose format was found by its magic comes from anywhere, from a guest that wrote its own
 * raw disk for example: there, such names are refused. Who says format= vouches for the image.
 * Thread: none of its own. */
#ifndef BLOCK_DISKTEXT_H
#define BLOCK_DISKTEXT_H

#include <stdbool.h>

#include "base/err.h"

enum disk_how {
    DISK_FILE,  /* a raw file or block device: raw_open() */
    DISK_VHOST, /* a vhost-user-blk back end listens on socket `place` */
    DISK_QSD    /* qsd_start() */
};

enum disk_where { DISK_AT_FILE, DISK_AT_NBD, DISK_AT_NBD_UNIX, DISK_AT_RBD };

struct disktext { /* pieces are borrowed from `text` */
    enum disk_how how;
    enum disk_where where;
    const char *place;  /* path, host, pool/image */
    const char *port;   /* DISK_AT_NBD */
    const char *export; /* NULL = not said, as all below */
    const char *user;
    const char *format;
    bool read_only;
    bool trusted; /* the format was said, not found */
    char *text;   /* owned */
};

/* `text` is copied. Errors: -EINVAL and a sentence; for a file whose format is not said, what
 * open(2) and read(2) of it say. */
int disktext_parse(const char *text, struct disktext *d, struct err *e) MUST_CHECK;
void disktext_done(struct disktext *d); /* a zeroed one is fine */

#endif
