/* cmd/psrow.h - a container as a row of kiln ps: the fields docker's templates know, and what
 * filters ask. Thread: the caller's. */
#ifndef CMD_PSROW_H
#define CMD_PSROW_H

#include <jansson.h>
#include <stdbool.h>

#include "container/record.h"

struct psrow_how {
    int64_t now_ns;
    bool no_trunc;
    bool size; /* .Size is wanted: every file of the writable layer is looked at */
};

/* A new reference. Members: ID Names Image Command CreatedAt RunningFor Ports State Status Size
 * Labels Mounts LocalVolumes Networks Isolation Engine Pid Health. */
json_t *psrow_of(const struct record *r, const struct psrow_how *how);
/* A machine without a container, of what control_ask() told about it. */
json_t *psrow_machine(const json_t *info, const struct psrow_how *how);

/* "Up 3 minutes (healthy)", "Exited (0) 2 hours ago". `len` bytes. */
void psrow_status(const struct record *r, int64_t now_ns, char *buf, size_t len);
/* "0.0.0.0:80->80/tcp, 443/tcp": owned by the caller; NULL = no memory. */
char *psrow_ports(const struct record *r);

#endif
