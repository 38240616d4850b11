#include <stdio.h>

#include "cmd/flag.h"
#include "cmd/human.h"
#include "cmd/inuse.h"
#include "cmd/verb.h"
#include "container/template.h"
#include "image/store.h"

static int prune(void)
{
    struct err e = {0};
    struct store *s;
    uint64_t freed = 0;
    char size[HUMAN_MAX];

    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    int r = inuse_keep(s, &e);
    if (r == 0)
        r = store_prune(s, &freed, &e);
    if (r == 0)
        r = template_prune(store_root(s), &freed, &e);
    store_close(s);
    if (r < 0)
        return say_err(&e, EXIT_KILN);
    printf("freed %s\n", human_size(freed, size));
    return 0;
}

const struct command command_prune = {
    .name = "prune",
    .summary = "remove what no name refers to",
    .about = "Removes images that have no name and no container, templates that nothing would "
             "start from or that were "
             "not used for a week, and what interrupted work has left in the store.",
    .run = cmd_prune,
};

int cmd_prune(int argc, char **argv)
{
    struct err e = {0};
    int at = flag_parse(&command_prune, argc, argv, NULL, &e);

    return at <= 0 ? flag_stop(&command_prune, at, &e) : prune();
}
