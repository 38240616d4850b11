/* block/raw.h - the parts of the raw backend; for block/ and its tests.
 *
 * raw.c opens, locks and sorts requests: transfers go to an io_uring (rawring.c) where the host has
 * one, everything else, or everything, to a thread (rawpool.c). */
#ifndef BLOCK_RAW_H
#define BLOCK_RAW_H

#include "block/block.h"

enum raw_io { RAW_IO_AUTO, RAW_IO_URING, RAW_IO_THREAD };

/* raw_open_fd() with the way of transfer chosen. Errors, RAW_IO_URING: what io_uring_setup(2) says.
 */
int raw_open_as(int fd, bool read_only, struct loop *l, enum raw_io how, struct block **ret,
                struct err *e) MUST_CHECK;

/* Drop `n` bytes that were moved from the front of r's iovecs. */
void raw_advance(struct block_req *r, uint64_t n);

/* Transfers and flushes by io_uring. Threads: any, under the lock of the loop. */
struct rawring;
int rawring_new(int fd, struct loop *l, struct rawring **ret, struct err *e) MUST_CHECK;
void rawring_free(struct rawring *g); /* drained; may be NULL */
void rawring_submit(struct rawring *g, struct block_req *r);
void rawring_commit(struct rawring *g);
bool rawring_drain(struct rawring *g); /* false: there was nothing to wait for */

/* Any request, by a thread of its own and synchronous calls. Threads: any, under the lock of
 * the loop. */
struct rawpool;
int rawpool_new(int fd, struct loop *l, struct rawpool **ret, struct err *e) MUST_CHECK;
void rawpool_free(struct rawpool *p); /* drained; may be NULL */
void rawpool_submit(struct rawpool *p, struct block_req *r);
bool rawpool_drain(struct rawpool *p); /* false: there was nothing to wait for */

#endif
