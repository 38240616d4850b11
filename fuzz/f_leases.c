/* A leases file, and a network's description, of any bytes; what is accepted is written and read
 * again as the same. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "network/leases.h"
#include "network/netconf.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void as_json(const uint8_t *p, size_t n)
{
    json_t *j = json_loadb((const char *)p, n, 0, NULL);
    struct netconf c;

    if (j && netconf_from_json(j, &c, NULL) == 0) {
        json_decref(netconf_to_json(&c));
        netconf_done(&c);
    }
    json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    CLEANUP(mem) char *text = malloc(n + 1);
    struct leases l = {0}, again = {0};
    size_t len;

    if (n > 65536 || !text)
        return 0;
    if (n && p[0] == '{') {
        as_json(p, n);
        return 0;
    }
    memcpy(text, p, n);
    text[n] = '\0';
    if (leases_parse(text, n, &l, NULL) < 0)
        return 0;
    CLEANUP(mem) char *out = leases_format(&l, &len);
    if (!out || leases_parse(out, len, &again, NULL) < 0 || again.n != l.n)
        abort();
    leases_done(&l);
    leases_done(&again);
    return 0;
}
