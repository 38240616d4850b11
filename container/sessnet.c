#include "container/sessnet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* u8 bits and addresses of one family; 1 = they are in `out`, 0 = `ip` is none. */
static int pack_address(const char *ip, unsigned prefix, const char *via, uint8_t *out, size_t *len,
                        struct err *e)
{
    bool six = ip && strchr(ip, ':');
    size_t n = six ? 16 : 4;

    if (!ip || !ip[0])
        return 0;
    out[0] = (uint8_t)prefix;
    memset(out + 1, 0, 2 * n);
    if (prefix > 8 * n || inet_pton(six ? AF_INET6 : AF_INET, ip, out + 1) != 1 ||
        (via && via[0] && inet_pton(six ? AF_INET6 : AF_INET, via, out + 1 + n) != 1))
        return err_set(e, -EINVAL, "'%s/%u'%s%s: not an address", ip, prefix, via ? " by " : "",
                       via ? via : "");
    *len = 1 + n;
    return 1;
}

static int put_address(struct proto_buf *b, const char *ip, unsigned prefix, struct err *e)
{
    uint8_t bytes[33];
    size_t len = 0;
    int r = pack_address(ip, prefix, NULL, bytes, &len, e);

    if (r == 1)
        proto_put(b, (enum proto_field)PN_ADDR, bytes, len);
    return r < 0 ? r : 0;
}

static int put_route(struct proto_buf *b, const char *to, unsigned prefix, const char *via,
                     struct err *e)
{
    uint8_t bytes[33];
    size_t len = 0;
    int r = pack_address(to, prefix, via ? via : "", bytes, &len, e);

    if (r == 1)
        proto_put(b, (enum proto_field)PN_ROUTE, bytes, 2 * len - 1);
    return r < 0 ? r : 0;
}

static int put_net(struct proto_buf *b, const struct session_net *n, struct err *e)
{
    int r = put_address(b, n->ip, n->prefix, e);

    if (memcmp(n->mac, (uint8_t[6]){0}, sizeof(n->mac)) != 0)
        proto_put(b, (enum proto_field)PN_MAC, n->mac, sizeof(n->mac));
    if (n->mtu)
        proto_put_u32(b, (enum proto_field)PN_MTU, n->mtu);
    if (r == 0)
        r = put_address(b, n->ip6, n->prefix6, e);
    if (r == 0 && n->gateway && n->gateway[0])
        r = put_route(b, "0.0.0.0", 0, n->gateway, e);
    if (r == 0 && n->gateway6 && n->gateway6[0])
        r = put_route(b, "::", 0, n->gateway6, e);
    for (unsigned i = 0; r == 0 && i < n->n_routes; i++)
        r = put_route(b, n->route[i].to, n->route[i].prefix, n->route[i].via, e);
    return r;
}

/* Each card's fields are the bytes of one. */
int sessnet_put(struct proto_buf *out, const struct session_setup *c, struct err *e)
{
    struct proto_buf *b = c->n_nets ? malloc(sizeof(*b)) : NULL;
    int r = c->n_nets && !b ? err_set(e, -ENOMEM, "out of memory") : 0;

    for (unsigned i = 0; r == 0 && i < c->n_nets; i++) {
        proto_begin(b, 0, 0);
        r = put_net(b, &c->net[i], e);
        if (r == 0 && b->overflow)
            r = err_set(e, -E2BIG, "network card %u has too many routes", i);
        if (r == 0)
            proto_put(out, PF_NET, b->b + PROTO_HDR, b->len - PROTO_HDR);
    }
    free(b);
    return r;
}
