/* net/passt.h - a network without privileges: passt, one process a machine.
 *
 * passt is given one end of a socket pair, the card the other (stream_net). It sandboxes itself and
 * ends when its socket is closed, so when the machine ends. It answers for the gateway and the
 * name server, and carries TCP, UDP and echo requests as sockets of the host's. Thread: the
 * caller's. */
#ifndef NET_PASST_H
#define NET_PASST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum { PASST_PORTS_MAX = 256, PASST_DNS_MAX = 4 };

struct passt_port {
    bool udp;
    const char *ip;       /* address of the host to listen on; NULL = all, IPv4 and IPv6 */
    uint16_t host, guest; /* host 0: as guest */
};

struct passt_conf {                 /* borrowed; NULL and 0: passt's choice */
    const char *program;            /* NULL = "passt" in PATH */
    const char *ip4, *gateway4;     /* address and gateway of the guest, ... */
    unsigned prefix4;               /* ... bits */
    const char *ip6, *gateway6;     /* always /64 */
    const char *dns[PASST_DNS_MAX]; /* what the guest asks */
    unsigned n_dns;
    const char *dns_forward4, *dns_forward6; /* addresses at which the guest reaches the host's own
                                                resolver, and nobody else */
    const char *search;                      /* one domain */
    unsigned mtu;
    const struct passt_port *port;
    unsigned n_ports;
    bool no_map_gw;  /* the gateway's address does not reach the host's own loopback */
    const char *log; /* file; NULL = none */
};

struct passt { /* owned: passt_stop() */
    pid_t pid;
    int fd;         /* the card's end: for stream_net(), whose it may become (set it to -1 then) */
    int complaints; /* a pipe: what it says before it serves */
};
#define PASST_NONE ((struct passt){0, -1, -1})

/* Start it and wait until it serves: its ports are bound. -ENOENT: no passt on this host;
 * -EADDRINUSE: a port is taken; -EINVAL and others: what it complained of. */
int passt_start(const struct passt_conf *c, struct passt *p, struct err *e) MUST_CHECK;
/* The same in two steps, for who has something to do meanwhile. */
int passt_spawn(const struct passt_conf *c, struct passt *p, struct err *e) MUST_CHECK;
int passt_ready(struct passt *p, struct err *e) MUST_CHECK;
/* End it, if it has not ended, and reap it. */
void passt_stop(struct passt *p);

#endif
