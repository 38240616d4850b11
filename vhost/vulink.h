/* vhost/vulink.h - the connection of one device to its back end, kept: its end is noticed, and
 * where one of the two listens on a socket it is made again. Thread: the I/O loop, or under its
 * lock. */
#ifndef VHOST_VULINK_H
#define VHOST_VULINK_H

#include "vhost/vhostuser.h"

struct loop;
struct vulink; /* opaque */

enum {
    VULINK_RETRY_MS = 500,
    VULINK_AWAIT_MS = 60000, /* for the first connection where this side listens */
};

/* Who connects again for a process that cannot. */
struct vulink_dial {
    int (*dial)(void *ctx, const char *path); /* a descriptor, or -errno */
    void *ctx;                                /* borrowed */
};

struct vulink_place {               /* borrowed */
    const char *path;               /* of a socket; NULL: `fd` */
    bool listen;                    /* at `path`, for a back end that connects */
    int fd;                         /* a connected socket, taken, also on failure */
    const struct vulink_dial *dial; /* from the second connection on; NULL = this process */
};

struct vulink_user { /* copied */
    void *ctx;       /* borrowed */
    /* The back end hung up, or sent what nobody asked for (-EPROTO). Not called inside a call. */
    void (*lost)(void *ctx, int why);
    /* There is a new connection: vulink_conn(). */
    void (*found)(void *ctx);
};

/* Connect and begin. *l is borrowed and outlives it. Errors as vhostuser_open(); -EADDRINUSE:
 * somebody else listens there. */
int vulink_new(const struct vulink_place *p, struct loop *l, struct vulink **ret,
               struct err *e) MUST_CHECK;
void vulink_free(struct vulink *k); /* may be NULL */
void vulink_attach(struct vulink *k, const struct vulink_user *u);
/* The connection, borrowed until lost() or vulink_drop(); NULL = there is none. */
struct vhostuser *vulink_conn(struct vulink *k);
/* There is a connection, and the back end has not hung up. */
bool vulink_alive(const struct vulink *k);
/* There may be another connection after this one: there is a path. */
bool vulink_lasting(const struct vulink *k);
/* End the connection. `retry`: try to make another one, every VULINK_RETRY_MS, or take the next
 * that comes, until found(). */
void vulink_drop(struct vulink *k, bool retry);
/* Try now, if there is none: found() is called before this returns, or not at all. */
void vulink_try(struct vulink *k);

#endif
