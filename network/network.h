/* network/network.h - what a container is connected to: modes and named networks, addresses,
 * published ports, names. Without a daemon: what is in force is what the kernel holds (bridges,
 * taps, nftables) and files below ROOT/networks/, and any later process can undo it by the
 * container's id. Named networks as such are netconf.h's.
 *
 *   none        nothing but loopback
 *   user        one passt (VM) or pasta (process class) a container; needs no root; the default
 * then bridge      the default network of root: a bridge with NAT NAME        a network made by
 * `kiln network create`: a bridge of its own host        process class: the host's own container:X
 * process class: the network namespace of X; VM: passt inside that namespace ns:PATH     the same
 * with an existing network namespace tap:DEV     VM: an existing tap device vhost-user:SOCKET  VM:
 * queues served by another process
 *
 * Order of calls, by the process that minds the container: network_attach(); start the machine with
 * what the lease has, or make the process; network_plug() where the lease says so, before the
 * command runs; network_detach() when it ended, also after a failure in between. The lease is kept
 * until then: its descriptors hold the published ports.
 *
 * Thread: the caller's. Concurrent calls of any number of processes are serialised by a lock. */
#ifndef NETWORK_NETWORK_H
#define NETWORK_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum {
    NETWORK_NAME_MAX = 63,
    NETWORK_QUEUES_MAX = 8,
    NETWORK_DNS_MAX = 8,
    NETWORK_PORTS_MAX = 64,
    NETWORK_HOLD_MAX = 2 * NETWORK_PORTS_MAX, /* a port of both families has two sockets */
    NETWORK_ALIASES_MAX = 16,
    NETWORK_PATH_MAX = 256,
};

enum network_kind {                  /* what the container gets */
                    NETWORK_NOTHING, /* loopback; process class: a new network namespace of its own
                                      */
                    NETWORK_TAP,     /* VM: fd[] are tap queues with IFF_VNET_HDR */
                    NETWORK_STREAM,  /* VM: fd[0] is passt's socket */
                    NETWORK_VHOST_USER, /* VM: path is its socket */
                    NETWORK_NETNS, /* process class: fd[0] is a network namespace, made and set up
                                    */
                    NETWORK_PLUG,  /* process class: a new network namespace, then network_plug() */
                    NETWORK_HOST,  /* process class: the host's */
};

struct network_port {
    char host_ip[46];             /* "" = all */
    uint16_t host_port, ctr_port; /* host_port 0: any free one; filled in by network_attach() */
    bool udp;
};

struct network_want {  /* borrowed */
    const char *store; /* root */
    const char *id;    /* the container's: 64 digits */
    const char *name, *hostname;
    bool machine;               /* VM class */
    const char *network;        /* as above; NULL = the default */
    char *const *alias;         /* NULL-terminated, may be NULL */
    const char *ip, *ip6, *mac; /* NULL = kiln chooses. tap:DEV: "ADDRESS/BITS" for the guest */
    const struct network_port *ports;
    size_t n_ports;
    char *const *dns, *const *dns_search, *const *dns_options, *const *add_hosts; /* may be NULL */
    unsigned queues; /* tap: wanted queue pairs; 0 = 1 */
    pid_t join_pid;  /* container:X: a process of X, which the caller has found and which runs */
};

struct network_lease { /* owned: network_lease_done() */
    enum network_kind kind;
    char network[NETWORK_NAME_MAX + 1]; /* "bridge", "user", a name */
    int fd[NETWORK_QUEUES_MAX];         /* owned; -1 */
    unsigned n_fds;
    char path[NETWORK_PATH_MAX];
    pid_t helper; /* passt, pasta: a child of the caller that ends with the container; 0 = none */
    uint8_t mac[6];
    char ip[16], ip6[46], gateway[16], gateway6[46]; /* "" = none */
    unsigned prefix, prefix6, mtu;
    char *resolv, *hosts; /* owned texts of /etc/resolv.conf and /etc/hosts */
    struct network_port port[NETWORK_PORTS_MAX];
    unsigned n_ports;
    int hold[NETWORK_HOLD_MAX]; /* owned: bound sockets, so that nobody else gets the ports */
    unsigned n_hold;
};
#define NETWORK_LEASE_NONE ((struct network_lease){.fd = {-1, -1, -1, -1, -1, -1, -1, -1}})

/* Connect the container; all or nothing. Errors, each with docker's sentence: -ENOENT no such
 * network; -EADDRINUSE a port or address is taken; -EINVAL; -EPERM needs root; -ENOSPC no address
 * is left. */
int network_attach(const struct network_want *w, struct network_lease *l, struct err *e) MUST_CHECK;
/* Of a lease of kind NETWORK_PLUG, with the same *w: connect the network namespace that process
 * `pid` is in, which may lie in a user namespace of its own. l->helper is set. */
int network_plug(const struct network_want *w, struct network_lease *l, pid_t pid,
                 struct err *e) MUST_CHECK;
/* Undo everything attach and plug did for this container, by whatever process, also after a crash.
 * Idempotent. A helper is ended, and reaped where it is the caller's child. */
void network_detach(const char *store, const char *id);
void network_lease_done(struct network_lease *l); /* closes and frees; does not detach */

/* What alive() does not know is detached: what a crash or a restart of the host left. Returns how
 * many containers that were. */
int network_recover(const char *store, bool (*alive)(void *ctx, const char *id), void *ctx,
                    struct err *e) MUST_CHECK;

/* One more network for a container that runs: process class, `pid` one of its processes. *w as for
 * attach; ports and files are not looked at. *l has its addresses. -EOPNOTSUPP: a machine;
 * -EEXIST: it is connected. */
int network_connect(const struct network_want *w, pid_t pid, struct network_lease *l,
                    struct err *e) MUST_CHECK;
/* Take it off that network; the interface goes. -ENOENT: it is not on it. */
int network_disconnect(const char *store, const char *id, const char *network,
                       struct err *e) MUST_CHECK;

#endif
