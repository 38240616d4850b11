/* container/wire.h - frames over one connected socket, with deadlines: what session.c and pump.c
 * share. Source: proto/agent.h. Thread: one. */
#ifndef CONTAINER_WIRE_H
#define CONTAINER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "container/session.h"
#include "proto/agent.h"

enum { SESSION_AHEAD_MAX = 4 };
enum { WIRE_IN = PROTO_HDR + PROTO_FRAME_MAX };

struct session {
    int fd; /* owned, non-blocking */
    struct session_watch watch;
    bool ahead;  /* requests do not wait for their answers: session_await() does */
    bool called; /* the line "OK" of the socket device is still to come */
    enum proto_type expect[SESSION_AHEAD_MAX]; /* outstanding answers */
    unsigned n_expect;
    size_t out_off; /* of out.len: already sent */
    size_t in_len;
    struct proto_buf out; /* one frame on its way */
    uint8_t in[WIRE_IN];
};

uint64_t wire_now_ms(void);
/* Wait for `events` on fd. 0; -ETIMEDOUT, or as session_watch says. deadline_ms: CLOCK_MONOTONIC,
 * UINT64_MAX = never. `last_signal` may be NULL. */
int wire_wait(int fd, short events, const struct session_watch *w, uint64_t deadline_ms,
              struct err *e) MUST_CHECK;
/* Send all of s->out. */
int wire_send(struct session *s, uint64_t deadline_ms, struct err *e) MUST_CHECK;
/* Non-blocking. 1 = all sent, 0 = later, or -errno. */
int wire_flush(struct session *s);
/* Next frame; borrowed until wire_drop(). */
int wire_next(struct session *s, uint64_t deadline_ms, struct proto_frame *f,
              struct err *e) MUST_CHECK;
/* Read what is there. Bytes, 0 = nothing now, -ECONNRESET = end. */
int wire_fill(struct session *s);
void wire_drop(struct session *s, const struct proto_frame *f); /* the first frame is done with */
/* The agent's ERROR as a code of ours. */
int wire_error(const struct proto_frame *f, struct err *e) MUST_CHECK;

#endif
