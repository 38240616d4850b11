#include <getopt.h>
#include <stdio.h>

#include "cmd/verb.h"
#include "image/store.h"

static void help(void)
{
    puts("Usage: kiln rmi IMAGE...\n\n"
         "Remove images from the store, by name, digest or the start of one. A digest removes "
         "every name of\n"
         "its image. Machines that run from it keep running.\n\n"
         "  -h, --help   this text");
}

static int remove_all(int n, char **refs)
{
    struct err e = {0};
    struct store *s;
    int status = 0;

    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    for (int i = 0; i < n; i++) {
        if (store_remove(s, refs[i], &e) < 0)
            status = say_err(&e, 1);
        else
            printf("removed %s\n", refs[i]);
    }
    store_close(s);
    return status;
}

int cmd_rmi(int argc, char **argv)
{
    static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {0}};

    for (int c; (c = getopt_long(argc, argv, "+:h", longs, NULL)) != -1;) {
        if (c != 'h')
            return say_usage("rmi", EXIT_KILN, "unknown flag '%s'", argv[optind - 1]);
        help();
        return 0;
    }
    if (optind == argc)
        return say_usage("rmi", EXIT_KILN, "give at least one IMAGE");
    return remove_all(argc - optind, argv + optind);
}
