#include "network/dnsname.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { CLASS_IN = 1 };

const struct leases_entry *dnsname_owner(const struct leases *l, const struct ipaddr *ip)
{
    for (size_t i = 0; i < l->n; i++)
        if (ipaddr_equal(&l->v[i].ip, ip) || ipaddr_equal(&l->v[i].ip6, ip))
            return &l->v[i];
    return NULL;
}

/* `name` is in lower case and has `len` letters. */
static bool is(const char *text, const char *name, size_t len)
{
    return strncasecmp(text, name, len) == 0 && !text[len];
}

static bool named(const struct leases_entry *en, const char *name, size_t len)
{
    if (len == 0)
        return false;
    if (is(en->name, name, len) || is(en->id, name, len) ||
        (len == DNSNAME_SHORT && strncasecmp(en->id, name, len) == 0))
        return true;
    for (size_t i = 0; i < en->alias.n; i++)
        if (is(en->alias.v[i], name, len))
            return true;
    return false;
}

static bool any_named(const struct leases *l, const char *name, size_t len)
{
    for (size_t i = 0; i < l->n; i++)
        if (named(&l->v[i], name, len))
            return true;
    return false;
}

/* Letters of the name that are the container's; 0 = nobody has it. */
static size_t own_part(const struct netconf *c, const struct leases *l, const char *name)
{
    size_t len = strlen(name), suffix = strlen(c->name);

    if (any_named(l, name, len))
        return len;
    if (len <= suffix + 1 || name[len - suffix - 1] != '.' ||
        strcasecmp(name + len - suffix, c->name) != 0)
        return 0;
    len -= suffix + 1;
    return any_named(l, name, len) ? len : 0;
}

static void put(const struct leases *l, const char *name, size_t len, uint16_t type, unsigned turn,
                struct dnsmsg_answer *out)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct leases_entry *en = &l->v[(i + turn) % l->n];

        if (!named(en, name, len))
            continue;
        if (en->ip.family && type != DNSMSG_AAAA && out->n < DNSMSG_ANSWERS_MAX)
            out->ip[out->n++] = en->ip;
        if (en->ip6.family && type != DNSMSG_A && out->n < DNSMSG_ANSWERS_MAX)
            out->ip[out->n++] = en->ip6;
    }
}

static bool answer_reverse(const struct netconf *c, const struct leases *l,
                           const struct dnsmsg_query *q, const struct ipaddr *ip,
                           struct dnsmsg_answer *out)
{
    const struct leases_entry *en;

    /* Others could only say that these addresses are nobody's. */
    if (!ipaddr_contains(&c->subnet, ip) && !ipaddr_contains(&c->subnet6, ip))
        return false;
    en = dnsname_owner(l, ip);
    if (!en)
        out->rcode = DNSMSG_NXDOMAIN;
    else if (q->type == DNSMSG_PTR || q->type == DNSMSG_ANY)
        snprintf(out->ptr, sizeof(out->ptr), "%.*s", en->name[0] ? NETWORK_NAME_MAX : DNSNAME_SHORT,
                 en->name[0] ? en->name : en->id);
    return true;
}

bool dnsname_answer(const struct netconf *c, const struct leases *l, const struct dnsmsg_query *q,
                    unsigned turn, struct dnsmsg_answer *out)
{
    struct ipaddr ip;

    *out = (struct dnsmsg_answer){.rcode = DNSMSG_NOERROR};
    if (!q->plain || q->class != CLASS_IN)
        return false;
    if (dnsmsg_reverse(q->name, &ip))
        return answer_reverse(c, l, q, &ip, out);
    size_t len = own_part(c, l, q->name);
    if (len == 0)
        return false;
    /* A name that is there but has nothing of this type: an empty answer, not "no such name". */
    if (q->type == DNSMSG_A || q->type == DNSMSG_AAAA || q->type == DNSMSG_ANY)
        put(l, q->name, len, q->type, turn, out);
    return true;
}
