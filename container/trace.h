/* container/trace.h - where the time of one start went: moments in their order, set by the process
 * of the caller and that of the machine in memory they share.
 *
 * Each moment ends a phase that began at the moment set before it. Thread: any; each moment is set
 * once. */
#ifndef CONTAINER_TRACE_H
#define CONTAINER_TRACE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

enum trace_moment {
    TRACE_EXEC,    /* the program began to be loaded */
    TRACE_MAIN,    /* its main() */
    TRACE_IMAGE,   /* flags read, kernel and image found */
    TRACE_READY,   /* state folder, initramfs or template at hand */
    TRACE_FORKED,  /* the machine's process runs */
    TRACE_MADE,    /* machine made, or restored */
    TRACE_ENTERED, /* its CPUs run */
    TRACE_AGENT,   /* the agent answers */
    TRACE_MOUNTED, /* identity given, disks mounted */
    TRACE_STARTED, /* the command runs */
    TRACE_EXITED,  /* its end is known here */
    TRACE_GONE,    /* the machine's process is gone */
    TRACE_MOMENTS,
};

enum trace_who { TRACE_KILN, TRACE_MACHINE, TRACE_GUEST };

struct trace {                          /* one shared mapping */
    _Atomic uint64_t at[TRACE_MOMENTS]; /* CLOCK_MONOTONIC, ns; 0 = not reached */
};

struct trace_phase { /* one for each moment reached but the first */
    const char *name;
    enum trace_who who;
    uint64_t from_ns, to_ns; /* from TRACE_EXEC on */
};

/* TRACE_EXEC is now less the CPU time this process has used: what the loader took. NULL with *e:
 * -ENOMEM. */
struct trace *trace_new(struct err *e);
void trace_free(struct trace *t); /* may be NULL */
/* Now is moment `m`. `t` may be NULL: nobody asked. */
void trace_set(struct trace *t, enum trace_moment m);
/* Returns how many. */
unsigned trace_phases(const struct trace *t, struct trace_phase out[TRACE_MOMENTS]);

#endif
