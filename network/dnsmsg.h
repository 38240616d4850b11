/* network/dnsmsg.h - DNS messages as far as a network's name server reads and writes them itself.
 * Source: RFC 1035, 4; RFC 6891 (EDNS). Pure: safe on any bytes, no allocation. */
#ifndef NETWORK_DNSMSG_H
#define NETWORK_DNSMSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "network/ipaddr.h"

enum {
    DNSMSG_HEADER = 12,    /* bytes; 4.1.1 */
    DNSMSG_NAME_MAX = 256, /* of a name as text, NUL included; 2.3.4 */
    DNSMSG_UDP = 512,      /* bytes of a datagram without EDNS; 4.2.1 */
    DNSMSG_UDP_MAX = 1232, /* that we send with it: no fragments on any path */
    DNSMSG_MAX = 65535,
    DNSMSG_ANSWERS_MAX = 32,
};

enum dnsmsg_type {
    DNSMSG_A = 1,
    DNSMSG_PTR = 12,
    DNSMSG_AAAA = 28,
    DNSMSG_OPT = 41,
    DNSMSG_ANY = 255
};
enum dnsmsg_rcode {
    DNSMSG_NOERROR = 0,
    DNSMSG_FORMERR = 1,
    DNSMSG_SERVFAIL = 2,
    DNSMSG_NXDOMAIN = 3,
    DNSMSG_NOTIMP = 4,
    DNSMSG_REFUSED = 5,
};

struct dnsmsg_query {
    uint16_t id, flags, type, class;
    char name[DNSMSG_NAME_MAX]; /* lower case, dots between labels; "" = the root, or one that is no
                                 * text: `plain` tells them apart */
    bool plain;
    bool edns;
    uint16_t udp_size; /* what a datagram to the asker may have */
    size_t question;   /* bytes of header and question */
};

/* One question, standard query. 0; -EPROTO: not to be answered (too short, or itself an answer);
 * -EBADMSG, -EOPNOTSUPP: to be answered with FORMERR, NOTIMP: then *q has id, flags. */
int dnsmsg_parse(const uint8_t *p, size_t len, struct dnsmsg_query *q);

struct dnsmsg_answer {
    enum dnsmsg_rcode rcode;
    unsigned n;
    struct ipaddr ip[DNSMSG_ANSWERS_MAX]; /* of A, AAAA */
    char ptr[DNSMSG_NAME_MAX];            /* of PTR; "" = none */
};

/* The reply to the query that `query` holds, of at most `size` (>= DNSMSG_UDP) bytes; what does not
 * fit is left out and TC set (4.2.1). Returns its length. */
size_t dnsmsg_reply(const uint8_t *query, const struct dnsmsg_query *q,
                    const struct dnsmsg_answer *a, uint8_t *out, size_t size);

/* The address in "2.0.212.10.in-addr.arpa", or an ip6.arpa name; false: it is none. */
bool dnsmsg_reverse(const char *name, struct ipaddr *out);

#endif
