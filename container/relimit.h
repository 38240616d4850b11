/* container/relimit.h - new limits for a container, running or not.
 *
 * Process class: its control group, by its keeper. VM: CPU time within its CPUs, memory within its
 * RAM, and processes, by the container's control group in the guest, by its agent; until it stops.
 * There is no way to give a running machine more RAM or CPUs: update it while it is stopped.
 * Thread: the caller's. */
#ifndef CONTAINER_RELIMIT_H
#define CONTAINER_RELIMIT_H

#include "base/err.h"
#include "container/record.h"
#include "container/task.h"

struct relimit { /* SPEC_UNSET = as it is */
    struct task_limits limits;
    const char *restart; /* a policy, which the caller puts into the spec; NULL = as it is */
};
void relimit_init(struct relimit *l);
bool relimit_any(const struct relimit *l);

/* r is locked; its spec is written. Errors: -EINVAL out of range; -EBUSY more is in use now;
 * -EOPNOTSUPP: there is no control group for it. What was in force before a failure may have
 * changed in part; the spec has not. */
int relimit(struct record *r, const struct relimit *l, struct err *e) MUST_CHECK;

#endif
