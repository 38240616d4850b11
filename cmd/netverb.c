/* kiln network: networks that containers are on. */
#include "cmd/netverb.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/each.h"
#include "cmd/filter.h"
#include "cmd/flags.h"
#include "cmd/format.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "container/events.h"
#include "container/record.h"
#include "image/store.h"
#include "network/netlock.h"

int netverb_root(char root[PATH_MAX], struct err *e)
{
    struct store *s;
    int r = store_open(NULL, &s, e);

    if (r < 0)
        return r;
    snprintf(root, PATH_MAX, "%s", store_root(s));
    store_close(s);
    return 0;
}

void netverb_note(const char *action, const struct netconf *c, const char *container)
{
    const char *const about[] = {
        "name", c->name, "type", "bridge", container ? "container" : NULL, container, NULL};

    event_note(NULL, "network", action, c->id, about);
}

/* ---- create */

struct create_args {
    struct strv subnets, gateways, ranges, options, labels;
    const char *driver, *interface;
    bool ipv6, internal, attachable, no_ipv4;
};

#define A struct create_args
static const struct flag create_flags[] = {
    {"attachable", 0, NULL, NULL, FLAG_BOOL(A, attachable)},
    {"driver", 'd', "NAME", "bridge, the only one", FLAG_TEXT(A, driver), .values = "bridge"},
    {"gateway", 0, "ADDRESS", "the bridge's address in a subnet", FLAG_WORDS(A, gateways)},
    {"interface-name", 0, "NAME", "of the bridge: kn-...", FLAG_TEXT(A, interface)},
    {"internal", 0, NULL, "no way out of it: no routes, no NAT, no published ports",
     FLAG_BOOL(A, internal)},
    {"ip-range", 0, "SUBNET", "addresses are handed out of this part of a subnet",
     FLAG_WORDS(A, ranges)},
    {"ipv6", 0, NULL, "IPv6 too: a private /64 where no subnet is given", FLAG_BOOL(A, ipv6)},
    {"label", 0, "K[=V]", "a label", FLAG_AT(A, labels, flags_label)},
    {"no-ipv4", 0, NULL, "IPv6 alone", FLAG_BOOL(A, no_ipv4)},
    {"opt", 'o', "K=V", "mtu=BYTES", FLAG_WORDS(A, options), .values = "mtu="},
    {"subnet", 0, "SUBNET", "such as 10.5.0.0/24; one of each family", FLAG_WORDS(A, subnets)},
    {0},
};
#undef A
static const struct flag_group create_group = {NULL, create_flags};
static int run_create(int argc, char **argv);
static const struct command network_create = {
    .name = "network create",
    .operands = "NAME",
    .summary = "make a network",
    .about =
        "Makes a network with a bridge of its own and prints its id. Containers on it, of both\n"
        "classes, reach each other by name; other networks do not reach them.",
    .groups = {{&create_group}},
    .min_operands = 1,
    .max_operands = 1,
    .run = run_create,
};

static int create(const struct create_args *a, const char *name, struct err *e)
{
    const struct netconf_want w = {
        .subnets = a->subnets.v,
        .gateways = a->gateways.v,
        .ranges = a->ranges.v,
        .options = a->options.v,
        .labels = a->labels.v,
        .driver = a->driver,
        .interface = a->interface,
        .ipv6 = a->ipv6 || a->no_ipv4,
        .no_ipv4 = a->no_ipv4,
        .internal = a->internal,
    };
    struct netconf c;
    char root[PATH_MAX];
    int r = netverb_root(root, e);

    if (r == 0)
        r = netconf_create(root, name, &w, &c, e);
    if (r < 0)
        return r;
    puts(c.id);
    netverb_note("create", &c, NULL);
    netconf_done(&c);
    return 0;
}

static int run_create(int argc, char **argv)
{
    struct create_args a = {0};
    struct err e = {0};
    int at = flag_parse(&network_create, argc, argv, &a, &e);
    int status = at <= 0                        ? flag_stop(&network_create, at, &e)
                 : create(&a, argv[at], &e) < 0 ? say_err(&e, 1)
                                                : 0;
    struct strv *lists[] = {&a.subnets, &a.gateways, &a.ranges, &a.options, &a.labels};

    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        strv_done(lists[i]);
    return status;
}

/* ---- ls */

struct ls_args {
    struct strv filter;
    const char *format;
    bool quiet, no_trunc;
};

#define A struct ls_args
static const struct flag ls_flags[] = {
    {"filter", 'f', "KEY=VALUE",
     "only those with name=, id=, label=, driver=, type=, dangling=", FLAG_WORDS(A, filter),
     .values = "name= id= label= driver=bridge type=custom type=builtin dangling=true "
               "dangling=false"},
    {"format", 0, "FORMAT", "table, json, or a template such as '{{.Name}}'", FLAG_TEXT(A, format),
     .values = "table json"},
    {"no-trunc", 0, NULL, "whole ids", FLAG_BOOL(A, no_trunc)},
    {"quiet", 'q', NULL, "ids only", FLAG_BOOL(A, quiet)},
    {0},
};
#undef A
static const struct flag_group ls_group = {NULL, ls_flags};
static int run_ls(int argc, char **argv);
static const struct command network_ls = {
    .name = "network ls",
    .summary = "list networks",
    .about =
        "Lists the networks of the store. What needs no bridge is not among them: none, user,\n"
        "host, container:NAME, ns:PATH, tap:DEVICE.",
    .groups = {{&ls_group}},
    .run = run_ls,
};

static const struct format_column columns[] = {
    {"ID", "NETWORK ID"},
    {"Name", "NAME"},
    {"Driver", "DRIVER"},
    {"Scope", "SCOPE"},
    {"Subnets", "SUBNETS", true},
    {"Interface", "INTERFACE", true},
    {"IPv6", "IPV6", true},
    {"Internal", "INTERNAL", true},
    {"Labels", "LABELS", true},
    {"CreatedAt", "CREATED AT", true},
    {0},
};

struct candidate {
    const char *root;
    const struct netconf *c;
};

static bool in_use(const struct candidate *x)
{
    struct leases on = {0};
    bool used = netconf_leases(x->root, x->c, &on, NULL) == 0 && on.n > 0;

    leases_done(&on);
    return used;
}

static bool matches_dangling(void *ctx, const char *value)
{
    return (strcmp(value, "true") == 0 || strcmp(value, "1") == 0) == !in_use(ctx);
}

static bool is_wanted(const struct ls_args *a, struct candidate *x)
{
    const char *type = strcmp(x->c->name, NETCONF_DEFAULT) == 0 ? "builtin" : "custom";

    return filter_part(&a->filter, "name", x->c->name) &&
           filter_prefix(&a->filter, "id", x->c->id) &&
           filter_equal(&a->filter, "driver", "bridge") && filter_equal(&a->filter, "type", type) &&
           filter_labels(&a->filter, x->c->labels.v) &&
           filter_any(&a->filter, "dangling", matches_dangling, x);
}

static json_t *row(const struct netconf *c, bool no_trunc)
{
    char id[HUMAN_MAX], at[HUMAN_MAX], four[IPADDR_CIDR_TEXT], six[IPADDR_CIDR_TEXT];
    char labels[1024] = "", subnets[2 * IPADDR_CIDR_TEXT + 2];
    size_t len = 0;

    for (size_t i = 0; i < c->labels.n && len < sizeof(labels); i++)
        len += (size_t)snprintf(labels + len, sizeof(labels) - len, "%s%s", i ? "," : "",
                                c->labels.v[i]);
    snprintf(subnets, sizeof(subnets), "%s%s%s", ipaddr_cidr(&c->subnet, four),
             c->subnet.family && c->subnet6.family ? "," : "", ipaddr_cidr(&c->subnet6, six));
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "ID",
                     no_trunc ? c->id : human_id(c->id, id), "Name", c->name, "Driver", "bridge",
                     "Scope", "local", "Subnets", subnets, "Interface", c->interface, "IPv6",
                     c->subnet6.family ? "true" : "false", "Internal",
                     c->internal ? "true" : "false", "Labels", labels, "CreatedAt",
                     human_time(c->created_ns, at));
}

static int list(const struct ls_args *a, struct err *e)
{
    struct netconf *all;
    char root[PATH_MAX];
    size_t n;
    int r = filter_check(&a->filter, "name id label driver type dangling", e);

    if (r == 0)
        r = netverb_root(root, e);
    if (r == 0)
        r = netconf_list(root, &all, &n, e);
    if (r < 0)
        return r;
    json_t *rows = json_array();
    for (size_t i = 0; i < n; i++) {
        struct candidate x = {root, &all[i]};

        if (is_wanted(a, &x))
            json_array_append_new(rows, row(&all[i], a->no_trunc));
        netconf_done(&all[i]);
    }
    free(all);
    r = format_list(a->format, columns, a->quiet, "ID", rows, e);
    json_decref(rows);
    return r;
}

static int run_ls(int argc, char **argv)
{
    struct ls_args a = {0};
    struct err e = {0};
    int at = flag_parse(&network_ls, argc, argv, &a, &e);
    int status = at <= 0 ? flag_stop(&network_ls, at, &e) : list(&a, &e) < 0 ? say_err(&e, 1) : 0;

    strv_done(&a.filter);
    return status;
}

/* ---- rm, prune */

struct rm_args {
    bool force;
    char root[PATH_MAX];
};
static const struct flag rm_flags[] = {
    {"force", 'f', NULL, "one that is not there is no failure", FLAG_BOOL(struct rm_args, force)},
    {0},
};
static const struct flag_group rm_group = {NULL, rm_flags};
static int run_rm(int argc, char **argv);
static const struct command network_rm = {
    .name = "network rm",
    .operands = "NETWORK...",
    .summary = "remove networks",
    .about = "Removes networks and their bridges. One that running containers are on stays.",
    .groups = {{&rm_group}},
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@networks",
    .run = run_rm,
};

static int remove_one(void *ctx, const char *name, struct err *e)
{
    const struct rm_args *a = ctx;
    struct netconf c;
    int r = netconf_find(a->root, name, &c, e);

    if (r == 0)
        r = netconf_remove(a->root, c.name, e);
    else
        return a->force && r == -ENOENT ? 0 : r;
    if (r == 0)
        netverb_note("destroy", &c, NULL);
    netconf_done(&c);
    return r;
}

static int run_rm(int argc, char **argv)
{
    struct rm_args a = {0};
    struct err e = {0};
    int at = flag_parse(&network_rm, argc, argv, &a, &e);

    if (at <= 0)
        return flag_stop(&network_rm, at, &e);
    if (netverb_root(a.root, &e) < 0)
        return say_err(&e, 1);
    return each_container(argc - at, argv + at, remove_one, &a);
}

struct prune_args {
    bool force;
    struct strv filter;
};
#define A struct prune_args
static const struct flag prune_flags[] = {
    {"filter", 0, "KEY=VALUE", "only those with label=", FLAG_WORDS(A, filter), .values = "label="},
    {"force", 'f', NULL, "do not ask", FLAG_BOOL(A, force)},
    {0},
};
#undef A
static const struct flag_group prune_group = {NULL, prune_flags};
static int run_prune(int argc, char **argv);
static const struct command network_prune = {
    .name = "network prune",
    .summary = "remove networks that no container has",
    .about = "Removes the networks that no container has, running or not, and what killed\n"
             "containers have left of theirs. Asks before, on a terminal.",
    .groups = {{&prune_group}},
    .run = run_prune,
};

struct records {
    struct record *v;
    size_t n;
};

static bool has_network(const struct records *r, const char *name)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->v[i].spec.network && strcmp(r->v[i].spec.network, name) == 0)
            return true;
    return false;
}

static bool is_alive(void *ctx, const char *id)
{
    const struct records *r = ctx;

    for (size_t i = 0; i < r->n; i++)
        if (strcmp(r->v[i].id, id) == 0)
            return r->v[i].state.status != RECORD_EXITED && r->v[i].state.status != RECORD_CREATED;
    return false;
}

static int prune_all(const struct prune_args *a, struct records *records, const char *root,
                     struct err *e)
{
    struct netconf *all;
    size_t n;
    int r = network_recover(root, is_alive, records, e);

    if (r >= 0)
        r = netconf_list(root, &all, &n, e);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, NETCONF_DEFAULT) != 0 && !has_network(records, all[i].name) &&
            filter_labels(&a->filter, all[i].labels.v) &&
            netconf_remove(root, all[i].name, NULL) == 0) {
            netverb_note("destroy", &all[i], NULL);
            puts(all[i].name);
        }
        netconf_done(&all[i]);
    }
    free(all);
    return 0;
}

static int prune(const struct prune_args *a, struct err *e)
{
    struct records records = {0};
    char root[PATH_MAX];
    int r = filter_check(&a->filter, "label", e);

    if (r < 0 || !confirmed(a->force, "This removes all networks that no container has."))
        return r;
    r = netverb_root(root, e);
    if (r == 0)
        r = record_list(NULL, &records.v, &records.n, NULL, e);
    if (r < 0)
        return r;
    r = prune_all(a, &records, root, e);
    for (size_t i = 0; i < records.n; i++)
        record_done(&records.v[i]);
    free(records.v);
    return r;
}

static int run_prune(int argc, char **argv)
{
    struct prune_args a = {0};
    struct err e = {0};
    int at = flag_parse(&network_prune, argc, argv, &a, &e);
    int status = at <= 0             ? flag_stop(&network_prune, at, &e)
                 : prune(&a, &e) < 0 ? say_err(&e, 1)
                                     : 0;

    strv_done(&a.filter);
    return status;
}

static const struct command *const verbs[] = {&network_connect_verb,
                                              &network_create,
                                              &network_disconnect_verb,
                                              &network_inspect,
                                              &network_ls,
                                              &network_prune,
                                              &network_rm,
                                              NULL};
const struct command command_network = {
    .name = "network",
    .summary = "networks that containers are on",
    .sub = verbs,
};
