#include "network/ipaddr.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned ipaddr_len(const struct ipaddr *a)
{
    return a->family == AF_INET ? 4 : a->family == AF_INET6 ? 16 : 0;
}

bool ipaddr_equal(const struct ipaddr *a, const struct ipaddr *b)
{
    return a->family == b->family && memcmp(a->bytes, b->bytes, ipaddr_len(a)) == 0;
}

static bool parse(const char *text, struct ipaddr *out)
{
    *out = (struct ipaddr){.family = AF_INET, .bits = 32};
    if (inet_pton(AF_INET, text, out->bytes) == 1)
        return true;
    *out = (struct ipaddr){.family = AF_INET6, .bits = 128};
    return inet_pton(AF_INET6, text, out->bytes) == 1;
}

int ipaddr_parse(const char *text, uint8_t family, struct ipaddr *out, struct err *e)
{
    struct ipaddr a;

    if (!parse(text, &a) || (family && a.family != family))
        return err_set(e, -EINVAL, "'%s' is not an IP%s address", text,
                       family == AF_INET    ? "v4"
                       : family == AF_INET6 ? "v6"
                                            : "");
    *out = a;
    return 0;
}

int ipaddr_parse_cidr(const char *text, struct ipaddr *out, struct err *e)
{
    const char *slash = strchr(text, '/');
    char host[IPADDR_TEXT], *end;
    struct ipaddr a;

    if (!slash || (size_t)(slash - text) >= sizeof(host))
        return err_set(e, -EINVAL, "'%s' is not a subnet: ADDRESS/BITS", text);
    memcpy(host, text, (size_t)(slash - text));
    host[slash - text] = '\0';
    unsigned long bits = strtoul(slash + 1, &end, 10);
    if (!parse(host, &a) || !isdigit((unsigned char)slash[1]) || *end || bits > a.bits)
        return err_set(e, -EINVAL, "'%s' is not a subnet: ADDRESS/BITS", text);
    a.bits = (uint8_t)bits;
    *out = a;
    return 0;
}

const char *ipaddr_text(const struct ipaddr *a, char buf[IPADDR_TEXT])
{
    buf[0] = '\0';
    if (a->family)
        inet_ntop(a->family, a->bytes, buf, IPADDR_TEXT);
    return buf;
}

const char *ipaddr_cidr(const struct ipaddr *a, char buf[IPADDR_CIDR_TEXT])
{
    char host[IPADDR_TEXT];

    buf[0] = '\0';
    if (a->family)
        snprintf(buf, IPADDR_CIDR_TEXT, "%s/%u", ipaddr_text(a, host), a->bits);
    return buf;
}

struct ipaddr ipaddr_network(const struct ipaddr *a)
{
    struct ipaddr net = *a;

    for (unsigned i = 0; i < ipaddr_len(a); i++) {
        unsigned from = i * 8;

        if (from >= a->bits)
            net.bytes[i] = 0;
        else if (a->bits - from < 8)
            net.bytes[i] &= (uint8_t)(0xff00 >> (a->bits - from));
    }
    return net;
}

bool ipaddr_contains(const struct ipaddr *prefix, const struct ipaddr *a)
{
    struct ipaddr in = *a, want = ipaddr_network(prefix);

    if (prefix->family != a->family || a->bits < prefix->bits)
        return false;
    in.bits = prefix->bits;
    in = ipaddr_network(&in);
    return ipaddr_equal(&in, &want);
}

bool ipaddr_overlap(const struct ipaddr *a, const struct ipaddr *b)
{
    return a->family && (a->bits <= b->bits ? ipaddr_contains(a, b) : ipaddr_contains(b, a));
}

/* Host bits that count: an IPv6 prefix has more than anybody hands out. */
static unsigned host_bits(const struct ipaddr *prefix)
{
    unsigned bits = ipaddr_len(prefix) * 8 - prefix->bits;

    return bits > 62 ? 62 : bits;
}

uint64_t ipaddr_count(const struct ipaddr *prefix)
{
    return 1ull << host_bits(prefix);
}

struct ipaddr ipaddr_nth(const struct ipaddr *prefix, uint64_t n)
{
    struct ipaddr a = ipaddr_network(prefix);

    for (unsigned i = ipaddr_len(&a); i-- > 0 && n; n >>= 8)
        a.bytes[i] |= (uint8_t)n;
    return a;
}

uint64_t ipaddr_index(const struct ipaddr *prefix, const struct ipaddr *a)
{
    unsigned len = ipaddr_len(prefix);
    uint64_t n = 0;

    for (unsigned i = len > 8 ? len - 8 : 0; i < len; i++)
        n = n << 8 | a->bytes[i];
    return n & (ipaddr_count(prefix) - 1);
}
