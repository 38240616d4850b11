/* kiln boot: a machine without a container. The terminal is its serial port. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/attend.h"
#include "cmd/netflag.h"
#include "cmd/verb.h"
#include "vm/vmdisks.h"

static const char help[] =
    "Usage: kiln boot --kernel FILE [flags]\n\n"
    "Boots a Linux kernel (bzImage or vmlinux), a PVH or a plain ELF64 payload in a machine\n"
    "of its own. The terminal is the machine's console; Ctrl-A x ends it.\n\n"
    "  --kernel FILE        the kernel\n"
    "  --initrd FILE        initial RAM disk\n"
    "  --cmdline TEXT       kernel command line (default: console=ttyS0 panic=-1)\n"
    "  --disk DISK[,ro]     a disk: FILE (raw or qcow2) or block device, vhost-user:SOCKET,\n"
    "                       nbd:HOST:PORT, nbd:unix:SOCKET, rbd:POOL/IMAGE; also ,format=F; up to "
    "8\n"
    "  --share TAG=DIR[:ro] a folder for the guest: mount -t virtiofs TAG /mnt; up to 7\n"
    "  --net KIND[,KEY=VALUE]  a network card, up to 4: tap:NAME, user (passt), none; keys: mac,\n"
    "                       mtu, queues, rx-rate, tx-rate (bytes a second), publish\n"
    "  --cpus N             virtual CPUs (default 1)\n"
    "  -m, --memory SIZE    memory, such as 512m or 2g (default 256m)\n"
    "  --engine NAME        auto, kvm, bt or interp (default auto)\n"
    "  --code-cache SIZE    bt: translated code that is kept, 1m to 1g (default 20m)\n"
    "  --name NAME          a name for kiln snapshot, fork and stop\n"
    "  --console MODE       stdio (default), none: nothing is read or shown\n"
    "  --vsock PATH         Unix socket of the host side of virtio-vsock\n"
    "  --timeout TIME       stop the machine after this long, such as 30 or 5m\n"
    "  --perf-map           bt: write /tmp/perf-PID.map, the guest's code for perf(1)\n"
    "  --lockstep           bt and interp at once, compared block by block: slow, for developers\n"
    "  --stats              counters on stderr at the end\n\n"
    "Exit status: 0 when the machine powers off, resets or the time is up with --timeout (124);\n"
    "the value written to the exit port; 125 when kiln failed.\n";

enum {
    OPT_KERNEL = 256,
    OPT_INITRD,
    OPT_CMDLINE,
    OPT_DISK,
    OPT_SHARE,
    OPT_CPUS,
    OPT_ENGINE,
    OPT_CODE_CACHE,
    OPT_CONSOLE,
    OPT_VSOCK,
    OPT_TIMEOUT,
    OPT_STATS,
    OPT_PERF_MAP,
    OPT_LOCKSTEP,
    OPT_NAME,
    OPT_NET,
};

struct boot_args {
    struct vm_conf vm;
    struct vmdisks disks;
    struct attend at;
    struct netflag net[VM_NETS_MAX];
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

static int add_share(struct vm_conf *vm, char *text, struct err *e)
{
    char *path = strchr(text, '=');

    if (vm->n_shares == VM_SHARES_MAX)
        return err_set(e, -EINVAL, "more than %d shares", VM_SHARES_MAX);
    if (!path || path == text || !path[1])
        return err_set(e, -EINVAL, "--share '%s': write TAG=DIR", text);
    *path++ = '\0';
    bool ro = take_ro(path);
    vm->share[vm->n_shares++] = (struct vm_share){.path = path, .tag = text, .read_only = ro};
    return 0;
}

static int add_net(struct boot_args *a, const char *text, struct err *e)
{
    if (a->vm.n_nets == VM_NETS_MAX)
        return err_set(e, -EINVAL, "more than %d network cards", VM_NETS_MAX);
    return netflag_parse(text, &a->net[a->vm.n_nets++], e);
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

static int parse(int argc, char **argv, struct boot_args *a, struct err *e)
{
    static const struct option opts[] = {
        {"kernel", 1, NULL, OPT_KERNEL},
        {"initrd", 1, NULL, OPT_INITRD},
        {"cmdline", 1, NULL, OPT_CMDLINE},
        {"disk", 1, NULL, OPT_DISK},
        {"share", 1, NULL, OPT_SHARE},
        {"cpus", 1, NULL, OPT_CPUS},
        {"memory", 1, NULL, 'm'},
        {"engine", 1, NULL, OPT_ENGINE},
        {"code-cache", 1, NULL, OPT_CODE_CACHE},
        {"console", 1, NULL, OPT_CONSOLE},
        {"vsock", 1, NULL, OPT_VSOCK},
        {"timeout", 1, NULL, OPT_TIMEOUT},
        {"perf-map", 0, NULL, OPT_PERF_MAP},
        {"lockstep", 0, NULL, OPT_LOCKSTEP},
        {"stats", 0, NULL, OPT_STATS},
        {"name", 1, NULL, OPT_NAME},
        {"net", 1, NULL, OPT_NET},
        {"help", 0, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    uint64_t n;
    bool lockstep = false;
    int c, r = 0;

    while (r >= 0 && (c = getopt_long(argc, argv, "m:h", opts, NULL)) != -1) {
        switch (c) {
        case OPT_KERNEL:
            a->vm.kernel = optarg;
            break;
        case OPT_INITRD:
            a->vm.initrd = optarg;
            break;
        case OPT_CMDLINE:
            a->vm.cmdline = optarg;
            break;
        case OPT_DISK:
            r = vmdisks_add(&a->disks, optarg, &a->vm, e);
            break;
        case OPT_SHARE:
            r = add_share(&a->vm, optarg, e);
            break;
        case OPT_CPUS:
            r = parse_uint("--cpus", optarg, 1, VM_CPUS_MAX, &n, e);
            if (r >= 0)
                a->vm.cpus = (unsigned)n;
            break;
        case 'm':
            r = parse_size(optarg, &a->vm.ram_bytes, e);
            break;
        case OPT_ENGINE:
            a->vm.engine = optarg;
            break;
        case OPT_CODE_CACHE:
            r = parse_code_cache(optarg, &a->vm.code_cache_bytes, e);
            break;
        case OPT_CONSOLE:
            if (strcmp(optarg, "stdio") != 0 && strcmp(optarg, "none") != 0)
                return err_set(e, -EINVAL, "--console '%s' is neither stdio nor none", optarg);
            a->at.console = strcmp(optarg, "stdio") == 0;
            break;
        case OPT_VSOCK:
            a->vm.vsock_path = optarg;
            break;
        case OPT_TIMEOUT:
            r = parse_duration(optarg, &a->at.timeout_ns, e);
            break;
        case OPT_NAME:
            a->at.name = optarg;
            break;
        case OPT_NET:
            r = add_net(a, optarg, e);
            break;
        case OPT_PERF_MAP:
            a->vm.perf_map = true;
            break;
        case OPT_LOCKSTEP:
            lockstep = true;
            break;
        case OPT_STATS:
            a->at.stats = a->vm.count_insns = true;
            break;
        case 'h':
            fputs(help, stdout);
            return 1;
        default:
            return err_set(e, -EINVAL, "unknown flag or missing value");
        }
    }
    if (r >= 0 && optind < argc)
        return err_set(e, -EINVAL, "unexpected argument '%s'", argv[optind]);
    if (r >= 0 && !a->vm.kernel)
        return err_set(e, -EINVAL, "--kernel is missing");
    if (r >= 0 && lockstep)
        r = set_lockstep(&a->vm, e);
    return r;
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
    struct vm *vm = NULL;

    int r = parse(argc, argv, &a, &e);
    int status = r > 0 ? 0 : r < 0 ? say_usage("boot", EXIT_KILN, "%s", e.msg) : 0;
    if (r == 0) {
        r = attend_open(&a.at, &a.vm, &e);
        if (r == 0)
            r = open_nets(&a, &e);
        if (r == 0)
            r = vmdisks_start(&a.disks, &a.vm, &e);
        if (r == 0)
            r = vm_new(&a.vm, &vm, &e);
        for (unsigned i = 0; i < a.vm.n_nets; i++)
            netflag_handed(&a.net[i]);
        status = r == 0 ? attend(&a.at, vm, a.vm.vsock_path) : say_err(&e, EXIT_KILN);
        attend_close(&a.at);
    }
    vmdisks_done(&a.disks);
    for (unsigned i = 0; i < a.vm.n_nets; i++)
        netflag_done(&a.net[i]);
    return status;
}
