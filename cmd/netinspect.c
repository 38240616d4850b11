/* kiln network inspect, connect, disconnect. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "cmd/format.h"
#include "cmd/netverb.h"
#include "cmd/verb.h"
#include "container/record.h"

/* ---- inspect */

struct inspect_args {
    const char *format;
    bool verbose;
};
static const struct flag inspect_flags[] = {
    {"format", 'f', "FORMAT", "json, or a template such as '{{.Name}}'",
     FLAG_TEXT(struct inspect_args, format), .values = "json"},
    {"verbose", 'v', NULL, NULL, FLAG_BOOL(struct inspect_args, verbose)},
    {0},
};
static const struct flag_group inspect_group = {NULL, inspect_flags};
static int run_inspect(int argc, char **argv);
const struct command network_inspect = {
    .name = "network inspect",
    .operands = "NETWORK...",
    .summary = "show all that is known of networks",
    .groups = {{&inspect_group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@networks",
    .run = run_inspect,
};

static json_t *subnet_json(const struct ipaddr *net, const struct ipaddr *gateway,
                           const struct ipaddr *range)
{
    char a[IPADDR_CIDR_TEXT], b[IPADDR_TEXT], c[IPADDR_CIDR_TEXT];
    json_t *o =
        json_pack("{s:s, s:s}", "Subnet", ipaddr_cidr(net, a), "Gateway", ipaddr_text(gateway, b));

    if (o && (range->bits != net->bits || !ipaddr_equal(range, net)))
        json_object_set_new(o, "IPRange", json_string(ipaddr_cidr(range, c)));
    return o;
}

static json_t *labels_json(const struct strv *labels)
{
    json_t *o = json_object();

    for (size_t i = 0; i < labels->n; i++) {
        const char *eq = strchr(labels->v[i], '=');
        CLEANUP(mem) char *key = strndup(labels->v[i], strcspn(labels->v[i], "="));

        if (key)
            json_object_set_new(o, key, json_string(eq ? eq + 1 : ""));
    }
    return o;
}

static json_t *containers_json(const struct leases *on)
{
    json_t *o = json_object();

    for (size_t i = 0; i < on->n; i++) {
        const struct leases_entry *en = &on->v[i];
        char ip[IPADDR_CIDR_TEXT], ip6[IPADDR_CIDR_TEXT], mac[18];

        snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", en->mac[0], en->mac[1],
                 en->mac[2], en->mac[3], en->mac[4], en->mac[5]);
        json_object_set_new(o, en->id,
                            json_pack("{s:s, s:s, s:s, s:s, s:s}", "Name", en->name, "Interface",
                                      en->interface, "MacAddress", mac, "IPv4Address",
                                      ipaddr_cidr(&en->ip, ip), "IPv6Address",
                                      ipaddr_cidr(&en->ip6, ip6)));
    }
    return o;
}

static json_t *describe(const struct netconf *c, const struct leases *on)
{
    json_t *config = json_array(), *options = json_object();
    char at[64], mtu[16];
    time_t when = (time_t)(c->created_ns / 1000000000);
    struct tm tm;

    gmtime_r(&when, &tm);
    strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (c->subnet.family)
        json_array_append_new(config, subnet_json(&c->subnet, &c->gateway, &c->range));
    if (c->subnet6.family)
        json_array_append_new(config, subnet_json(&c->subnet6, &c->gateway6, &c->range6));
    snprintf(mtu, sizeof(mtu), "%u", c->mtu);
    if (c->mtu)
        json_object_set_new(options, "mtu", json_string(mtu));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:{s:s, s:{}, s:o}, s:b, s:o, s:o, "
                     "s:o}",
                     "Name", c->name, "Id", c->id, "Created", at, "Scope", "local", "Driver",
                     "bridge", "Interface", c->interface, "EnableIPv4", c->subnet.family != 0,
                     "EnableIPv6", c->subnet6.family != 0, "IPAM", "Driver", "default", "Options",
                     "Config", config, "Internal", c->internal, "Containers", containers_json(on),
                     "Options", options, "Labels", labels_json(&c->labels));
}

json_t *netverb_inspect(const char *root, const char *name, struct err *e)
{
    struct leases on = {0};
    struct netconf c;
    json_t *j = NULL;

    if (netconf_find(root, name, &c, e) < 0)
        return NULL;
    if (netconf_leases(root, &c, &on, e) == 0)
        j = describe(&c, &on);
    leases_done(&on);
    netconf_done(&c);
    return j;
}

static int run_inspect(int argc, char **argv)
{
    struct inspect_args a = {0};
    struct err e = {0};
    char root[PATH_MAX];
    int at = flag_parse(&network_inspect, argc, argv, &a, &e), status = 0;

    if (at <= 0)
        return flag_stop(&network_inspect, at, &e);
    if (netverb_root(root, &e) < 0)
        return say_err(&e, 1);
    bool template = a.format && strcmp(a.format, "json") != 0;
    json_t *all = json_array();
    for (int i = at; i < argc; i++) {
        json_t *j = netverb_inspect(root, argv[i], &e);

        if (!j) {
            status = say_err(&e, 1);
        } else if (template) {
            if (format_value(a.format, j, stdout, &e) < 0)
                status = say_err(&e, 1);
            json_decref(j);
        } else {
            json_array_append_new(all, j);
        }
    }
    if (!template && format_value(NULL, all, stdout, &e) < 0)
        status = say_err(&e, 1);
    json_decref(all);
    return status;
}

/* ---- connect, disconnect */

struct connect_args {
    struct strv alias;
    const char *ip, *ip6, *mac;
    bool force;
};
#define A struct connect_args
static const struct flag connect_flags[] = {
    {"alias", 0, "NAME", "a further name of it on the network", FLAG_WORDS(A, alias)},
    {"ip", 0, "ADDRESS", "its IPv4 address", FLAG_TEXT(A, ip)},
    {"ip6", 0, "ADDRESS", "its IPv6 address", FLAG_TEXT(A, ip6)},
    {"mac-address", 0, "MAC", "of its interface", FLAG_TEXT(A, mac)},
    {0},
};
static const struct flag_group connect_group = {NULL, connect_flags};
static int run_connect(int argc, char **argv);
const struct command network_connect_verb = {
    .name = "network connect",
    .operands = "NETWORK CONTAINER",
    .summary = "put a running container on one more network",
    .about =
        "Gives a running container of the process class an interface on one more network, until\n"
        "it stops. A machine has the network it was started with.",
    .groups = {{&connect_group}},
    .min_operands = 2,
    .max_operands = 2,
    .values = "@networks @container",
    .run = run_connect,
};

static const struct flag disconnect_flags[] = {
    {"force", 'f', NULL, "it need not be running", FLAG_BOOL(A, force)},
    {0},
};
#undef A
static const struct flag_group disconnect_group = {NULL, disconnect_flags};
static int run_disconnect(int argc, char **argv);
const struct command network_disconnect_verb = {
    .name = "network disconnect",
    .operands = "NETWORK CONTAINER",
    .summary = "take a running container off a network",
    .groups = {{&disconnect_group}},
    .min_operands = 2,
    .max_operands = 2,
    .values = "@networks @container",
    .run = run_disconnect,
};

static bool runs(const struct record *r)
{
    return r->state.pid > 0 && record_alive(r);
}

static void put_address(struct record_address *a, const struct network_lease *l)
{
    *a = (struct record_address){.prefix = l->prefix, .prefix6 = l->prefix6};
    snprintf(a->network, sizeof(a->network), "%s", l->network);
    snprintf(a->ip, sizeof(a->ip), "%s", l->ip);
    snprintf(a->ip6, sizeof(a->ip6), "%s", l->ip6);
    snprintf(a->gateway, sizeof(a->gateway), "%s", l->gateway);
    snprintf(a->gateway6, sizeof(a->gateway6), "%s", l->gateway6);
    snprintf(a->mac, sizeof(a->mac), "%02x:%02x:%02x:%02x:%02x:%02x", l->mac[0], l->mac[1],
             l->mac[2], l->mac[3], l->mac[4], l->mac[5]);
}

/* For ps and inspect. */
static int write_connected(struct record *r, const struct network_lease *l, struct err *e)
{
    struct record_state *s = &r->state;

    if (s->n_addresses < ARRAY_LEN(s->address))
        put_address(&s->address[s->n_addresses++], l);
    return record_save(r, e);
}

static int write_disconnected(struct record *r, const char *network, struct err *e)
{
    struct record_state *s = &r->state;
    unsigned kept = 0;

    for (unsigned i = 0; i < s->n_addresses; i++)
        if (strcmp(s->address[i].network, network) != 0)
            s->address[kept++] = s->address[i];
    s->n_addresses = kept;
    return record_save(r, e);
}

static int connect_one(const struct connect_args *a, const char *root, const struct netconf *c,
                       struct record *r, struct err *e)
{
    struct network_lease l = NETWORK_LEASE_NONE;
    const struct network_want w = {
        .store = root,
        .id = r->id,
        .name = r->name,
        .machine = r->spec.isolation == SPEC_VM,
        .network = c->name,
        .alias = a->alias.v,
        .ip = a->ip,
        .ip6 = a->ip6,
        .mac = a->mac,
        .dns = r->spec.dns.v,
    };
    int n = runs(r) ? network_connect(&w, r->state.pid, &l, e)
                    : err_set(e, -ESRCH, "container %s is not running", r->name);

    if (n == 0)
        n = write_connected(r, &l, e);
    network_lease_done(&l);
    return n;
}

/* Both operands found, the container's record locked. */
static int with_both(char **operand, const struct connect_args *a, bool connect, struct err *e)
{
    char root[PATH_MAX];
    struct netconf c;
    struct record r;
    int n = netverb_root(root, e);

    if (n == 0)
        n = netconf_find(root, operand[0], &c, e);
    if (n < 0)
        return n;
    n = record_find(root, operand[1], RECORD_CHANGE, &r, e);
    if (n < 0) {
        netconf_done(&c);
        return n;
    }
    if (connect)
        n = connect_one(a, root, &c, &r, e);
    else
        n = network_disconnect(root, r.id, c.name, e);
    if (n == 0 && !connect)
        n = write_disconnected(&r, c.name, e);
    if (n == 0)
        netverb_note(connect ? "connect" : "disconnect", &c, r.id);
    record_done(&r);
    netconf_done(&c);
    return n;
}

static int run_both(const struct command *command, int argc, char **argv, bool connect)
{
    struct connect_args a = {0};
    struct err e = {0};
    int at = flag_parse(command, argc, argv, &a, &e);
    int status = at <= 0                                     ? flag_stop(command, at, &e)
                 : with_both(argv + at, &a, connect, &e) < 0 ? say_err(&e, 1)
                                                             : 0;

    strv_done(&a.alias);
    return status;
}

static int run_connect(int argc, char **argv)
{
    return run_both(&network_connect_verb, argc, argv, true);
}

static int run_disconnect(int argc, char **argv)
{
    return run_both(&network_disconnect_verb, argc, argv, false);
}
