/* kiln boot: a machine without a container. The terminal is its serial port. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/attend.h"
#include "cmd/flags.h"
#include "cmd/netflag.h"
#include "cmd/verb.h"
#include "vm/vmdisks.h"

struct boot_args {
    struct vm_conf vm;
    struct vmdisks disks;
    struct netflag net[VM_NETS_MAX];
    struct attend at;
    bool lockstep;
};

/* Cuts ":ro" off. */
static bool take_ro(char *text)
{
    size_t len = strlen(text);
    bool ro = len > 3 && strcmp(text + len - 3, ":ro") == 0;

    if (ro)
        text[len - 3] = '\0';
    return ro;
}

static int add_disk(void *args, const char *value, struct err *e)
{
    struct boot_args *a = args;

    return vmdisks_add(&a->disks, value, &a->vm, e);
}

/* Values are words of argv, which may be cut. */
static int add_share(void *args, const char *value, struct err *e)
{
    struct vm_conf *vm = &((struct boot_args *)args)->vm;
    char *text = (char *)value, *path = strchr(text, '=');

    if (vm->n_shares == VM_SHARES_MAX)
        return err_set(e, -EINVAL, "more than %d shares", VM_SHARES_MAX);
    if (!path || path == text || !path[1])
        return err_set(e, -EINVAL, "'%s': write TAG=DIR", text);
    *path++ = '\0';
    bool ro = take_ro(path);
    vm->share[vm->n_shares++] = (struct vm_share){.path = path, .tag = text, .read_only = ro};
    return 0;
}

static int add_net(void *args, const char *value, struct err *e)
{
    struct boot_args *a = args;

    if (a->vm.n_nets == VM_NETS_MAX)
        return err_set(e, -EINVAL, "more than %d network cards", VM_NETS_MAX);
    return netflag_parse(value, &a->net[a->vm.n_nets++], e);
}

static int open_nets(struct boot_args *a, struct err *e)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < a->vm.n_nets; i++) {
        r = netflag_open(&a->net[i], e);
        a->vm.net[i] = a->net[i].card;
    }
    return r;
}

static void show_difference(void *ctx, const char *text)
{
    (void)ctx;
    fputs(text, stderr);
}

static int set_lockstep(struct vm_conf *vm, struct err *e)
{
    if (strcmp(vm->engine, "auto") != 0 || vm->cpus != 1)
        return err_set(e, -EINVAL,
                       "--lockstep is bt and interp at once, with one CPU: leave out "
                       "--engine and --cpus");
    vm->engine = "lockstep";
    vm->differs = show_difference;
    return 0;
}

static int set_stats(void *args, const char *value, struct err *e)
{
    struct boot_args *a = args;

    (void)e;
    a->at.stats = a->vm.count_insns = strcmp(value, "true") == 0;
    return 0;
}

#define A struct boot_args
static const struct flag boot_flags[] = {
    {"kernel", 0, "FILE", "the kernel", FLAG_TEXT(A, vm.kernel), .values = "@file"},
    {"initrd", 0, "FILE", "initial RAM disk", FLAG_TEXT(A, vm.initrd), .values = "@file"},
    {"cmdline", 0, "TEXT", "kernel command line (default: console=ttyS0 panic=-1)",
     FLAG_TEXT(A, vm.cmdline)},
    {"disk", 0, "DISK[,ro]",
     "a disk: FILE (raw or qcow2) or block device, vhost-user:SOCKET, nbd:HOST:PORT, "
     "nbd:unix:SOCKET, rbd:POOL/IMAGE; also ,format=F; up to 8",
     FLAG_SET(add_disk), .values = "@file"},
    {"share", 0, "TAG=DIR[:ro]", "a folder for the guest: mount -t virtiofs TAG /mnt; up to 7",
     FLAG_SET(add_share)},
    {"net", 0, "KIND[,KEY=VALUE]",
     "a network card, up to 4: tap:NAME, user (passt), vhost-user[-server]:SOCKET, none; keys: "
     "mac, mtu, "
     "queues, rx-rate, tx-rate (bytes a second), publish",
     FLAG_SET(add_net)},
    {"cpus", 0, "N", "virtual CPUs (default 1)", FLAG_UINT(A, vm.cpus, 1, VM_CPUS_MAX)},
    {"memory", 'm', "SIZE", "memory, such as 512m or 2g (default 256m)",
     FLAG_SIZE(A, vm.ram_bytes)},
    {"engine", 0, "NAME", "auto, kvm, bt or interp (default auto)", FLAG_TEXT(A, vm.engine),
     .values = "auto kvm bt interp"},
    {"code-cache", 0, "SIZE", "bt: translated code that is kept, 1m to 1g (default 20m)",
     FLAG_AT(A, vm.code_cache_bytes, flags_code_cache)},
    {"name", 0, "NAME", "a name for kiln snapshot, fork and stop", FLAG_TEXT(A, at.name)},
    {"console", 0, "MODE", "stdio (default), none: nothing is read or shown",
     FLAG_AT(A, at.console, flags_console), .values = "stdio none"},
    {"vsock", 0, "PATH", "Unix socket of the host side of virtio-vsock",
     FLAG_TEXT(A, vm.vsock_path), .values = "@file"},
    {"timeout", 0, "TIME", "stop the machine after this long, such as 30 or 5m",
     FLAG_DURATION(A, at.timeout_ns)},
    {"perf-map", 0, NULL, "bt: write /tmp/perf-PID.map, the guest's code for perf(1)",
     FLAG_BOOL(A, vm.perf_map)},
    {"no-jail", 0, NULL, "let the machine's process keep its powers over this host: for perf, gdb",
     FLAG_BOOL(A, at.no_jail)},
    {"lockstep", 0, NULL, "bt and interp at once, compared block by block: slow, for developers",
     FLAG_BOOL(A, lockstep)},
    {"stats", 0, NULL, "counters on stderr at the end", FLAG_SET(set_stats)},
    {0},
};
static const struct flag_group boot_group = {NULL, boot_flags};
const struct command command_boot = {
    .name = "boot",
    .summary = "boot any kernel",
    .about =
        "Boots a Linux kernel (bzImage or vmlinux), a PVH or a plain ELF64 payload in a machine "
        "of its own. The terminal is the machine's console; Ctrl-A x ends it.",
    .after = "Exit status: 0 when the machine powers off, resets or the time is up with --timeout "
             "(124);\nthe value written to the exit port; 125 when kiln failed.",
    .groups = {{&boot_group}},
    .run = cmd_boot,
};

static int parse(int argc, char **argv, struct boot_args *a, struct err *e)
{
    int at = flag_parse(&command_boot, argc, argv, a, e);

    if (at > 0 && !a->vm.kernel)
        return err_set(e, -EINVAL, "--kernel is missing");
    if (at > 0 && a->lockstep) {
        int r = set_lockstep(&a->vm, e);
        return r < 0 ? r : at;
    }
    return at;
}

int cmd_boot(int argc, char **argv)
{
    struct boot_args a = {.at = {.console = true, .note = "boot"},
                          .vm = {.cpus = 1,
                                 .ram_bytes = 256 << 20,
                                 .engine = "auto",
                                 .initrd_fd = -1,
                                 .cmdline = "console=ttyS0 panic=-1",
                                 .vsock_cid = 3,
                                 .console = true,
                                 .rng = true,
                                 .console_in = -1,
                                 .console_out = -1}};
    struct err e = {0};
    int r = parse(argc, argv, &a, &e);
    int status = r <= 0 ? flag_stop(&command_boot, r, &e) : 0;
    if (r > 0) {
        r = attend_open(&a.at, &a.vm, &e);
        if (r == 0)
            r = open_nets(&a, &e);
        if (r == 0)
            r = vmdisks_start(&a.disks, &a.vm, &e);
        struct vmm_conf c = {.vm = &a.vm, .stderr_stays = a.vm.differs != NULL};
        if (r == 0)
            r = attend_start(&a.at, &c, &e);
        for (unsigned i = 0; i < a.vm.n_nets; i++)
            netflag_handed(&a.net[i]);
        status = r == 0 ? attend(&a.at) : say_err(&e, EXIT_KILN);
        attend_close(&a.at);
    }
    vmdisks_done(&a.disks);
    for (unsigned i = 0; i < a.vm.n_nets; i++)
        netflag_done(&a.net[i]);
    return status;
}
