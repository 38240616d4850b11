/* kiln restore: a saved machine goes on. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cmd/attend.h"
#include "cmd/flags.h"
#include "cmd/netflag.h"
#include "cmd/snapname.h"
#include "cmd/verb.h"
#include "container/machine.h"
#include "container/session.h"
#include "vm/seed.h"
#include "vm/snapshot.h"

struct restore_args {
    struct attend at;
    const char *engine, *vsock, *snapshot;
    char *disk[VM_DISKS_MAX]; /* NULL = a copy of the saved one */
    bool detach, verify, lazy;
    struct netflag net[VM_NETS_MAX];
    unsigned n_nets;
};

/* Values are words of argv, which may be cut. */
static int set_disk(void *args, const char *value, struct err *e)
{
    struct restore_args *a = args;
    char *text = (char *)value, *eq = strchr(text, '=');
    uint64_t n;

    if (!eq || !eq[1])
        return err_set(e, -EINVAL, "'%s': write N=FILE", text);
    *eq = '\0';
    int r = parse_uint("number", text, 0, VM_DISKS_MAX - 1, &n, e);
    if (r == 0)
        a->disk[n] = eq + 1;
    return r;
}

static int add_net(void *args, const char *value, struct err *e)
{
    struct restore_args *a = args;

    if (a->n_nets == VM_NETS_MAX)
        return err_set(e, -EINVAL, "more than %d network cards", VM_NETS_MAX);
    return netflag_parse(value, &a->net[a->n_nets++], e);
}

#define A struct restore_args
static const struct flag restore_flags[] = {
    {"name", 0, "NAME", "a name for kiln snapshot, fork and stop", FLAG_TEXT(A, at.name)},
    {"detach", 'd', NULL, "leave the machine in the background and print its id",
     FLAG_BOOL(A, detach)},
    {"engine", 0, "NAME", "auto, kvm, bt or interp, whatever it was saved on (default auto)",
     FLAG_TEXT(A, engine), .values = "auto kvm bt interp"},
    {"lazy", 0, NULL, "read memory as it is touched, compressed too (userfaultfd)",
     FLAG_BOOL(A, lazy)},
    {"verify", 0, NULL, "read and check all of the snapshot first", FLAG_BOOL(A, verify)},
    {"disk", 0, "N=FILE", "use FILE as disk N (from 0), not a copy of the saved one",
     FLAG_SET(set_disk)},
    {"net", 0, "KIND[,KEY=VALUE]",
     "what a network card is connected to, the first one first: as of kiln boot; without, it has "
     "no "
     "link",
     FLAG_SET(add_net)},
    {"console", 0, "MODE", "stdio (default), none: nothing is read or shown",
     FLAG_AT(A, at.console, flags_console), .values = "stdio none"},
    {"vsock", 0, "PATH", "Unix socket of the host side of virtio-vsock", FLAG_TEXT(A, vsock),
     .values = "@file"},
    {"timeout", 0, "TIME", "stop the machine after this long, such as 30 or 5m",
     FLAG_DURATION(A, at.timeout_ns)},
    {"stats", 0, NULL, "counters on stderr at the end", FLAG_BOOL(A, at.stats)},
    {0},
};
static const struct flag_group restore_group = {NULL, restore_flags};
const struct command command_restore = {
    .name = "restore",
    .operands = "SNAPSHOT",
    .summary = "go on with a saved machine",
    .about =
        "Goes on with a saved machine, as often as wanted: the snapshot stays as it is. Its memory "
        "is read when it is touched; what the machine writes to its disks is lost when it ends.",
    .after = "Exit status: as of kiln boot.",
    .groups = {{&restore_group}},
    .min_operands = 1,
    .max_operands = 1,
    .values = "@snapshot",
    .run = cmd_restore,
};

static int parse(int argc, char **argv, struct restore_args *a, struct err *e)
{
    int at = flag_parse(&command_restore, argc, argv, a, e);

    if (at <= 0)
        return at;
    if (a->detach && (a->vsock || a->at.timeout_ns || a->at.stats || a->n_nets))
        return err_set(e, -EINVAL, "--vsock, --timeout, --stats and --net are for the foreground");
    a->snapshot = argv[at];
    return at;
}

static int open_seed(const struct restore_args *a, struct seed **seed, struct err *e)
{
    CLEANUP(mem) char *dir = NULL;
    int r = snapname_find(a->snapshot, &dir, e);

    if (r == 0 && a->verify)
        r = snapshot_verify(dir, e);
    if (r < 0)
        return r;
    return a->lazy ? seed_open_lazy(dir, seed, e) : seed_open(dir, seed, e);
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

    if (r <= 0)
        return flag_stop(&command_restore, r, &e);
    r = open_seed(&a, &seed, &e);
    if (r == 0)
        r = a.detach ? background(&a, seed, &e) : foreground(&a, seed, &e);
    for (unsigned i = 0; i < a.n_nets; i++)
        netflag_done(&a.net[i]);
    seed_free(seed);
    return r < 0 ? say_err(&e, EXIT_KILN) : r;
}
