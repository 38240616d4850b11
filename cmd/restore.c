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
    char *folder; /* owned */
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
    {"no-jail", 0, NULL, "let the machine's process keep its powers over this host: for perf, gdb",
     FLAG_BOOL(A, at.no_jail)},
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

static int open_seed(struct restore_args *a, struct seed **seed, struct err *e)
{
    int r = snapname_find(a->snapshot, &a->folder, e);
    const char *dir = a->folder;

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

/* The machine as it was saved, but for what differs here. */
static int describe(struct restore_args *a, const struct seed *seed, struct vm_conf *c,
                    struct err *e)
{
    shape_conf(seed_shape(seed), c);
    c->engine = a->engine;
    c->vsock_cid = machine_cid();
    for (unsigned i = 0; i < VM_DISKS_MAX; i++) {
        if (a->disk[i] && i >= c->n_disks)
            return err_set(e, -EINVAL, "--disk %u: the saved machine has %u disks", i, c->n_disks);
        if (a->disk[i])
            c->disk[i].path = a->disk[i];
    }
    return 0;
}

static int start(struct restore_args *a, struct seed *seed, struct vm_conf *c, bool background,
                 struct err *e)
{
    char vsock[RUNDIR_PATH_MAX + 16];
    struct vmm_conf vmm = {
        .vm = c, .from = seed, .seed = a->folder, .note = a->at.note, .detach = background};
    int theirs = -1, r = 0;

    snprintf(vsock, sizeof(vsock), "%s/vsock", a->at.dir.path);
    if (seed_shape(seed)->vsock)
        c->vsock_path = a->vsock ? a->vsock : vsock;
    a->at.has_agent = c->vsock_path && strcmp(a->at.note, MACHINE_HAS_AGENT) == 0;
    if (a->at.has_agent)
        r = session_pair(&theirs, &a->at.agent, e);
    c->vsock_client = theirs;
    if (r == 0)
        r = attend_start(&a->at, &vmm, e);
    cleanup_fd(&theirs);
    for (unsigned i = 0; i < a->n_nets; i++)
        netflag_handed(&a->net[i]);
    return r;
}

static int foreground(struct restore_args *a, struct seed *seed, struct err *e)
{
    struct vm_conf c;
    int r = describe(a, seed, &c, e);

    if (r < 0)
        return r;
    r = attend_open(&a->at, &c, e);
    if (r == 0)
        r = connect_nets(a, &c, e);
    if (r == 0)
        r = start(a, seed, &c, false, e);
    int status = r == 0 ? attend(&a->at) : r;
    attend_close(&a->at);
    return status;
}

static int background(struct restore_args *a, struct seed *seed, struct err *e)
{
    struct vm_conf c;
    int r = describe(a, seed, &c, e);

    for (unsigned i = 0; i < VM_DISKS_MAX; i++)
        if (a->disk[i])
            return err_set(e, -EINVAL, "--disk is for the foreground");
    a->at.console = false;
    if (r == 0)
        r = attend_open(&a->at, &c, e);
    if (r == 0)
        r = start(a, seed, &c, true, e);
    if (r == 0) {
        puts(a->at.dir.id);
        attend_leave(&a->at);
    } else {
        attend_close(&a->at);
    }
    return r;
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
    a.at.folder = true;
    a.at.note = r == 0 ? seed_note(seed) : NULL;
    if (r == 0)
        r = a.detach ? background(&a, seed, &e) : foreground(&a, seed, &e);
    for (unsigned i = 0; i < a.n_nets; i++)
        netflag_done(&a.net[i]);
    free(a.folder);
    seed_free(seed);
    return r < 0 ? say_err(&e, EXIT_KILN) : r;
}
