/* process/defaults.h - what a container has when nobody says otherwise: docker's defaults, in one
 * place. Thread: any; all of it is constant. */
#ifndef PROCESS_DEFAULTS_H
#define PROCESS_DEFAULTS_H

#include <linux/capability.h>
#include <stdint.h>

#include "process/process.h"

#define DEFAULTS_CAP(c) (1ull << (c))
/* Bounding, effective and permitted. Not inheritable: programs with file capabilities would get
 * more than their file says (CVE-2022-24769). */
#define DEFAULTS_CAPS                                                                            \
    (DEFAULTS_CAP(CAP_CHOWN) | DEFAULTS_CAP(CAP_DAC_OVERRIDE) | DEFAULTS_CAP(CAP_FOWNER) |       \
     DEFAULTS_CAP(CAP_FSETID) | DEFAULTS_CAP(CAP_KILL) | DEFAULTS_CAP(CAP_SETGID) |              \
     DEFAULTS_CAP(CAP_SETUID) | DEFAULTS_CAP(CAP_SETPCAP) | DEFAULTS_CAP(CAP_NET_BIND_SERVICE) | \
     DEFAULTS_CAP(CAP_NET_RAW) | DEFAULTS_CAP(CAP_SYS_CHROOT) | DEFAULTS_CAP(CAP_MKNOD) |        \
     DEFAULTS_CAP(CAP_AUDIT_WRITE) | DEFAULTS_CAP(CAP_SETFCAP))
/* All that this kernel header knows: --privileged, --cap-add ALL. */
#define DEFAULTS_CAPS_ALL (DEFAULTS_CAP(CAP_LAST_CAP) | (DEFAULTS_CAP(CAP_LAST_CAP) - 1))

/* A set as the five of a process of root's. */
struct process_caps defaults_caps(uint64_t set);
/* "NET_ADMIN", "cap_net_admin" as its number; -EINVAL. */
int defaults_cap_number(const char *name);

extern const char *const defaults_masked_paths[];   /* NULL-terminated */
extern const char *const defaults_readonly_paths[]; /* NULL-terminated */

/* /dev/null and the like. */
extern const struct process_device defaults_devices[];
extern const size_t defaults_n_devices;
/* The cgroup's rules for them, any mknod, ptys, and /dev/net/tun not. */
extern const struct cgroup_device defaults_device_rules[];
extern const size_t defaults_n_device_rules;

/* proc, /dev, devpts, mqueue, shm, sysfs, cgroup in the order they are to be made.
 * DEFAULTS_SHM is the index of /dev/shm, whose size is an option. */
extern const struct process_mount defaults_mounts[];
extern const size_t defaults_n_mounts;
enum { DEFAULTS_DEVPTS = 2, DEFAULTS_SHM = 4, DEFAULTS_SYSFS = 5, DEFAULTS_CGROUP = 6 };
/* devpts where no group 5 is mapped. */
#define DEFAULTS_DEVPTS_PLAIN "newinstance,ptmxmode=0666,mode=0620"

#endif
