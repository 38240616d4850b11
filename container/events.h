/* container/events.h - what happened to containers, images, volumes and networks: one JSON object a
 * line in ROOT/events.log, written by whoever did it. There is no daemon that could forget.
 *
 * A line as docker has it: {"Type":"container","Action":"start","id":ID,"Actor":{"ID":ID,
 * "Attributes":{"name":...}},"scope":"local","time":s,"timeNano":ns}. Written with one write(2) and
 * O_APPEND, so lines of several processes do not mix. A log of EVENTS_LOG_MAX bytes becomes
 * events.log.1, and the one before is gone. Thread: the caller's. */
#ifndef CONTAINER_EVENTS_H
#define CONTAINER_EVENTS_H

#include <jansson.h>

#include "base/err.h"

enum {
    EVENTS_LOG_MAX = 4 * 1024 * 1024, /* bytes of one file; there are two at most */
    EVENTS_LINE_MAX = 16 * 1024,      /* bytes; a longer one goes without its attributes */
};

/* Note that `action` ("create", "start", "die", "health_status: healthy"...) happened to the
 * `type` ("container", "image", "volume", "network") `id`. `attributes`: name, value, name, value,
 * ..., NULL; a pair with an empty value is left out; NULL = none. root as in image/store.h. What
 * cannot be noted is lost: no verb fails for it. */
void event_note(const char *root, const char *type, const char *action, const char *id,
                const char *const *attributes);

struct events; /* a reader */

/* From the oldest that is kept. Errors: -ENOMEM; what inotify(7) says. */
int events_open(const char *root, struct events **ret, struct err *e) MUST_CHECK;
void events_close(struct events *v); /* may be NULL */
/* The next one, owned by the caller. 1; 0 = no more yet. A damaged line is passed over. */
int events_next(struct events *v, json_t **out, struct err *e) MUST_CHECK;
/* For poll(2): readable = events_next() may have more. Borrowed. */
int events_fd(const struct events *v);

#endif
