/* cmd/netflag.h - --net of kiln boot and kiln restore: one network card.
 *
 *   none | tap:NAME | user | vhost-user:SOCKET | vhost-user-server:SOCKET
 *                           [,mac=MAC] [,mtu=N] [,queues=N] [,rx-rate=SIZE] [,tx-rate=SIZE]
 *                           [,publish=[IP/]HOST[:GUEST][/udp]]...
 *
 * Thread: the caller's. */
#ifndef CMD_NETFLAG_H
#define CMD_NETFLAG_H

#include "base/err.h"
#include "net/passt.h"
#include "vm/vm.h"

enum { NETFLAG_PORTS_MAX = 32 };

struct netflag {
    struct vm_net card; /* what the machine gets; descriptors owned by this */
    char *text;         /* owned copy of what was typed; the others point into it */
    const char *tap;    /* NULL: another kind */
    bool user;
    struct passt passt;
    struct passt_port port[NETFLAG_PORTS_MAX];
    unsigned n_ports;
};

/* Read the flag's value. -EINVAL with a sentence. */
int netflag_parse(const char *text, struct netflag *n, struct err *e) MUST_CHECK;
/* Open the tap or start passt. */
int netflag_open(struct netflag *n, struct err *e) MUST_CHECK;
/* The machine has the descriptors: only it is to hold them open. passt goes on. */
void netflag_handed(struct netflag *n);
void netflag_done(struct netflag *n); /* ends passt; a zeroed one is fine */

#endif
