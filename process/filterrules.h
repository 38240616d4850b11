/* process/filterrules.h - the default filter as libseccomp's rules: for mkfilter.c, which runs at
 * build time, and for containers with other capabilities. Thread: any. */
#ifndef PROCESS_FILTERRULES_H
#define PROCESS_FILTERRULES_H

#include <linux/filter.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Capabilities whose presence changes the default filter. */
uint64_t filterrules_relevant(void);
/* *insns owned by the caller. */
int filterrules_default(uint64_t caps, struct sock_filter **insns, size_t *n,
                        struct err *e) MUST_CHECK;
/* The program of a libseccomp context. *insns owned by the caller. */
int filterrules_export(void *ctx, struct sock_filter **insns, size_t *n, struct err *e) MUST_CHECK;

#endif
