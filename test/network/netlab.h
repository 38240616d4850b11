/* test/network/netlab.h - a host of its own for tests of networks: a network namespace with a way
 * out to another one, "outside", that plays the rest of the world. What the tests make is counted
 * there, so nothing on the real host is touched or confused with it. */
#ifndef TEST_NETWORK_NETLAB_H
#define TEST_NETWORK_NETLAB_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "network/network.h"

#define NETLAB_HOST "198.51.100.1"
#define NETLAB_OUTSIDE "198.51.100.2"
#define NETLAB_HOST6 "2001:db8:99::1"
#define NETLAB_OUTSIDE6 "2001:db8:99::2"

struct netlab {
    char store[48];
    int host, outside; /* namespaces; the calling thread is in the first */
};

/* Exits the process with status 77 and a reason where it cannot be (not root). */
void netlab_open(struct netlab *n);
void netlab_close(struct netlab *n);

/* What is there of kiln's now: interfaces, tables of nftables, minders. Waits until it is `want` or
 * ten seconds have passed; returns what it saw last. */
unsigned netlab_count(const struct netlab *n, unsigned want);

/* A container's stand-in, by number. */
void netlab_id(unsigned number, char id[65]);
int netlab_attach(const struct netlab *n, unsigned number, const char *network, bool machine,
                  const struct network_port *ports, size_t n_ports, struct network_lease *l,
                  struct err *e);
void netlab_detach(const struct netlab *n, unsigned number, struct network_lease *l);

/* Sockets in a namespace. serve: answers each connection, or datagram, with `word`, until stopped;
 * returns a process, for netlab_stop(). ask: what comes back from there, or ""; ns -1 = where the
 * caller is. */
pid_t netlab_serve(int ns, const char *ip, unsigned port, bool udp, const char *word);
void netlab_stop(pid_t pid);
const char *netlab_ask(int ns, const char *ip, unsigned port, bool udp, char answer[64]);
/* The first address of a name, asked of `server` there; "" = none. */
const char *netlab_resolve(int ns, const char *server, const char *name, bool ip6, char answer[64]);
/* A shell command in a namespace: its exit status. */
int netlab_sh(int ns, const char *cmd);

#endif
