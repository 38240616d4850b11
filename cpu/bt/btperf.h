/* cpu/bt/btperf.h - tells perf(1) what lies where in the code cache.
 *
 * /tmp/perf-PID.map, a line a symbol: address and size in hexadecimal, name (perf's own
 * jit-interface.txt). A block is guest_k_ADDR or guest_u_ADDR, by its privilege and the linear
 * address it was first translated at. The format knows no time: after a flush the file begins anew,
 * and samples taken before are attributed to what lies there now. One machine a process. Under the
 * translator's lock. */
#ifndef CPU_BT_BTPERF_H
#define CPU_BT_BTPERF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Makes the file anew, for its owner only. Returns a descriptor. -EEXIST: another user's is there.
 */
int btperf_open(struct err *e) MUST_CHECK;
/* Nothing lies in the cache but the shared stubs. fd < 0: nothing is done, here and below. */
void btperf_reset(int fd, const void *stubs, size_t bytes);
void btperf_block(int fd, const void *code, size_t bytes, bool user, uint64_t lin);

#endif
