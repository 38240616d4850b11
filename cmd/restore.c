/* kiln restore: a saved machine goes on. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/attend.h"
#include "cmd/netflag.h"
#include "cmd/snapname.h"
#include "cmd/verb.h"
#include "container/machine.h"
#include "container/session.h"
#include "vm/seed.h"
#include "vm/snapshot.h"

static const char help[] =
    "Usage: kiln restore [flags] SNAPSHOT\n\n"
    "Goes on with a saved machine, as often as wanted: the snapshot stays as it is. Its memory is\n"
    "read when it is touched; what the machine writes to its disks is lost when it ends.\n\n"
    "  --name NAME          a name for kiln snapshot, fork and stop\n"
    "  -d, --detach         leave the machine in the background and print its id\n"
    "  --engine NAME        auto, kvm, bt or interp, whatever it was saved on (default auto)\n"
    "  --verify             read and check all of the snapshot first\n"
    "  --disk N=FILE        use FILE as disk N (from 0), not a copy of the saved one\n"
    "  --net KIND[,KEY=VALUE]  what a network card is connected to, the first one first: as of\n"
    "                       kiln boot; without, it has no link\n"
    "  --console MODE       stdio (default), none: nothing is read or shown\n"
    "  --vsock PATH         Unix socket of the host side of virtio-vsock\n"
    "  --timeout TIME       stop the machine after this long, such as 30 or 5m\n"
    "  --stats              counters on stderr at the end\n"
    "  -h, --help           this text\n\n"
    "Exit status: as of kiln boot.\n";

enum {
    OPT_NAME = 256,
    OPT_ENGINE,
    OPT_VERIFY,
    OPT_DISK,
    OPT_CONSOLE,
    OPT_VSOCK,
    OPT_TIMEOUT,
    OPT_STATS,
    OPT_NET,
};

struct restore_args {
    struct attend at;
    const char *engine, *vsock, *snapshot;
    char *disk[VM_DISKS_MAX]; /* NULL = a copy of the saved one */
    bool detach, verify;
    struct netflag net[VM_NETS_MAX];
    unsigned n_nets;
};

static int set_disk(struct restore_args *a, char *text, struct err *e)
{
    char *eq = strchr(text, '=');
    uint64_t n;

    if (!eq || !eq[1])
        return err_set(e, -EINVAL, "--disk '%s': write N=FILE", text);
    *eq = '\0';
    int r = parse_uint("--disk", text, 0, VM_DISKS_MAX - 1, &n, e);
    if (r == 0)
        a->disk[n] = eq + 1;
    return r;
}

static int one(struct restore_args *a, int c, char *value, struct err *e)
{
    switch (c) {
    case OPT_NAME:
        a->at.name = value;
        return 0;
    case 'd':
        a->detach = true;
        return 0;
    case OPT_ENGINE:
        a->engine = value;
        return 0;
    case OPT_VERIFY:
        a->verify = true;
        return 0;
    case OPT_DISK:
        return set_disk(a, value, e);
    case OPT_CONSOLE:
        a->at.console = strcmp(value, "stdio") == 0;
        if (!a->at.console && strcmp(value, "none") != 0)
            return err_set(e, -EINVAL, "--console '%s' is neither stdio nor none", value);
        return 0;
    case OPT_VSOCK:
        a->vsock = value;
        return 0;
    case OPT_TIMEOUT:
        return parse_duration(value, &a->at.timeout_ns, e);
    case OPT_STATS:
        a->at.stats = true;
        return 0;
    case OPT_NET:
        if (a->n_nets == VM_NETS_MAX)
            return err_set(e, -EINVAL, "more than %d network cards", VM_NETS_MAX);
        return netflag_parse(value, &a->net[a->n_nets++], e);
    default:
        return err_set(e, -EINVAL, "unknown flag or missing value");
    }
}

static int parse(int argc, char **argv, struct restore_args *a, struct err *e)
{
    static const struct option opts[] = {
        {"name", 1, NULL, OPT_NAME},     {"detach", 0, NULL, 'd'},
        {"engine", 1, NULL, OPT_ENGINE}, {"verify", 0, NULL, OPT_VERIFY},
        {"disk", 1, NULL, OPT_DISK},     {"console", 1, NULL, OPT_CONSOLE},
        {"vsock", 1, NULL, OPT_VSOCK},   {"timeout", 1, NULL, OPT_TIMEOUT},
        {"stats", 0, NULL, OPT_STATS},   {"net", 1, NULL, OPT_NET},
        {"help", 0, NULL, 'h'},          {NULL, 0, NULL, 0},
    };
    int c;

    opterr = 0;
    while ((c = getopt_long(argc, argv, "dh", opts, NULL)) != -1) {
        if (c == 'h') {
            fputs(help, stdout);
            return 1;
        }
        int r = one(a, c, optarg, e);
        if (r < 0)
            return r;
    }
    if (optind != argc - 1)
        return err_set(e, -EINVAL, optind == argc ? "which snapshot?" : "one snapshot at a time");
    if (a->detach && (a->vsock || a->at.timeout_ns || a->at.stats || a->n_nets))
        return err_set(e, -EINVAL, "--vsock, --timeout, --stats and --net are for the foreground");
    a->snapshot = argv[optind];
    return 0;
}

static int open_seed(const struct restore_args *a, struct seed **seed, struct err *e)
{
    CLEANUP(mem) char *dir = NULL;
    int r = snapname_find(a->snapshot, &dir, e);

    if (r == 0 && a->verify)
        r = snapshot_verify(dir, e);
    return r == 0 ? seed_open(dir, seed, e) : r;
}

/* Queue pairs and MTU are the saved card's. */
static int connect_nets(struct restore_args *a, struct vm_conf *c, struct err *e)
{
    int r = 0;

    if (a->n_nets > c->n_nets)
        return err_set(e, -EINVAL, "the saved machine has %u network cards", c->n_nets);
    for (unsigned i = 0; r == 0 && i < a->n_nets; i++) {
        a->net[i].card.pairs = c->net[i].pairs;
        a->net[i].card.mtu = c->net[i].mtu;
        r = netflag_open(&a->net[i], e);
        c->net[i] = a->net[i].card;
    }
    return r;
}

static int foreground(struct restore_args *a, struct seed *seed, struct err *e)
{
    CLEANUP(mem) char *note = strdup(seed_note(seed));
    char vsock[RUNDIR_PATH_MAX + 16];
    struct vm_conf c;
    struct vm *vm = NULL;

    shape_conf(seed_shape(seed), &c);
    c.engine = a->engine;
    c.vsock_cid = machine_cid();
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (a->disk[i] && i >= c.n_disks)
            return err_set(e, -EINVAL, "--disk %u: the saved machine has %u disks", i, c.n_disks);
        if (a->disk[i])
            c.disk[i].path = a->disk[i];
    }
    a->at.folder = true;
    a->at.note = note;
    int r = attend_open(&a->at, &c, e);
    if (r == 0)
        r = connect_nets(a, &c, e);
    snprintf(vsock, sizeof(vsock), "%s/vsock", a->at.dir.path);
    if (seed_shape(seed)->vsock)
        c.vsock_path = a->vsock ? a->vsock : vsock;
    a->at.has_agent = c.vsock_path && strcmp(note, MACHINE_HAS_AGENT) == 0;
    if (r == 0 && a->at.has_agent)
        r = session_pair(&c.vsock_client, &a->at.agent, e);
    if (r == 0)
        r = seed_grow(seed, &c, &vm, e);
    for (unsigned i = 0; i < a->n_nets; i++)
        netflag_handed(&a->net[i]);
    if (r == 0)
        r = vm_renew(vm, e);
    int status = r == 0 ? attend(&a->at, vm, c.vsock_path) : r;
    if (r < 0)
        vm_free(vm);
    attend_close(&a->at);
    return status;
}

static int background(const struct restore_args *a, struct seed *seed, struct err *e)
{
    struct machine_report rep;
    int p[2];

    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (a->disk[i])
            return err_set(e, -EINVAL, "--disk is for the foreground");
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_errno(e, -errno, "pipe");
    pid_t pid = fork();
    if (pid == 0)
        machine_main(&(struct machine_conf){.seed = seed,
                                            .name = a->at.name,
                                            .engine = a->engine,
                                            .note = seed_note(seed),
                                            .report_fd = p[1],
                                            .go_fd = -1});
    close(p[1]);
    ssize_t n = pid < 0 ? -1 : read(p[0], &rep, sizeof(rep));
    close(p[0]);
    if (n != sizeof(rep))
        return err_set(e, -EIO, "the machine's process could not be made, or died");
    rep.err.msg[sizeof(rep.err.msg) - 1] = '\0';
    if (rep.err.code < 0)
        return err_set(e, rep.err.code, "%s", rep.err.msg);
    puts(rep.id);
    return 0;
}

int cmd_restore(int argc, char **argv)
{
    struct restore_args a = {.engine = "auto", .at = {.console = true}};
    struct seed *seed = NULL;
    struct err e = {0};
    int r = parse(argc, argv, &a, &e);

    if (r != 0)
        return r > 0 ? 0 : say_usage("restore", EXIT_KILN, "%s", e.msg);
    r = open_seed(&a, &seed, &e);
    if (r == 0)
        r = a.detach ? background(&a, seed, &e) : foreground(&a, seed, &e);
    for (unsigned i = 0; i < a.n_nets; i++)
        netflag_done(&a.net[i]);
    seed_free(seed);
    return r < 0 ? say_err(&e, EXIT_KILN) : r;
}
