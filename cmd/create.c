/* kiln create: a container that is started later. */
#include <stdio.h>

#include "cmd/make.h"
#include "cmd/verb.h"

int cmd_create(int argc, char **argv)
{
    struct record r;
    struct spec sp;
    struct run_options o;
    struct err e = {0};

    spec_init(&sp);
    int at = specflags_parse(argc, argv, &sp, &o, &e);
    if (at <= 0) {
        spec_done(&sp);
        return flag_stop(&command_create, at, &e);
    }
    int rc = make_container(&sp, &o, &r, &e);
    spec_done(&sp);
    if (rc < 0)
        return say_err(&e, EXIT_KILN);
    puts(r.id);
    record_done(&r);
    return 0;
}
