/* container/ctrlogfile.h - the format of a container's log, for its writer and its reader. See
 * container/ctrlog.h. Thread: any. */
#ifndef CONTAINER_CTRLOGFILE_H
#define CONTAINER_CTRLOGFILE_H

#include <stdbool.h>
#include <stdint.h>

#include "container/ctrlog.h"

enum { CTRLOGFILE_MAGIC = 0x4c4e4c4b /* "KLNL" */, CTRLOGFILE_NAME = 16 };

struct ctrlogfile_entry {
    uint32_t len, stream;
    int64_t ns;
};

void ctrlogfile_put32(uint8_t *p, uint32_t v);
uint32_t ctrlogfile_get32(const uint8_t *p);
/* False: no entry begins so. */
bool ctrlogfile_header(const uint8_t h[CTRLOG_HEADER], struct ctrlogfile_entry *out);
/* Of the n-th file, 0 the newest: "log", "log.1". */
void ctrlogfile_name(unsigned n, char out[CTRLOGFILE_NAME]);

#endif
