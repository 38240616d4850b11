#include <getopt.h>
#include <stdio.h>

#include "cmd/progress.h"
#include "cmd/verb.h"
#include "container/template.h"
#include "image/store.h"

static void help(void)
{
    puts("Usage: kiln prune\n\n"
         "Remove images that have no name, templates that nothing would start from or that were "
         "not\n"
         "used for a week, and what interrupted work has left in the store.\n\n"
         "  -h, --help   this text");
}

static int prune(void)
{
    struct err e = {0};
    struct store *s;
    uint64_t freed = 0;
    char size[32];

    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    int r = store_prune(s, &freed, &e);
    if (r == 0)
        r = template_prune(store_root(s), &freed, &e);
    store_close(s);
    if (r < 0)
        return say_err(&e, EXIT_KILN);
    progress_size(freed, size);
    printf("freed %s\n", size);
    return 0;
}

int cmd_prune(int argc, char **argv)
{
    static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {0}};

    for (int c; (c = getopt_long(argc, argv, "+:h", longs, NULL)) != -1;) {
        if (c != 'h')
            return say_usage("prune", EXIT_KILN, "unknown flag '%s'", argv[optind - 1]);
        help();
        return 0;
    }
    if (optind != argc)
        return say_usage("prune", EXIT_KILN, "takes no arguments");
    return prune();
}
