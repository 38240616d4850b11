/* What a keeper connects its container to. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "container/keeperpriv.h"

static int add_port(struct keeper *k, const struct network_port *p, struct err *e)
{
    if (k->n_ports == NETWORK_PORTS_MAX)
        return err_set(e, -E2BIG, "more than %d published ports", NETWORK_PORTS_MAX);
    k->port[k->n_ports++] = *p;
    return 0;
}

/* "80/tcp", "53/udp": with -P each gets a free port of the host. */
static int add_exposed(struct keeper *k, const char *text, struct err *e)
{
    char *end = NULL;
    long n = strtol(text, &end, 10);

    if (end == text || n < 1 || n > UINT16_MAX || (*end && *end != '/'))
        return err_set(e, -EINVAL, "'%s' is no port", text);
    struct network_port p = {.ctr_port = (uint16_t)n, .udp = strcmp(end, "/udp") == 0};
    for (size_t i = 0; i < k->n_ports; i++)
        if (k->port[i].ctr_port == p.ctr_port && k->port[i].udp == p.udp)
            return 0;
    return add_port(k, &p, e);
}

static int want_ports(struct keeper *k, struct err *e)
{
    const struct spec *s = &k->rec->spec;
    int r = 0;

    k->n_ports = 0;
    for (size_t i = 0; r == 0 && i < s->n_ports; i++) {
        struct network_port p = {.host_port = s->ports[i].host_port,
                                 .ctr_port = s->ports[i].ctr_port,
                                 .udp = s->ports[i].udp};

        snprintf(p.host_ip, sizeof(p.host_ip), "%s",
                 s->ports[i].host_ip ? s->ports[i].host_ip : "");
        r = add_port(k, &p, e);
    }
    for (size_t i = 0; r == 0 && s->publish_all && i < s->exposed.n; i++)
        r = add_exposed(k, s->exposed.v[i], e);
    return r;
}

/* container:X is a process of X's. */
static int find_other(struct keeper *k, struct err *e)
{
    static const char word[] = "container:";
    const char *network = k->rec->spec.network;
    struct record other;

    k->want.join_pid = 0;
    if (!network || strncmp(network, word, sizeof(word) - 1) != 0)
        return 0;
    int r = record_find(k->store, network + sizeof(word) - 1, RECORD_LOOK, &other, e);
    if (r == 0 && (other.state.pid <= 0 || !record_alive(&other)))
        r = err_set(e, -ESRCH, "cannot join the network of container %s: it is not running",
                    other.name);
    k->want.join_pid = other.state.pid;
    record_done(&other);
    return r;
}

static int plug(void *ctx, pid_t pid, struct err *e)
{
    struct keeper *k = ctx;

    return k->lease.kind == NETWORK_PLUG ? network_plug(&k->want, &k->lease, pid, e) : 0;
}

/* For ps, inspect, port. */
static void write_down(struct keeper *k)
{
    const struct network_lease *l = &k->lease;
    struct record_state *s = &k->rec->state;
    struct record_address *a = &s->address[0];

    s->n_addresses = 0;
    if (l->network[0]) {
        s->n_addresses = 1;
        *a = (struct record_address){.prefix = l->prefix, .prefix6 = l->prefix6};
        snprintf(a->network, sizeof(a->network), "%s", l->network);
        snprintf(a->ip, sizeof(a->ip), "%s", l->ip);
        snprintf(a->ip6, sizeof(a->ip6), "%s", l->ip6);
        snprintf(a->gateway, sizeof(a->gateway), "%s", l->gateway);
        snprintf(a->gateway6, sizeof(a->gateway6), "%s", l->gateway6);
        snprintf(a->mac, sizeof(a->mac), "%02x:%02x:%02x:%02x:%02x:%02x", l->mac[0], l->mac[1],
                 l->mac[2], l->mac[3], l->mac[4], l->mac[5]);
    }
    s->n_ports = 0;
    for (unsigned i = 0; i < l->n_ports && s->n_ports < ARRAY_LEN(s->port); i++) {
        struct record_port *p = &s->port[s->n_ports++];

        *p = (struct record_port){.host_port = l->port[i].host_port,
                                  .ctr_port = l->port[i].ctr_port,
                                  .udp = l->port[i].udp};
        memcpy(p->host_ip, l->port[i].host_ip, sizeof(p->host_ip));
    }
}

int keeper_connect(struct keeper *k, struct err *e)
{
    const struct spec *s = &k->rec->spec;
    int r = want_ports(k, e);

    k->want = (struct network_want){
        .store = k->store,
        .id = k->rec->id,
        .name = k->rec->name,
        .hostname = s->hostname ? s->hostname : k->dir.id,
        .machine = s->isolation == SPEC_VM,
        .network = s->network,
        .alias = s->network_alias.v,
        .ip = s->ip,
        .ip6 = s->ip6,
        .mac = s->mac,
        .ports = k->port,
        .n_ports = k->n_ports,
        .dns = s->dns.v,
        .dns_search = s->dns_search.v,
        .dns_options = s->dns_options.v,
        .add_hosts = s->add_hosts.v,
    };
    if (r == 0)
        r = find_other(k, e);
    if (r == 0)
        r = network_attach(&k->want, &k->lease, e);
    if (r < 0)
        return r;
    k->connected = true;
    write_down(k);
    k->tc.net = &k->lease;
    k->tc.plug = plug;
    return 0;
}

void keeper_disconnect(struct keeper *k)
{
    if (!k->connected)
        return;
    k->connected = false;
    k->tc.net = NULL;
    network_detach(k->store, k->rec->id);
    network_lease_done(&k->lease);
    k->lease = NETWORK_LEASE_NONE;
    k->rec->state.n_addresses = k->rec->state.n_ports = 0;
}
