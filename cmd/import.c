#include <stdio.h>

#include "cmd/flag.h"
#include "cmd/progress.h"
#include "cmd/verb.h"
#include "image/store.h"

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

struct import_args {
    bool quiet;
};
static const struct flag import_flags[] = {
    {"quiet", 'q', NULL, "no progress", FLAG_BOOL(struct import_args, quiet)},
    {0},
};
static const struct flag_group import_group = {NULL, import_flags};
const struct command command_import = {
    .name = "import",
    .operands = "FILE [NAME]",
    .summary = "bring an image in from a file or a folder",
    .about =
        "Brings an image into the store: a docker-archive or an OCI layout (tar or folder), or a "
        "bare root file system (tar, compressed or not, or folder). Prints the image's digest.",
    .groups = {{&import_group}},
    .min_operands = 1,
    .max_operands = 2,
    .values = "@file",
    .run = cmd_import,
};

int cmd_import(int argc, char **argv)
{
    struct import_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_import, argc, argv, &a, &e);

    return at <= 0 ? flag_stop(&command_import, at, &e) : import(argv[at], argv[at + 1], a.quiet);
}
