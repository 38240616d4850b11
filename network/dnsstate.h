/* network/dnsstate.h - what the two halves of the name server share: dnsserve.c (datagrams, the
 * round) and dnstalk.c (connections). Private to them. */
#ifndef NETWORK_DNSSTATE_H
#define NETWORK_DNSSTATE_H

#include "network/dnsserve.h"

union dnsaddr {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

struct dnsask { /* a datagram passed on; fd -1 = unused */
    int fd, reply_fd;
    union dnsaddr from;
    socklen_t from_len;
    struct ipaddr asker;
    uint16_t id, own_id;
    unsigned tries;
    uint64_t until_ms;
    uint8_t *query; /* owned */
    size_t len;
};

enum dnstalk_state { DNSTALK_READING, DNSTALK_CONNECTING, DNSTALK_WAITING, DNSTALK_SENDING };

struct dnstalk { /* a connection; client -1 = unused */
    int client, up;
    enum dnstalk_state state;
    struct ipaddr asker;
    uint64_t until_ms;
    uint8_t in[2 + DNSSERVE_QUERY_MAX]; /* questions, each behind its length (RFC 1035, 4.2.2) */
    size_t have;
    uint8_t *out; /* owned: an answer of DNSMSG_MAX bytes behind its length */
    size_t out_len, out_at;
};

struct dnsserve {
    struct dnsserve_conf c;
    struct leases leases;
    struct stat seen; /* the file these were read from */
    unsigned turn;
    struct dnsask ask[DNSSERVE_ASKS_MAX];
    struct dnstalk talk[DNSSERVE_TALKS_MAX];
    struct pollfd poll[2 * DNSSERVE_LISTEN_MAX + DNSSERVE_ASKS_MAX + 2 * DNSSERVE_TALKS_MAX];
};

uint64_t dnsserve_now_ms(void);
struct ipaddr dnsserve_address(const union dnsaddr *a);
socklen_t dnsserve_fill(union dnsaddr *a, const struct ipaddr *ip, uint16_t port);
/* May this address ask? */
bool dnsserve_admits(const struct dnsserve *s, const struct ipaddr *asker);
/* The answer to a question: its length; 0 = pass it on; -1 = do not answer. */
int dnsserve_answer(struct dnsserve *s, const uint8_t *p, size_t len, bool datagram, uint8_t *out,
                    size_t size);
/* The n-th server to ask on behalf of this container; false: there is none. */
bool dnsserve_upstream(const struct dnsserve *s, const struct ipaddr *asker, unsigned n,
                       struct ipaddr *out);

void dnstalk_accept(struct dnsserve *s, int listener);
/* What it waits for, on which descriptor. */
void dnstalk_want(const struct dnstalk *t, struct pollfd *client, struct pollfd *up);
void dnstalk_event(struct dnsserve *s, struct dnstalk *t, bool client, bool up);
void dnstalk_close(struct dnstalk *t);

#endif
