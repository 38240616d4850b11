/* cmd/stopflags.h - how containers are stopped: flags and request of kiln stop and kiln restart. */
#ifndef CMD_STOPFLAGS_H
#define CMD_STOPFLAGS_H

#include <jansson.h>
#include <stdint.h>

#include "cmd/flag.h"

struct stop_args {
    int signal;      /* 0 = the container's own */
    int64_t timeout; /* s, -1 = wait for ever; INT64_MIN = the container's own */
};
#define STOP_ARGS_NONE ((struct stop_args){.timeout = INT64_MIN})

extern const struct flag_group stopflags;

/* A keeper's request; owned by the caller. */
json_t *stopflags_request(const char *op, const struct stop_args *a);

#endif
