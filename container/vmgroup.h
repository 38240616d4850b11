/* container/vmgroup.h - the control group of a machine's process: what limits of a container hold
 * on the host, where its RAM and its number of CPUs do not say it already.
 *
 * Memory: the machine's RAM and what its process needs besides (VMGROUP_OVERHEAD, the translated
 * code, tables of RAM's size), so that a container with --memory costs the host no more than that.
 * CPU: --cpus that is no whole number, --cpu-quota, --cpu-shares, --cpuset-cpus. Without any of
 * these there is no group. Thread: the caller's. */
#ifndef CONTAINER_VMGROUP_H
#define CONTAINER_VMGROUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "container/spec.h"
#include "jail/cgroup.h"

enum { VMGROUP_OVERHEAD_MIB = 96 };

/* Of a machine with this much RAM and translated code. */
uint64_t vmgroup_memory(uint64_t ram_bytes, uint64_t code_bytes);
/* The group of `id`; layout CGROUP_NONE: none is needed. Errors as cgroup_make(). */
int vmgroup_make(const struct spec *s, const char *id, uint64_t ram_bytes, struct cgroup *out,
                 struct err *e) MUST_CHECK;
/* Whether a process of it was killed for want of memory. */
bool vmgroup_oom(const struct cgroup *g);
void vmgroup_remove(const struct cgroup *g);
/* After a crash; one that is not there is none. */
void vmgroup_recover(const char *id);

#endif
