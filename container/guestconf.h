/* container/guestconf.h - what the machine of a container is made of: command line, disk, shares,
 * socket. Thread: the caller's. */
#ifndef CONTAINER_GUESTCONF_H
#define CONTAINER_GUESTCONF_H

#include <stdbool.h>
#include <stdint.h>

#include "container/session.h"
#include "container/volume.h"
#include "vm/vm.h"

struct guest_conf {         /* borrowed */
    const char *store;      /* where templates are kept; NULL = the machine boots */
    const char *kernel;     /* path of the kernel's file */
    const char *kernel_dir; /* its folder with modules; NULL = none */
    const char *rootfs, *fstype;
    const char *engine;
    unsigned cpus;
    uint64_t ram_bytes;
    uint64_t code_cache_bytes;         /* 0 = default */
    bool perf_map;                     /* of the machine's process */
    bool count_insns;                  /* for its statistics */
    const char *upper;                 /* disk of the writable layer; NULL = it is in memory */
    const struct vm_disk *disk;        /* further ones, and ... */
    unsigned n_disks;                  /* <= GUESTCONF_DISKS_MAX */
    const struct vm_share *share;      /* folders and files of the host; tags are set here */
    unsigned n_shares;                 /* <= VOLUME_MAX */
    const struct vm_net *net;          /* network cards, and ... */
    const struct session_net *net_set; /* ... what the guest makes of each; n_nets of both */
    unsigned n_nets;
    const char *hosts, *resolv; /* texts of /etc/hosts and /etc/resolv.conf; NULL = none of ours */
};

enum { GUESTCONF_DISKS_MAX = VM_DISKS_MAX - 2 };

/* What the guest mounts as share `i`. Static. */
const char *guestconf_tag(unsigned i);
/* Where the guest finds the writable layer, and further disk `i`. Static. */
#define GUESTCONF_UPPER "/dev/vdb"
const char *guestconf_disk(unsigned i);

/* A machine for *c, strings borrowed from it and `vsock`; the initramfs is the caller's. `slots`:
 * one like a template's: with shares, if there are any, in all of their slots. */
void guestconf_fill(const struct guest_conf *c, const char *vsock, bool slots, struct vm_conf *out);
/* What initrd_build() must add for it. */
unsigned guestconf_modules(const struct vm_conf *vc);
/* The template's own machine: nothing is in the slots yet. */
void guestconf_empty(struct vm_conf *vc);

#endif
