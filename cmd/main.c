#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/complete.h"
#include "cmd/flag.h"
#include "cmd/specflags.h"
#include "cmd/suggest.h"
#include "cmd/verb.h"
#include "hw/clock.h"

#ifndef KILN_VERSION
#error "the build defines KILN_VERSION"
#endif

/* One line a verb, below its heading; verbs with a command in a table of flags: {.command = &...}.
 */
const struct verb verbs_table[] = {
    {.summary = "Containers"},
    {.command = &command_run, .run = cmd_run},
    {.command = &command_create, .run = cmd_create},
    {.command = &command_exec},
    {.command = &command_ps},
    {.command = &command_start},
    {.command = &command_stop},
    {.command = &command_restart},
    {.command = &command_kill},
    {.command = &command_wait},
    {.command = &command_pause},
    {.command = &command_unpause},
    {.command = &command_attach},
    {.command = &command_logs},
    {.command = &command_rename},
    {.command = &command_rm},
    {.command = &command_top},
    {.command = &command_stats},
    {.command = &command_update},
    {.command = &command_inspect},
    {.command = &command_cp},
    {.command = &command_commit},
    {.command = &command_diff},
    {.command = &command_port},
    {.command = &command_events},
    {.summary = "Images"},
    {.command = &command_images},
    {.command = &command_import},
    {.command = &command_pull},
    {.command = &command_rmi},
    {.summary = "Machines"},
    {.command = &command_boot},
    {.command = &command_fork},
    {.command = &command_restore},
    {.command = &command_snapshot},
    {.command = &command_template},
    {.summary = "Networks and volumes"},
    {.command = &command_network},
    {.command = &command_volume},
    {.summary = "This host"},
    {.command = &command_check},
    {.command = &command_prune},
};
const size_t verbs_n = ARRAY_LEN(verbs_table);

static const char *name_of(const struct verb *v)
{
    return v->command ? v->command->name : v->name;
}

static void usage(FILE *f)
{
    const char *heading = NULL;

    fputs("Usage: kiln COMMAND [ARGUMENTS]\n\n"
          "Runs container images in machines of their own.\n",
          f);
    for (size_t i = 0; i < verbs_n; i++) {
        const struct verb *v = &verbs_table[i];

        if (!name_of(v)) {
            heading = v->summary;
            continue;
        }
        if (heading)
            fprintf(f, "\n%s:\n", heading);
        heading = NULL;
        fprintf(f, "  %-9s  %s\n", name_of(v), v->command ? v->command->summary : v->summary);
    }
    fputs("\n'kiln COMMAND --help' tells more about a command.\n", f);
}

static const struct verb *find(const char *name)
{
    for (size_t i = 0; i < verbs_n; i++) {
        if (name_of(&verbs_table[i]) && strcmp(name_of(&verbs_table[i]), name) == 0)
            return &verbs_table[i];
    }
    return NULL;
}

/* docker's and podman's long forms: kiln container VERB, kiln image VERB, kiln system VERB. Returns
 * the verb's place in argv, where its name now is kiln's; 0 = not one of those. */
static int long_form(int argc, char **argv)
{
    static const char *const groups[] = {"container", "image", "system"};
    static const struct {
        const char *group, *verb, *name;
    } others[] = {
        {"container", "ls", "ps"},   {"container", "list", "ps"}, {"image", "ls", "images"},
        {"image", "list", "images"}, {"image", "rm", "rmi"},      {"image", "load", "import"},
        {"system", "info", "check"},
    };

    for (size_t i = 0; argc > 2 && i < ARRAY_LEN(others); i++)
        if (strcmp(argv[1], others[i].group) == 0 && strcmp(argv[2], others[i].verb) == 0)
            argv[2] = (char *)others[i].name;
    for (size_t i = 0; argc > 2 && i < ARRAY_LEN(groups); i++)
        if (strcmp(argv[1], groups[i]) == 0 && find(argv[2]))
            return 2;
    return 0;
}

static int unknown(const char *name)
{
    struct suggest s;

    suggest_init(&s, name, strlen(name));
    for (size_t i = 0; i < verbs_n; i++)
        if (name_of(&verbs_table[i]))
            suggest_try(&s, name_of(&verbs_table[i]));
    if (suggest_best(&s))
        say("'%s' is not a kiln command; did you mean '%s'? See 'kiln --help'.", name,
            suggest_best(&s));
    else
        say("'%s' is not a kiln command. See 'kiln --help'.", name);
    return EXIT_KILN;
}

static int run(const struct verb *v, int argc, char **argv)
{
    const struct command *c = v->command;

    if (v->run)
        return v->run(argc, argv);
    return c->sub ? flag_dispatch(c, argc, argv) : c->run(argc, argv);
}

/* kiln help [VERB [VERB OF THE VERB]] */
static int help(int argc, char **argv)
{
    const struct verb *v = argc > 2 ? find(argv[2]) : NULL;
    char *words[] = {argc > 2 ? argv[2] : NULL, (char *)"--help", NULL, NULL};

    if (argc <= 2) {
        usage(stdout);
        return 0;
    }
    if (!v)
        return unknown(argv[2]);
    if (argc > 3 && v->command && v->command->sub) {
        words[1] = argv[3];
        words[2] = (char *)"--help";
        return run(v, 3, words);
    }
    return run(v, 2, words);
}

/* A descriptor 0, 1 or 2 that the caller closed must not become some file of ours. */
static bool fill_standard_streams(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd < 3);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

int main(int argc, char **argv)
{
    clock_host_begin();
    /* What is large is a sparse table: of its own pages, zeroed by the kernel as they are touched,
     * also in the second arena of a forked machine. */
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    if (!fill_standard_streams())
        return EXIT_KILN;
    /* A reader that went away is an error of write(2), told in a sentence. */
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return EXIT_KILN;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-v") == 0 ||
        strcmp(argv[1], "version") == 0) {
        puts("kiln " KILN_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        return help(argc, argv);
    }
    if (strcmp(argv[1], "__complete") == 0)
        return complete_main(argc - 1, argv + 1);
    const struct verb *v = find(argv[1]);
    int at = v ? 1 : long_form(argc, argv);
    if (at > 1)
        v = find(argv[at]);
    return v ? run(v, argc - at, argv + at) : unknown(argv[1]);
}
