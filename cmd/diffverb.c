/* kiln diff: what a container changed of its image's files. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "cmd/ctrfiles.h"
#include "cmd/flag.h"
#include "cmd/verb.h"

static int run(int argc, char **argv);

const struct command command_diff = {
    .name = "diff",
    .operands = "CONTAINER",
    .summary = "show which files a container changed",
    .about = "Prints a line for each file and folder that is not as in the image: A it was added,\n"
             "C it changed, D it was deleted.",
    .min_operands = 1,
    .max_operands = 1,
    .values = "@container",
    .run = run,
};

static void print(const struct pack_entry *en)
{
    char kind = en->type == PACK_ABSENT ? 'D' : en->flags & PACK_NEW ? 'A' : 'C';

    printf("%c /", kind);
    for (const char *c = en->path; *c; c++) /* a name may hold anything */
        putchar((unsigned char)*c < ' ' || *c == 127 ? '?' : *c);
    putchar('\n');
}

static int show(const struct record *r, struct err *e)
{
    CLEANUP(mem) struct pack_in *in = calloc(1, sizeof(*in));
    CLEANUP(mem) struct pack_record *rec = calloc(1, sizeof(*rec));
    struct files_at *at = NULL;
    struct files f;

    if (!in || !rec)
        return err_errno(e, -ENOMEM, "diff");
    int rc = files_enter(NULL, r, &at, e);
    if (rc == 0)
        rc = files_begin(at, FILEWORK_DIFF, 0, "", "", &f, e);
    if (rc == 0) {
        pack_in_init(in, pack_fill_fd, &f.out);
        while ((rc = pack_next(in, rec, e)) == 0 && rec->kind != PACK_END)
            if (rec->kind == PACK_ENTRY)
                print(&rec->entry);
        files_end(&f);
    }
    files_leave(at);
    return rc;
}

static int run(int argc, char **argv)
{
    struct err e = {0};
    struct record r;
    int at = flag_parse(&command_diff, argc, argv, NULL, &e);

    if (at <= 0)
        return flag_stop(&command_diff, at, &e);
    int rc = ctrfiles_find(argv[at], &r, &e);
    if (rc == 0) {
        rc = show(&r, &e);
        record_done(&r);
    }
    return rc < 0 ? say_err(&e, 1) : 0;
}
