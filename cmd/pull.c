#include <stdio.h>

#include "cmd/flag.h"
#include "cmd/progress.h"
#include "cmd/verb.h"
#include "image/store.h"

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

struct pull_args {
    bool quiet;
};
static const struct flag pull_flags[] = {
    {"quiet", 'q', NULL, "no progress", FLAG_BOOL(struct pull_args, quiet)},
    {0},
};
static const struct flag_group pull_group = {NULL, pull_flags};
const struct command command_pull = {
    .name = "pull",
    .operands = "REFERENCE",
    .summary = "fetch an image from a registry",
    .about = "Fetches an image into the store: NAME[:TAG] or docker://NAME[:TAG] from a registry, "
             "oci:FOLDER[:TAG], docker-archive:FILE[:TAG]. Prints the image's digest.",
    .groups = {{&pull_group}},
    .min_operands = 1,
    .max_operands = 1,
    .values = "@image",
    .run = cmd_pull,
};

int cmd_pull(int argc, char **argv)
{
    struct pull_args a = {0};
    struct err e = {0};
    int at = flag_parse(&command_pull, argc, argv, &a, &e);

    return at <= 0 ? flag_stop(&command_pull, at, &e) : pull(argv[at], a.quiet);
}
