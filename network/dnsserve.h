/* network/dnsserve.h - the name server's work: questions of a network's containers, by UDP and TCP;
 * own names from its leases (dnsname.h), the rest passed on. Everything an asker controls has a
 * limit: what is beyond is dropped, and who asked asks again.
 *
 * Passed-on datagrams have a socket, and so a source port, and a random id of their own each; only
 * an answer from the server asked, with that id, comes back. Thread: one. */
#ifndef NETWORK_DNSSERVE_H
#define NETWORK_DNSSERVE_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "network/dnsmsg.h"
#include "network/dnsname.h"

enum {
    DNSSERVE_UP_MAX = 8,
    DNSSERVE_ASKS_MAX = 256,   /* datagrams passed on and not yet answered */
    DNSSERVE_ASKS_EACH = 64,   /* of one asker */
    DNSSERVE_TALKS_MAX = 32,   /* TCP connections */
    DNSSERVE_TALKS_EACH = 8,   /* of one asker */
    DNSSERVE_QUERY_MAX = 4096, /* bytes of a question */
    DNSSERVE_TRIES = 4,        /* servers asked in turn */
    DNSSERVE_TRY_MS = 2000,    /* before the next server is asked */
    DNSSERVE_TALK_MS = 10000,  /* of a TCP connection without progress */
    DNSSERVE_LISTEN_MAX = 2,   /* addresses of the gateway */
};

struct dnsserve_conf {            /* borrowed */
    int udp[DNSSERVE_LISTEN_MAX]; /* bound; -1 = none */
    int tcp[DNSSERVE_LISTEN_MAX]; /* listening, non-blocking */
    int folder;                   /* of the network, where `leases` is */
    const struct netconf *net;
    struct ipaddr up[DNSSERVE_UP_MAX];
    unsigned n_up;
    uint16_t up_port; /* 53; another in tests */
};

struct dnsserve;
/* NULL = no memory. */
struct dnsserve *dnsserve_new(const struct dnsserve_conf *c);
void dnsserve_free(struct dnsserve *s);
/* One round: wait at most timeout_ms (-1 = as long as it takes), do what there is to do. */
void dnsserve_once(struct dnsserve *s, int timeout_ms);

#endif
