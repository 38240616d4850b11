#include <getopt.h>
#include <stdio.h>

#include "cmd/progress.h"
#include "cmd/verb.h"
#include "image/store.h"

static void help(void)
{
    puts("Usage: kiln pull [flags] REFERENCE\n\n"
         "Fetch an image into the store: NAME[:TAG] or docker://NAME[:TAG] from a registry,\n"
         "oci:FOLDER[:TAG], docker-archive:FILE[:TAG]. Prints the image's digest.\n\n"
         "  -q, --quiet   no progress\n"
         "  -h, --help    this text");
}

static int pull(const char *ref, bool quiet)
{
    struct err e = {0};
    struct progress p;
    struct store *s;
    struct image im;

    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    progress_init(&p, quiet);
    progress_tell(&p, "asking for the image", 0, 0);
    int r = store_pull(s, ref, progress_tell, &p, &im, &e);
    store_close(s);
    return progress_image(&p, r, "pulled", &im, &e);
}

int cmd_pull(int argc, char **argv)
{
    static const struct option longs[] = {
        {"quiet", no_argument, NULL, 'q'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool quiet = false;

    for (int c; (c = getopt_long(argc, argv, "+:qh", longs, NULL)) != -1;) {
        if (c == 'h') {
            help();
            return 0;
        }
        if (c != 'q')
            return say_usage("pull", EXIT_KILN, "unknown flag '%s'", argv[optind - 1]);
        quiet = true;
    }
    if (argc - optind != 1)
        return say_usage("pull", EXIT_KILN, "give one REFERENCE");
    return pull(argv[optind], quiet);
}
