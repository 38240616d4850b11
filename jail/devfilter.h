/* jail/devfilter.h - which devices a v2 control group may use: a BPF program, as v2 has no files
 * for that. Source: Linux cgroup-v2.rst, "Device controller"; linux/bpf.h, struct
 * bpf_cgroup_dev_ctx. Thread: any. */
#ifndef JAIL_DEVFILTER_H
#define JAIL_DEVFILTER_H

#include <linux/bpf.h>

#include "jail/cgroup.h"

/* A rule takes at most so many instructions; a prologue and the default around them. */
enum { DEVFILTER_INSNS_MAX = 16 + 12 * CGROUP_DEVICES_MAX };

/* The program of these rules; what none fits is denied, the last that fits decides. Returns the
 * number of instructions; -EINVAL, -E2BIG. */
int devfilter_build(const struct cgroup_device *d, size_t n,
                    struct bpf_insn out[DEVFILTER_INSNS_MAX], struct err *e) MUST_CHECK;
/* Attach it to the group `dir`; it lives as long as the group. Errors: what bpf(2) says; -EPERM
 * without CAP_BPF and CAP_SYS_ADMIN. */
int devfilter_attach(const char *dir, const struct cgroup_device *d, size_t n,
                     struct err *e) MUST_CHECK;

#endif
