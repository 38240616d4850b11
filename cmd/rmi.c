#include <stdio.h>

#include "cmd/flag.h"
#include "cmd/inuse.h"
#include "cmd/verb.h"
#include "image/store.h"

static int remove_all(int n, char **refs)
{
    struct err e = {0};
    struct store *s;
    int status = 0;

    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    if (inuse_keep(s, &e) < 0) {
        store_close(s);
        return say_err(&e, EXIT_KILN);
    }
    for (int i = 0; i < n; i++) {
        if (store_remove(s, refs[i], &e) < 0)
            status = say_err(&e, 1);
        else
            printf("removed %s\n", refs[i]);
    }
    store_close(s);
    return status;
}

const struct command command_rmi = {
    .name = "rmi",
    .operands = "IMAGE...",
    .summary = "remove images",
    .about = "Removes images from the store, by name, digest or the start of one. A digest removes "
             "every name of its image. Containers keep theirs until they are removed, too.",
    .min_operands = 1,
    .max_operands = FLAG_MANY,
    .values = "@image",
    .run = cmd_rmi,
};

int cmd_rmi(int argc, char **argv)
{
    struct err e = {0};
    int at = flag_parse(&command_rmi, argc, argv, NULL, &e);

    return at <= 0 ? flag_stop(&command_rmi, at, &e) : remove_all(argc - at, argv + at);
}
