/* network/netlock.h - the folder of a store's networks, and who may change what.
 *
 * ROOT/networks/lock serialises changes of the files of one store; root takes
 * /run/kiln-network.lock too, since bridges and nftables are the host's, whatever the store. Both
 * by flock(2): a killed holder lets go. Thread: the caller's. */
#ifndef NETWORK_NETLOCK_H
#define NETWORK_NETLOCK_H

#include <stddef.h>

#include "base/err.h"

struct netlock { /* owned: netlock_give() */
    int dir;     /* ROOT/networks */
    int fd, host;
};
#define NETLOCK_NONE ((struct netlock){-1, -1, -1})

/* Waits for it. Makes the folder. `store` NULL: the host's part alone. */
int netlock_take(const char *store, struct netlock *l, struct err *e) MUST_CHECK;
void netlock_give(struct netlock *l);
static inline void cleanup_netlock(struct netlock *l)
{
    netlock_give(l);
}

/* ROOT/networks, made when missing, without the lock: for looking. Owned. */
int netlock_folder(const char *store, struct err *e) MUST_CHECK;

/* Replace file `name` of folder `dir` whole, mode 0644. */
int netlock_write(int dir, const char *name, const char *text, size_t len,
                  struct err *e) MUST_CHECK;
/* All of a file of at most `max` bytes, NUL behind it; *text owned by the caller. -EFBIG. */
int netlock_read(int dir, const char *name, size_t max, char **text, size_t *len,
                 struct err *e) MUST_CHECK;

#endif
