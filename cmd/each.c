#include "cmd/each.h"

#include <stdio.h>

#include "cmd/verb.h"

int each_container(int n, char **names, each_fn fn, void *ctx)
{
    int status = 0;

    for (int i = 0; i < n; i++) {
        struct err e = {0};

        if (fn(ctx, names[i], &e) < 0) {
            status = say_err(&e, 1);
        } else {
            puts(names[i]);
            fflush(stdout);
        }
    }
    return status;
}
