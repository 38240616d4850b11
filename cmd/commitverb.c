/* kiln commit: an image of a container's files. */
#include <stdbool.h>
#include <stdio.h>

#include "cmd/ctrfiles.h"
#include "cmd/flag.h"
#include "cmd/verb.h"
#include "container/commit.h"
#include "container/events.h"
#include "image/digest.h"
#include "image/names.h"

struct commit_args {
    const char *author, *message;
    struct strv changes;
    bool pause;
};

#define A struct commit_args
static const struct flag flags[] = {
    {"author", 'a', "TEXT", "who made it", FLAG_TEXT(A, author)},
    {"change", 'c', "INSTRUCTION", "a setting, such as 'CMD [\"sh\"]', ENV, EXPOSE, LABEL, USER",
     FLAG_WORDS(A, changes)},
    {"message", 'm', "TEXT", "what it is about", FLAG_TEXT(A, message)},
    {"pause", 'p', NULL, "its processes stand still meanwhile; --pause=false: they do not",
     FLAG_BOOL(A, pause)},
    {0},
};
static const struct flag_group group = {NULL, flags};
static int run(int argc, char **argv);

const struct command command_commit = {
    .name = "commit",
    .operands = "CONTAINER [NAME[:TAG]]",
    .summary = "make an image of a container's files",
    .about = "Makes an image of one layer of a container's files as they are now, with the\n"
             "settings of the container, and prints its digest. Volumes are not in it. Without\n"
             "NAME it is called like the container.",
    .groups = {{&group}},
    .min_operands = 1,
    .max_operands = 2,
    .values = "@container @image",
    .run = run,
};

static int make(const char *container, const char *name, const struct commit_args *a, struct err *e)
{
    struct image im = {.name = NULL};
    char checked[OCI_NAME_MAX + 1];
    struct record r;
    int rc = name ? names_normalise(name, checked, e) : 0;

    if (rc == 0)
        rc = ctrfiles_find(container, &r, e);
    if (rc < 0)
        return rc;
    if (!name)
        names_from_path(r.name, checked);
    const struct commit_conf c = {.name = checked,
                                  .message = a->message,
                                  .author = a->author,
                                  .changes = &a->changes,
                                  .pause = a->pause};
    rc = commit(NULL, &r, &c, &im, e);
    if (rc == 0) {
        const char *const about[] = {"name", r.name, "image", im.name, NULL};

        event_note(NULL, "container", "commit", r.id, about);
        puts(im.config_digest);
    }
    image_done(&im);
    record_done(&r);
    return rc;
}

static int run(int argc, char **argv)
{
    struct commit_args a = {.pause = true};
    struct err e = {0};
    int at = flag_parse(&command_commit, argc, argv, &a, &e);
    int status = at <= 0 ? flag_stop(&command_commit, at, &e)
                 : make(argv[at], at + 1 < argc ? argv[at + 1] : NULL, &a, &e) < 0 ? say_err(&e, 1)
                                                                                   : 0;

    strv_done(&a.changes);
    return status;
}
