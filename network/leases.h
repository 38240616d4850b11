/* network/leases.h - which container has what on one network: ROOT/networks/NAME/leases, a text of
 * one line a container, replaced whole. It is written before anything is made in the kernel and
 * after everything is undone there, so it names all that a crash can leave. The name server reads
 * its names from it.
 *
 *   ID NAME INTERFACE MAC IPV4 IPV6 HELPER START ALIASES DNS PORTS
 *
 * "-" stands for nothing; lists have commas; a port is "tcp/8080/80/HOST-IP". Text and not JSON: a
 * start reads all lines for a free address, and they may be a thousand.
 *
 * Thread: the caller's. Written under netlock_take()'s lock. */
#ifndef NETWORK_LEASES_H
#define NETWORK_LEASES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/strv.h"
#include "network/ipaddr.h"
#include "network/network.h"

enum {
    LEASES_MAX = 65536,                  /* containers of one network */
    LEASES_BYTES_MAX = 64 * 1024 * 1024, /* of the file */
    LEASES_ID_MAX = 64,
    LEASES_LINE_PORTS_MAX = NETWORK_PORTS_MAX,
};

struct leases_entry { /* owned: leases_entry_done() */
    char id[LEASES_ID_MAX + 1];
    char name[NETWORK_NAME_MAX + 1]; /* "" = none */
    char interface[16];              /* the host's end; "" = none */
    uint8_t mac[6];
    struct ipaddr ip, ip6;
    pid_t helper;          /* 0 = none */
    uint64_t helper_start; /* field 22 of its /proc/PID/stat */
    struct strv alias, dns;
    struct network_port *port; /* owned */
    unsigned n_ports;
};
void leases_entry_done(struct leases_entry *en);

struct leases { /* owned: leases_done(); {0} = empty */
    struct leases_entry *v;
    size_t n, cap;
};
void leases_done(struct leases *l);

/* `dir` is the network's folder; without the file it is empty. -EBADMSG with the line's number. */
int leases_load(int dir, struct leases *l, struct err *e) MUST_CHECK;
int leases_save(int dir, const struct leases *l, struct err *e);
int leases_parse(char *text, size_t len, struct leases *l,
                 struct err *e) MUST_CHECK; /* text is
                                               chopped up */
/* NUL-terminated; owned by the caller; NULL = no memory. */
char *leases_format(const struct leases *l, size_t *len);

struct leases_entry *leases_find(const struct leases *l, const char *id); /* or NULL */
/* Takes *en over, also on failure. */
int leases_add(struct leases *l, struct leases_entry *en, struct err *e) MUST_CHECK;
void leases_remove(struct leases *l, struct leases_entry *en);

/* An address of `range`, which lies in `subnet`, that no entry and no gateway has; the first and,
 * of IPv4, the last of the subnet are left out. -ENOSPC. */
int leases_pick(const struct leases *l, const struct ipaddr *subnet, const struct ipaddr *range,
                const struct ipaddr *gateway, struct ipaddr *out, struct err *e) MUST_CHECK;
/* May somebody have `a`, who asked for it? -EINVAL outside of the subnet; -EADDRINUSE. */
int leases_check(const struct leases *l, const struct ipaddr *subnet, const struct ipaddr *gateway,
                 const struct ipaddr *a, struct err *e) MUST_CHECK;
/* Locally administered, unique where the addresses are. */
void leases_mac(const struct ipaddr *ip, uint8_t mac[6]);
/* "02:6b:0a:00:00:02"; -EINVAL: not six bytes in hexadecimal, or a multicast one. */
int leases_parse_mac(const char *text, uint8_t mac[6], struct err *e) MUST_CHECK;

#endif
