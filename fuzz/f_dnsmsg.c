/* The fuzzer is a container that asks: any bytes are a question, answered from two leases. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "network/dnsname.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static const char leases_text[] =
    "c0ffee123456789 web - 02:6b:0a:09:00:02 10.9.0.2/24 fd00::2/64 0 0 www,both - -\n"
    "beef00000000000 db - 02:6b:0a:09:00:03 10.9.0.3/24 - 0 0 both 9.9.9.9 -\n";

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct netconf c = {.name = "lan"};
    struct dnsmsg_answer a = {0};
    struct leases l = {0};
    struct dnsmsg_query q;
    uint8_t out[DNSMSG_UDP_MAX];
    char text[sizeof(leases_text)];
    int r = n <= 4096 ? dnsmsg_parse(p, n, &q) : -EPROTO;

    if (r == -EPROTO)
        return 0;
    BUG_ON(q.question > n || strlen(q.name) >= DNSMSG_NAME_MAX);
    memcpy(text, leases_text, sizeof(text));
    if (ipaddr_parse_cidr("10.9.0.0/24", &c.subnet, NULL) < 0 ||
        leases_parse(text, sizeof(text) - 1, &l, NULL) < 0)
        abort();
    if (r == 0)
        (void)dnsname_answer(&c, &l, &q, n & 1, &a);
    else
        a.rcode = DNSMSG_FORMERR;
    BUG_ON(dnsmsg_reply(p, &q, &a, out, q.udp_size) > q.udp_size);
    leases_done(&l);
    return 0;
}
