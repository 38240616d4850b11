/* jail/jailfilter.h - the compiled lists of system calls; private to jail/. */
#ifndef JAIL_JAILFILTER_H
#define JAIL_JAILFILTER_H

#include <stdbool.h>

#include "base/err.h"
#include "os/role.h"

enum jailfilter_program {
    JAILFILTER_VCPU,
    JAILFILTER_IO,
    JAILFILTER_IO_FILES, /* of a machine with shared folders, as CONTROL_FILES */
    JAILFILTER_BLOCK,
    JAILFILTER_MEMORY,
    JAILFILTER_LOG,
    JAILFILTER_WRITER,
    JAILFILTER_CONTROL,
    JAILFILTER_CONTROL_FILES,
    JAILFILTER_PROGRAMS
};

enum {
    JAILFILTER_PID = 0x5a5a5a01, /* in a compiled program: the process's own id */
    JAILFILTER_MAX = 1024,       /* instructions of a program */
    JAILFILTER_WHY_MAX = 4095,   /* the highest descriptor a report can go to */
};

/* Once a process, before its first list: a call outside of one is reported to why_fd and ends it.
 */
int jailfilter_prepare(struct err *e) MUST_CHECK;
/* On the calling thread, for good; in builds with a sanitizer nothing happens. -errno. */
int jailfilter_install(enum thread_role role, bool files, int why_fd) MUST_CHECK;
/* The role as it is called in a sentence. Static. */
const char *jailfilter_role(enum thread_role role);

#endif
