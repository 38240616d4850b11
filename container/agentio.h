/* container/agentio.h - the streams of a process that an agent runs, on an event loop: what
 * session_pump() does for descriptors, for a keeper with its callbacks. Source: proto/agent.h.
 * Thread: the loop's. */
#ifndef CONTAINER_AGENTIO_H
#define CONTAINER_AGENTIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "container/session.h"
#include "container/task.h"
#include "os/loop.h"

struct agentio;

struct agentio_events { /* called on the loop; one may call agentio_free() only in the last two */
    void (*output)(void *ctx, enum task_stream stream, const void *bytes, size_t len);
    void (*input_ready)(void *ctx);
    void (*exited)(void *ctx, int status); /* as of wait(2); nothing is called after it */
    /* The session broke: -ECONNRESET, or -EPROTO with the agent's mistake. Likewise. */
    void (*broken)(void *ctx, const struct err *e);
    void *ctx;
};

/* For a session whose process has started; `s` is owned from here, also on failure. */
int agentio_new(struct session *s, struct loop *l, const struct agentio_events *ev,
                struct agentio **ret, struct err *e) MUST_CHECK;
void agentio_free(struct agentio *a); /* may be NULL; closes the session */

/* As struct task_ops has them. */
size_t agentio_input(struct agentio *a, const void *bytes, size_t len);
size_t agentio_in_flight(const struct agentio *a);
void agentio_input_end(struct agentio *a);
void agentio_hold(struct agentio *a, bool yes);
void agentio_resize(struct agentio *a, uint16_t rows, uint16_t cols);
void agentio_signal(struct agentio *a, int sig);
void agentio_unread(struct agentio *a, enum task_stream stream);
/* The machine is gone: take what it said before, and say so if that was no end. */
void agentio_last_words(struct agentio *a);

#endif
