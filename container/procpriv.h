/* container/procpriv.h - what procconf.c and procpower.c share. */
#ifndef CONTAINER_PROCPRIV_H
#define CONTAINER_PROCPRIV_H

#include "container/procconf.h"

/* A copy that lives as long as *p; NULL = no memory. */
const char *procconf_keep(struct procconf *p, const char *text);
/* Devices, hidden paths, limits of a start. */
int procconf_powers(const struct task_conf *c, struct procconf *p, struct err *e) MUST_CHECK;
int procconf_group_path(const struct spec *s, const char *id, struct procconf *p,
                        struct err *e) MUST_CHECK;

#endif
