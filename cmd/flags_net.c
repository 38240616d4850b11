/* Flags that say what a container is connected to. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cmd/flags.h"
#include "container/spec.h"

struct port_range {
    unsigned from, to;
};

static bool read_port(const char *text, size_t len, unsigned *port)
{
    unsigned v = 0;

    if (!len || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        v = v * 10 + (unsigned)(text[i] - '0');
    }
    *port = v;
    return v <= 65535;
}

/* "80" or "8000-8010" */
static int read_range(const char *text, struct port_range *r, struct err *e)
{
    const char *dash = strchr(text, '-');
    size_t n = dash ? (size_t)(dash - text) : strlen(text);

    if (!read_port(text, n, &r->from) || (dash && !read_port(dash + 1, strlen(dash + 1), &r->to)))
        return err_set(e, -EINVAL, "'%s' is not a port or a range of ports", text);
    if (!dash)
        r->to = r->from;
    if (r->to < r->from)
        return err_set(e, -EINVAL, "the range '%s' ends before it begins", text);
    return 0;
}

/* "/tcp", "/udp" at the end, cut off. */
static int take_protocol(char *text, bool *udp, struct err *e)
{
    char *slash = strchr(text, '/');

    *udp = false;
    if (!slash)
        return 0;
    *slash++ = '\0';
    *udp = strcasecmp(slash, "udp") == 0;
    if (!*udp && strcasecmp(slash, "tcp") != 0)
        return err_set(e, -EINVAL, "protocol '%s' is neither tcp nor udp", slash);
    return 0;
}

static int add_port(struct spec *s, const struct spec_port *p, struct err *e)
{
    for (size_t i = 0; p->host_port && i < s->n_ports; i++) {
        const struct spec_port *q = &s->ports[i];
        bool both = !q->host_ip || !p->host_ip || strcmp(q->host_ip, p->host_ip) == 0;

        if (both && q->host_port == p->host_port && q->udp == p->udp && q->ctr_port != p->ctr_port)
            return err_set(e, -EINVAL, "port %u of the host is given twice", p->host_port);
    }
    if (s->n_ports == SPEC_PORTS_MAX)
        return err_set(e, -E2BIG, "more than %d ports", SPEC_PORTS_MAX);
    struct spec_port *all = reallocarray(s->ports, s->n_ports + 1, sizeof(*all));
    if (!all)
        return err_errno(e, -ENOMEM, "port %u", p->ctr_port);
    s->ports = all;
    all[s->n_ports] = *p;
    if (p->host_ip && !(all[s->n_ports].host_ip = strdup(p->host_ip)))
        return err_errno(e, -ENOMEM, "port %u", p->ctr_port);
    s->n_ports++;
    return 0;
}

static bool is_address(const char *text, int family)
{
    struct in6_addr a;

    return inet_pton(family, text, &a) == 1;
}

/* The address in front of the ports, in brackets where it is IPv6; *rest: the ports. */
static int take_ip(char *text, char **ip, char **rest, struct err *e)
{
    char *colon;

    *ip = NULL;
    *rest = text;
    if (text[0] == '[') {
        char *close = strchr(text, ']');

        if (!close || close[1] != ':')
            return err_set(e, -EINVAL, "the bracket of '%s' is not closed", text);
        *close = '\0';
        *ip = text + 1;
        *rest = close + 2;
    } else if ((colon = strchr(text, ':')) && strchr(colon + 1, ':')) {
        *colon = '\0';
        *ip = text;
        *rest = colon + 1;
    }
    if (*ip && !is_address(*ip, AF_INET) && !is_address(*ip, AF_INET6))
        return err_set(e, -EINVAL, "'%s' is not an IP address", *ip);
    return 0;
}

/* [[IP:][HOST]:]GUEST[/PROTOCOL], ports as numbers or as ranges of one length. */
static int publish(struct spec *s, char *text, struct err *e)
{
    struct port_range guest, host = {0, 0};
    struct spec_port p = {0};
    char *rest = text;
    int r = take_protocol(text, &p.udp, e);

    if (r == 0)
        r = take_ip(text, &p.host_ip, &rest, e);
    if (r < 0)
        return r;
    char *colon = strchr(rest, ':');
    if (colon)
        *colon = '\0';
    r = read_range(colon ? colon + 1 : rest, &guest, e);
    if (r == 0 && colon && rest[0])
        r = read_range(rest, &host, e);
    if (r < 0)
        return r;
    if (guest.from == 0)
        return err_set(e, -EINVAL, "port 0 of the container is none");
    if (host.from && host.to - host.from != guest.to - guest.from)
        return err_set(e, -EINVAL, "the ranges differ in length");
    for (unsigned i = 0; r == 0 && i <= guest.to - guest.from; i++) {
        p.ctr_port = (uint16_t)(guest.from + i);
        p.host_port = (uint16_t)(host.from ? host.from + i : 0);
        r = add_port(s, &p, e);
    }
    return r;
}

static int add_publish(void *spec, const char *value, struct err *e)
{
    CLEANUP(mem) char *text = strdup(value);

    if (!text)
        return err_errno(e, -ENOMEM, "'%s'", value);
    int r = publish(spec, text, e);
    return r < 0 ? err_wrap(e, r, "'%s'", value) : 0;
}

static int add_expose(void *strv, const char *value, struct err *e)
{
    CLEANUP(mem) char *text = strdup(value);
    struct port_range range;
    bool udp;
    int r = text ? take_protocol(text, &udp, e) : err_errno(e, -ENOMEM, "'%s'", value);

    if (r == 0)
        r = read_range(text, &range, e);
    for (unsigned p = range.from; r == 0 && p <= range.to; p++) {
        r = strv_addf(strv, "%u/%s", p, udp ? "udp" : "tcp");
        if (r < 0)
            return err_errno(e, r, "'%s'", value);
    }
    return r;
}

static int add_dns(void *strv, const char *value, struct err *e)
{
    if (!is_address(value, AF_INET) && !is_address(value, AF_INET6))
        return err_set(e, -EINVAL, "'%s' is not an IP address", value);
    int r = strv_add(strv, value);
    return r < 0 ? err_errno(e, r, "'%s'", value) : 0;
}

/* NAME:IP, or NAME=IP as newer dockers have it; IP may be host-gateway. */
static int add_host(void *strv, const char *value, struct err *e)
{
    size_t n = strcspn(value, "=:");
    const char *ip = value[n] ? value + n + 1 : "";
    size_t len = strlen(ip);
    char bare[INET6_ADDRSTRLEN] = "";

    if (ip[0] == '[' && len > 2 && ip[len - 1] == ']' && len - 2 < sizeof(bare))
        snprintf(bare, sizeof(bare), "%.*s", (int)len - 2, ip + 1);
    else if (len < sizeof(bare))
        snprintf(bare, sizeof(bare), "%s", ip);
    if (!n || (!is_address(bare, AF_INET) && !is_address(bare, AF_INET6) &&
               strcmp(bare, "host-gateway") != 0))
        return err_set(e, -EINVAL, "'%s': write NAME:IP", value);
    int r = strv_addf(strv, "%.*s:%s", (int)n, value, bare);
    return r < 0 ? err_errno(e, r, "'%s'", value) : 0;
}

static int set_ip(void *text, const char *value, struct err *e)
{
    if (!is_address(value, AF_INET))
        return err_set(e, -EINVAL, "'%s' is not an IPv4 address", value);
    return flags_copy(text, value, e);
}

static int set_ip6(void *text, const char *value, struct err *e)
{
    if (!is_address(value, AF_INET6))
        return err_set(e, -EINVAL, "'%s' is not an IPv6 address", value);
    return flags_copy(text, value, e);
}

static int set_mac(void *text, const char *value, struct err *e)
{
    unsigned first = 0;
    bool good = strlen(value) == 17;

    for (unsigned i = 0; good && i < 17; i++)
        good = i % 3 == 2 ? value[i] == ':' : isxdigit((unsigned char)value[i]) != 0;
    if (good)
        first = (unsigned)strtoul(value, NULL, 16);
    if (!good || first & 1) /* the lowest bit marks groups: IEEE 802, 8.2 */
        return err_set(e, -EINVAL, "'%s' is not the MAC address of one card", value);
    return flags_copy(text, value, e);
}

static int set_network(void *text, const char *value, struct err *e)
{
    /* docker's word for its default network. */
    return flags_copy(text, strcmp(value, "default") == 0 ? "bridge" : value, e);
}

#define S struct spec
static const struct flag net_flags[] = {
    {"network", 0, "NETWORK",
     "none, user, bridge, host, a network's name, container:NAME, tap:DEV, ns:PATH or "
     "vhost-user:SOCKET",
     FLAG_AT(S, network, set_network), .values = "@network"},
    {"net", 0, "NETWORK", NULL, FLAG_AT(S, network, set_network), .values = "@network"},
    {"publish", 'p', "[[IP:]HOST:]GUEST[/udp]", "a port of this host leads to one of its ports",
     FLAG_SET(add_publish)},
    {"publish-all", 'P', NULL, "free ports of this host lead to all that the image exposes",
     FLAG_BOOL(S, publish_all)},
    {"expose", 0, "PORT[/udp]", "a port that -P publishes too", FLAG_AT(S, exposed, add_expose)},
    {"network-alias", 0, "NAME", "a further name of it on its network",
     FLAG_WORDS(S, network_alias)},
    {"net-alias", 0, "NAME", NULL, FLAG_WORDS(S, network_alias)},
    {"ip", 0, "IP", "its IPv4 address", FLAG_AT(S, ip, set_ip)},
    {"ip6", 0, "IP", "its IPv6 address", FLAG_AT(S, ip6, set_ip6)},
    {"mac-address", 0, "MAC", "its MAC address", FLAG_AT(S, mac, set_mac)},
    {"dns", 0, "IP", "a name server", FLAG_AT(S, dns, add_dns)},
    {"dns-search", 0, "DOMAIN", "a domain that names are looked up in", FLAG_WORDS(S, dns_search)},
    {"dns-option", 0, "WORD", "an option of its resolver", FLAG_WORDS(S, dns_options)},
    {"dns-opt", 0, "WORD", NULL, FLAG_WORDS(S, dns_options)},
    {"add-host", 0, "NAME:IP", "a line of its /etc/hosts", FLAG_AT(S, add_hosts, add_host)},
    {0},
};
const struct flag_group flags_net = {"Network", net_flags};
