/* container/hold.h - a request to a machine while its container's processes stand still, so that
 * those in what comes of it (a snapshot, forks) run only once they have an identity of their own.
 * Thread: the caller's. */
#ifndef CONTAINER_HOLD_H
#define CONTAINER_HOLD_H

#include <jansson.h>

#include "base/err.h"

/* As control_ask(); the processes go on when it returns. A machine without kiln's agent, or one
 * that is paused, is asked without that. Errors: also what session_hold() says, but for -ENOTSUP.
 */
int hold_ask(const char *machine, const json_t *req, json_t **answer, struct err *e) MUST_CHECK;

#endif
