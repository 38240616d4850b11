/* kiln template: the booted machines that kiln run starts from. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "cmd/human.h"
#include "cmd/verb.h"
#include "container/template.h"
#include "image/initrd.h"
#include "image/store.h"
#include "mem/mem.h"
#include "vm/vm.h"

static const char help[] =
    "Usage: kiln template ls\n"
    "       kiln template rm KEY...\n"
    "       kiln template make [flags]\n\n"
    "Templates are machines that have booted and were saved; kiln run starts from them instead of\n"
    "booting. It makes what it needs at first use. ls lists them, rm removes, make makes one "
    "now.\n\n"
    "  -m, --memory SIZE    of the machine, as of kiln run (default 512m)\n"
    "      --cpus N         virtual CPUs (default 1)\n"
    "      --kernel PATH    guest kernel: a file, or a folder with its modules\n"
    "      --engine NAME    that boots it: auto, kvm, bt or interp (default auto)\n"
    "      --volumes        for runs with shared folders (-v)\n"
    "  -h, --help           this text\n";

enum { OPT_CPUS = 256, OPT_KERNEL, OPT_ENGINE, OPT_VOLUMES, RAM_DEFAULT = 512 << 20 };

static int list(const char *store, struct err *e)
{
    CLEANUP(mem) struct template_info *v = NULL;
    size_t n = 0;
    int r = template_list(store, &v, &n, e);

    if (r < 0)
        return r;
    printf("%-16s  %4s  %9s  %7s  %8s  %-16s  %-5s  %s\n", "KEY", "CPUS", "MEMORY", "VOLUMES",
           "SIZE", "LAST USED", "STATE", "KERNEL");
    for (size_t i = 0; i < n; i++) {
        char size[HUMAN_MAX], used[32] = "";
        time_t at = (time_t)v[i].used;
        struct tm tm;

        human_size(v[i].bytes, size);
        if (localtime_r(&at, &tm))
            strftime(used, sizeof(used), "%Y-%m-%d %H:%M", &tm);
        printf("%-16s  %4u  %5" PRIu64 " MiB  %7s  %8s  %-16s  %-5s  %s\n", v[i].key, v[i].cpus,
               v[i].ram_bytes >> 20, v[i].shares ? "yes" : "no", size, used,
               v[i].stale ? "stale" : "good", v[i].kernel);
    }
    return 0;
}

static int remove_all(const char *store, int n, char **keys)
{
    struct err e = {0};
    int status = 0;

    for (int i = 0; i < n; i++) {
        if (template_remove(store, keys[i], &e) < 0)
            status = say_err(&e, 1);
        else
            printf("removed %s\n", keys[i]);
    }
    return status;
}

static int parse_make(int argc, char **argv, struct guest_conf *c, const char **kernel,
                      struct err *e)
{
    static const struct option longs[] = {
        {"memory", 1, NULL, 'm'},          {"cpus", 1, NULL, OPT_CPUS},
        {"kernel", 1, NULL, OPT_KERNEL},   {"engine", 1, NULL, OPT_ENGINE},
        {"volumes", 0, NULL, OPT_VOLUMES}, {0}};
    uint64_t n;
    int r = 0;

    optind = 0; /* glibc: begin anew */
    for (int o; r == 0 && (o = getopt_long(argc, argv, "+m:", longs, NULL)) != -1;) {
        switch (o) {
        case 'm':
            r = parse_size(optarg, &c->ram_bytes, e);
            break;
        case OPT_CPUS:
            r = parse_uint("--cpus", optarg, 1, VM_CPUS_MAX, &n, e);
            if (r == 0)
                c->cpus = (unsigned)n;
            break;
        case OPT_KERNEL:
            *kernel = optarg;
            break;
        case OPT_ENGINE:
            c->engine = optarg;
            break;
        case OPT_VOLUMES:
            c->n_shares = 1;
            break;
        default:
            return err_set(e, -EINVAL, "unknown flag or missing value");
        }
    }
    if (r == 0 && optind < argc)
        return err_set(e, -EINVAL, "unexpected argument '%s'", argv[optind]);
    return r;
}

static int make(const char *store, int argc, char **argv)
{
    struct guest_conf c = {.store = store, .engine = "auto", .cpus = 1, .ram_bytes = RAM_DEFAULT};
    struct session_watch w = {.machine_fd = -1, .signal_fd = -1};
    CLEANUP(mem) char *file = NULL;
    CLEANUP(mem) char *dir = NULL;
    const char *kernel = NULL;
    struct template t;
    struct err e = {0};

    if (parse_make(argc, argv, &c, &kernel, &e) < 0)
        return say_usage("template", EXIT_KILN, "%s", e.msg);
    int r = kernel_find(store, kernel, &file, &dir, &e);
    c.kernel = file;
    c.kernel_dir = dir;
    if (r == 0)
        r = template_find(&c, &t, &e);
    bool there = r == 1;
    if (r == 0)
        r = template_make(&c, &t, &w, true, &e);
    if (r < 0 && r != -EEXIST)
        return say_err(&e, EXIT_KILN);
    printf("%s %s\n", there || r == -EEXIST ? "found" : "made", t.key);
    return 0;
}

static int act(const char *store, int argc, char **argv)
{
    struct err e = {0};

    if (strcmp(argv[1], "make") == 0)
        return make(store, argc - 1, argv + 1);
    if (strcmp(argv[1], "rm") == 0 && argc > 2)
        return remove_all(store, argc - 2, argv + 2);
    if (strcmp(argv[1], "ls") == 0 && argc == 2)
        return list(store, &e) < 0 ? say_err(&e, EXIT_KILN) : 0;
    return say_usage("template", EXIT_KILN, "write 'ls', 'rm KEY...' or 'make [flags]'");
}

int cmd_template(int argc, char **argv)
{
    struct err e = {0};
    struct store *s;

    if (argc < 2)
        return say_usage("template", EXIT_KILN, "write 'ls', 'rm KEY...' or 'make [flags]'");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(help, stdout);
        return 0;
    }
    if (store_open(NULL, &s, &e) < 0)
        return say_err(&e, EXIT_KILN);
    int status = act(store_root(s), argc, argv);
    store_close(s);
    return status;
}
