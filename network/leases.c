#include "network/leases.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

void leases_entry_done(struct leases_entry *en)
{
    strv_done(&en->alias);
    strv_done(&en->dns);
    free(en->port);
    *en = (struct leases_entry){0};
}

void leases_done(struct leases *l)
{
    for (size_t i = 0; i < l->n; i++)
        leases_entry_done(&l->v[i]);
    free(l->v);
    *l = (struct leases){0};
}

struct leases_entry *leases_find(const struct leases *l, const char *id)
{
    for (size_t i = 0; i < l->n; i++)
        if (strcmp(l->v[i].id, id) == 0)
            return &l->v[i];
    return NULL;
}

int leases_add(struct leases *l, struct leases_entry *en, struct err *e)
{
    if (l->n == LEASES_MAX) {
        leases_entry_done(en);
        return err_set(e, -ENOSPC, "there are %d containers on it", LEASES_MAX);
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 16;
        struct leases_entry *v = realloc(l->v, cap * sizeof(*v));

        if (!v) {
            leases_entry_done(en);
            return err_errno(e, -ENOMEM, "leases");
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = *en;
    *en = (struct leases_entry){0};
    return 0;
}

void leases_remove(struct leases *l, struct leases_entry *en)
{
    size_t i = (size_t)(en - l->v);

    leases_entry_done(en);
    memmove(en, en + 1, (l->n - i - 1) * sizeof(*en));
    l->n--;
}

static bool used(const struct leases *l, const struct ipaddr *a)
{
    for (size_t i = 0; i < l->n; i++)
        if (ipaddr_equal(&l->v[i].ip, a) || ipaddr_equal(&l->v[i].ip6, a))
            return true;
    return false;
}

static bool reserved(const struct ipaddr *subnet, const struct ipaddr *gateway,
                     const struct ipaddr *a)
{
    uint64_t n = ipaddr_index(subnet, a);

    return n == 0 || ipaddr_equal(gateway, a) ||
           (subnet->family == AF_INET && n == ipaddr_count(subnet) - 1);
}

int leases_pick(const struct leases *l, const struct ipaddr *subnet, const struct ipaddr *range,
                const struct ipaddr *gateway, struct ipaddr *out, struct err *e)
{
    /* Of any n + 3 addresses one is free or the range is too small: three are never given. */
    size_t bits = l->n + 4;
    CLEANUP(mem) uint8_t *taken = calloc(bits / 8 + 1, 1);
    uint64_t count = ipaddr_count(range);
    char text[IPADDR_CIDR_TEXT];

    if (!taken)
        return err_errno(e, -ENOMEM, "addresses");
    for (size_t i = 0; i < l->n; i++) {
        struct ipaddr a = range->family == AF_INET ? l->v[i].ip : l->v[i].ip6;

        a.bits = (uint8_t)(ipaddr_len(&a) * 8); /* itself, not its subnet, which is wider */
        uint64_t n = ipaddr_contains(range, &a) ? ipaddr_index(range, &a) : UINT64_MAX;

        if (n < bits)
            taken[n / 8] |= (uint8_t)(1 << n % 8);
    }
    for (uint64_t n = 0; n < bits && n < count; n++) {
        struct ipaddr a = ipaddr_nth(range, n);

        if (taken[n / 8] & 1 << n % 8 || reserved(subnet, gateway, &a))
            continue;
        a.bits = subnet->bits;
        *out = a;
        return 0;
    }
    return err_set(e, -ENOSPC, "no available IPv%c addresses in %s",
                   range->family == AF_INET ? '4' : '6', ipaddr_cidr(range, text));
}

int leases_check(const struct leases *l, const struct ipaddr *subnet, const struct ipaddr *gateway,
                 const struct ipaddr *a, struct err *e)
{
    char text[IPADDR_TEXT], net[IPADDR_CIDR_TEXT];

    if (!ipaddr_contains(subnet, a))
        return err_set(e, -EINVAL, "address %s is not in the network's subnet %s",
                       ipaddr_text(a, text), subnet->family ? ipaddr_cidr(subnet, net) : "(none)");
    if (used(l, a) || reserved(subnet, gateway, a))
        return err_set(e, -EADDRINUSE, "address %s: address already in use", ipaddr_text(a, text));
    return 0;
}

void leases_mac(const struct ipaddr *ip, uint8_t mac[6])
{
    mac[0] = ip->family == AF_INET ? 0x02 : 0x06;
    mac[1] = 'k';
    memcpy(mac + 2, ip->bytes + ipaddr_len(ip) - 4, 4);
}

int leases_parse_mac(const char *text, uint8_t mac[6], struct err *e)
{
    unsigned b[6];
    char end;

    if (strspn(text, "0123456789abcdefABCDEF:") != strlen(text) ||
        sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5], &end) !=
            6 ||
        b[0] & 1)
        return err_set(e, -EINVAL, "'%s' is not a MAC address of one machine", text);
    for (unsigned i = 0; i < 6; i++)
        mac[i] = (uint8_t)b[i];
    return 0;
}
