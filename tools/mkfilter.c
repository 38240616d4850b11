/* At build time: the default filter for the default capabilities, as C. */
#include <stdio.h>
#include <stdlib.h>

#include "process/defaults.h"
#include "process/filterrules.h"

int main(void)
{
    struct sock_filter *v;
    struct err e = {0};
    size_t n;

    if (filterrules_default(DEFAULTS_CAPS, &v, &n, &e) < 0) {
        fprintf(stderr, "mkfilter: %s\n", e.msg);
        return 1;
    }
    printf("/* Written by tools/mkfilter.c. */\n");
    for (size_t i = 0; i < n; i++)
        printf("{%#x, %u, %u, %#x},\n", v[i].code, v[i].jt, v[i].jf, v[i].k);
    free(v);
    return 0;
}
