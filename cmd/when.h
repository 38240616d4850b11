/* cmd/when.h - a moment as docker reads it: --since and --until. */
#ifndef CMD_WHEN_H
#define CMD_WHEN_H

#include <stdint.h>

#include "base/err.h"

/* "2026-11-21", "2026-11-21T17:40:11[.5][Z|+01:00]" (local time without zone), "1732210811.25"
 * (seconds since 1970), "10m" or "1h30m" (before now): ns since 1970. -EINVAL. */
int when_parse(const char *text, int64_t now_ns, int64_t *ns, struct err *e) MUST_CHECK;

#endif
