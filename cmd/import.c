#include <getopt.h>
#include <stdio.h>

#include "cmd/progress.h"
#include "cmd/verb.h"
#include "image/store.h"

static void help(void)
{
    puts("Usage: kiln import [flags] FILE [NAME]\n\n"
         "Bring an image into the store: a docker-archive or an OCI layout (tar or folder), or a "
         "bare\n"
         "root file system (tar, compressed or not, or folder). Prints the image's digest.\n\n"
         "  -q, --quiet   no progress\n"
         "  -h, --help    this text");
}

static int import(const char *path, const char *name, bool quiet)
{
    struct err e = {0};
    struct progress p;
    struct store *s;
    struct image im;

    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    progress_init(&p, quiet);
    int r = store_import(s, path, name, progress_tell, &p, &im, &e);
    store_close(s);
    return progress_image(&p, r, "imported", &im, &e);
}

int cmd_import(int argc, char **argv)
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
            return say_usage("import", EXIT_KILN, "unknown flag '%s'", argv[optind - 1]);
        quiet = true;
    }
    if (argc - optind < 1 || argc - optind > 2)
        return say_usage("import", EXIT_KILN, "give a FILE, and a NAME if it shall have another");
    return import(argv[optind], argv[optind + 1], quiet);
}
