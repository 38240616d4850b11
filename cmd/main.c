#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/verb.h"
#include "hw/clock.h"

#ifndef KILN_VERSION
#error "the build defines KILN_VERSION"
#endif

static const struct verb verbs[] = {
    {"boot", "--kernel FILE [flags]", "boot any kernel", cmd_boot},
    {"check", "[flags]", "tell what this host can do", cmd_check},
    {"fork", "[flags] MACHINE", "copy a running machine", cmd_fork},
    {"images", "[flags]", "list images", cmd_images},
    {"import", "[flags] FILE [NAME]", "bring an image in from a file or a folder", cmd_import},
    {"prune", "", "remove what no name refers to", cmd_prune},
    {"ps", "[flags]", "list the machines that run", cmd_ps},
    {"pull", "[flags] REFERENCE", "fetch an image from a registry", cmd_pull},
    {"restore", "[flags] SNAPSHOT", "go on with a saved machine", cmd_restore},
    {"rmi", "IMAGE...", "remove images", cmd_rmi},
    {"run", "[flags] IMAGE [COMMAND...]", "run a command of a container image", cmd_run},
    {"snapshot", "create|ls|inspect|verify|rm ...", "save a running machine", cmd_snapshot},
    {"stop", "MACHINE...", "end machines", cmd_stop},
    {"template", "ls|rm|make ...", "booted machines that run starts from", cmd_template},
};

static void usage(FILE *f)
{
    fputs("Usage: kiln COMMAND [ARGUMENTS]\n\n"
          "Runs container images in machines of their own.\n\nCommands:\n",
          f);
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        fprintf(f, "  %-8s %s\n", verbs[i].name, verbs[i].summary);
    fputs("\n'kiln COMMAND --help' tells more about a command.\n", f);
}

static const struct verb *find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    }
    return NULL;
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
        const struct verb *v = argc > 2 ? find(argv[2]) : NULL;
        char *help[] = {argc > 2 ? argv[2] : NULL, (char *)"--help", NULL};

        if (v)
            return v->run(2, help);
        usage(stdout);
        return 0;
    }
    const struct verb *v = find(argv[1]);
    if (!v) {
        say("'%s' is not a kiln command. See 'kiln --help'.", argv[1]);
        return EXIT_KILN;
    }
    return v->run(argc - 1, argv + 1);
}
