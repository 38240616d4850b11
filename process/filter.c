#include "process/filter.h"

#include <linux/filter.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "process/defaults.h"
#include "process/filterrules.h"

static const struct sock_filter built[] = {
#include "process/default_filter.inc"
};

int filter_default(uint64_t caps, struct filter *out, struct err *e)
{
    struct sock_filter *v;
    size_t n;

    if (((caps ^ DEFAULTS_CAPS) & filterrules_relevant()) == 0) {
        *out = (struct filter){.f = {.insns = built, .n = ARRAY_LEN(built)}};
        return 0;
    }
    int r = filterrules_default(caps, &v, &n, e);
    if (r == 0)
        *out = (struct filter){.f = {.insns = v, .n = n}, .owned = v};
    return r;
}

void filter_done(struct filter *f)
{
    free(f->owned);
    *f = (struct filter){0};
}
