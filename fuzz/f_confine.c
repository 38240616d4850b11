/* What a user gives the process class as text: seccomp profiles ('s' and JSON), mount options
 * ('m'). What comes of a profile must be a program that the kernel would take; options must fit. */
#include <assert.h>
#include <jansson.h>
#include <linux/filter.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "process/defaults.h"
#include "process/filter.h"
#include "process/mountopt.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void profile(const uint8_t *p, size_t n)
{
    json_t *j = json_loadb((const char *)p, n, JSON_DECODE_ANY, NULL);
    struct filter f;
    struct err e = {0};

    if (!j)
        return;
    if (filter_profile(j, DEFAULTS_CAPS, &f, &e) == 0) {
        const struct sock_filter *v = f.f.insns;

        assert(f.f.n > 0 && f.f.n <= FILTER_INSNS_MAX);
        assert(BPF_CLASS(v[f.f.n - 1].code) == BPF_RET);
        filter_done(&f);
    } else {
        assert(e.code < 0 && e.msg[0]);
    }
    json_decref(j);
}

static void options(const uint8_t *p, size_t n)
{
    struct mountopt o = {0};
    char *s = strndup((const char *)p, n);

    if (s && mountopt_words(s, &o, NULL) == 0) {
        assert(strlen(o.data) < sizeof(o.data));
        assert((o.flags & o.clear) == 0);
        assert((o.rec_flags & o.rec_clear) == 0);
    }
    free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n > 0 && p[0] == 's')
        profile(p + 1, n - 1);
    else if (n > 0 && p[0] == 'm')
        options(p + 1, n - 1);
    return 0;
}
