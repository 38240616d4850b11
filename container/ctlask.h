/* container/ctlask.h - the asker's part of control.h's operations; private to container/.
 * Thread: the caller's. */
#ifndef CONTAINER_CTLASK_H
#define CONTAINER_CTLASK_H

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"
#include "container/ctlwire.h"

/* A connection to the machine's socket, owned by the caller. -ENOENT no such machine. */
int ctlask_connect(const char *machine, struct err *e) MUST_CHECK;
/* One request and its answer (owned by the caller) there. `fds` (borrowed) may be NULL. */
int ctlask_on(int fd, const json_t *req, const struct ctlwire_fds *fds, json_t **answer,
              struct err *e) MUST_CHECK;
/* What a line says: 0 with *answer (owned by the caller), or the error in it. */
int ctlask_read(const char *line, json_t **answer, struct err *e) MUST_CHECK;
/* Whose process has the other end; -1 = not known. */
pid_t ctlask_peer(int fd);

/* ctlsnap.c, ctlfork.c: control_ask() of these operations. */
int ctlsnap_ask(const char *machine, const json_t *req, json_t **answer, struct err *e) MUST_CHECK;
int ctlfork_ask(const char *machine, const json_t *req, json_t **answer, struct err *e) MUST_CHECK;

#endif
