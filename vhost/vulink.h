/* vhost/vulink.h - the connection of one device to its back end, kept: its end is noticed, and
 * where the back end listens on a socket it is made again. Thread: the I/O loop, or under its lock.
 */
#ifndef VHOST_VULINK_H
#define VHOST_VULINK_H

#include "vhost/vhostuser.h"

struct loop;
struct vulink; /* opaque */

enum { VULINK_RETRY_MS = 500 };

struct vulink_user { /* copied */
    void *ctx;       /* borrowed */
    /* The back end hung up, or sent what nobody asked for (-EPROTO). Not called inside a call. */
    void (*lost)(void *ctx, int why);
    /* There is a new connection: vulink_conn(). */
    void (*found)(void *ctx);
};

/* Connect to the socket at `path` (copied), or take the connected socket `fd` (also on failure)
 * where path is NULL, and begin. *l is borrowed and outlives it. Errors as vhostuser_open(). */
int vulink_new(const char *path, int fd, struct loop *l, struct vulink **ret,
               struct err *e) MUST_CHECK;
void vulink_free(struct vulink *k); /* may be NULL */
void vulink_attach(struct vulink *k, const struct vulink_user *u);
/* The connection, borrowed until lost() or vulink_drop(); NULL = there is none. */
struct vhostuser *vulink_conn(struct vulink *k);
/* There is a connection, and the back end has not hung up. */
bool vulink_alive(const struct vulink *k);
/* There may be another connection after this one: it was made by path. */
bool vulink_lasting(const struct vulink *k);
/* End the connection. `retry`: try to make another one, every VULINK_RETRY_MS, until found(). */
void vulink_drop(struct vulink *k, bool retry);
/* Try now, if there is none: found() is called before this returns, or not at all. */
void vulink_try(struct vulink *k);

#endif
