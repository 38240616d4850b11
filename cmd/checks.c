#include "cmd/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cpu/cpu.h"
#include "cpu/kvm/kvm.h"
#include "image/initrd.h"
#include "image/store.h"

enum {
    MIB = 1 << 20,
    RUN_DEFAULT_MIB = 512, /* memory of a machine that `kiln run` makes when not told */
    HOST_SHARE_MIB = 128,  /* and what kiln itself and the host want to keep */
    STORE_FREE_MIB = 1024, /* a middling image, while it is unpacked */
    NOFILE_WANTED = 256,   /* descriptors: disks, sockets, eventfds */
    NPROC_WANTED = 64,     /* threads of a machine with many CPUs */
};

void check_says(struct check_result *r, enum check_status s, const char *fmt, ...)
{
    va_list ap;

    r->status = s;
    va_start(ap, fmt);
    vsnprintf(r->text, sizeof(r->text), fmt, ap);
    va_end(ap);
}

void check_fix(struct check_result *r, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(r->fix, sizeof(r->fix), fmt, ap);
    va_end(ap);
}

/* --- CPU and engines ------------------------------------------------------ */

static void check_cpu(struct check_result *r)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("popcnt") ||
        !__builtin_cpu_supports("ssse3")) {
        check_says(r, CHECK_MISSING, "this CPU lacks x86-64-v2 (SSE4.2, POPCNT)");
        check_fix(r, "a CPU of 2009 or later; in a virtual machine: a CPU model that has them");
        return;
    }
    bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") &&
              __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
    check_says(r, CHECK_OK, "x86-64-v%d", v3 ? 3 : 2);
}

static void check_kvm(struct check_result *r)
{
    struct err e = {0};
    uint64_t ps;

    if (kvmprobe_speed(&kvmprobe_host, &ps, &e) < 0) {
        /* The sentence holds the fix. */
        check_says(r, CHECK_WARN, "%s", e.msg);
        return;
    }
    if (ps < KVMPROBE_HW_PS) {
        check_says(r, CHECK_OK, "hardware speed (%.1f ns a loop in ring 0)", (double)ps / 1000);
        return;
    }
    check_says(r, CHECK_WARN,
               "works, but emulates ring 0 in software (%.0f ns a loop, hardware takes about 1)",
               (double)ps / 1000);
    check_fix(r, "a host with VT-x or AMD-V, or nested virtualization on the host above");
}

static void check_engine(struct check_result *r)
{
    const struct cpu_engine *eng;
    struct err e = {0};
    char works[64] = "";

    if (cpu_engine_pick("auto", &eng, &e) < 0) {
        check_says(r, CHECK_MISSING, "%s", e.msg);
        return;
    }
    for (const struct cpu_engine *const *p = cpu_engines(); *p; p++) {
        size_t n = strlen(works);
        bool hw;

        if ((*p)->probe(&hw, NULL) == 0)
            snprintf(works + n, sizeof(works) - n, "%s%s", n ? ", " : "", (*p)->name);
    }
    check_says(r, CHECK_OK, "%s; auto takes %s", works, eng->name);
}

/* --- memory and limits ----------------------------------------------------- */

/* MemAvailable of /proc/meminfo, bytes; 0 = not told. */
static uint64_t mem_available(void)
{
    CLEANUP(file) FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib;

    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            return kib * 1024;
    }
    return 0;
}

static void check_memory(struct check_result *r)
{
    uint64_t mib = mem_available() / MIB;

    if (mib >= RUN_DEFAULT_MIB + HOST_SHARE_MIB) {
        check_says(r, CHECK_OK, "%llu MiB available", (unsigned long long)mib);
        return;
    }
    check_says(r, mib < HOST_SHARE_MIB ? CHECK_MISSING : CHECK_WARN,
               "%llu MiB available, a machine gets %d MiB when not told otherwise",
               (unsigned long long)mib, RUN_DEFAULT_MIB);
    check_fix(r, "free some, or give machines less with --memory");
}

static void check_limits(struct check_result *r)
{
    struct rlimit files = {0}, procs = {0}, space = {0};
    uint64_t ram = (uint64_t)(RUN_DEFAULT_MIB + HOST_SHARE_MIB) * MIB;

    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_NPROC, &procs);
    getrlimit(RLIMIT_AS, &space);
    if (files.rlim_cur < NOFILE_WANTED) {
        check_says(r, CHECK_WARN, "only %llu open files", (unsigned long long)files.rlim_cur);
        check_fix(r, "ulimit -n %d", NOFILE_WANTED);
    } else if (space.rlim_cur != RLIM_INFINITY && space.rlim_cur < ram) {
        check_says(r, CHECK_MISSING, "only %llu MiB of address space",
                   (unsigned long long)(space.rlim_cur / MIB));
        check_fix(r, "ulimit -v unlimited");
    } else if (procs.rlim_cur < NPROC_WANTED) {
        check_says(r, CHECK_WARN, "only %llu processes and threads",
                   (unsigned long long)procs.rlim_cur);
        check_fix(r, "ulimit -u %d", NPROC_WANTED);
    } else {
        check_says(r, CHECK_OK, "%llu open files", (unsigned long long)files.rlim_cur);
    }
}

/* --- what the kernel offers ------------------------------------------------ */

static void check_cgroups(struct check_result *r)
{
    bool v2 = access("/sys/fs/cgroup/cgroup.controllers", R_OK) == 0;
    bool unified = access("/sys/fs/cgroup/unified/cgroup.controllers", R_OK) == 0;
    bool v1 = access("/sys/fs/cgroup/memory/tasks", R_OK) == 0 ||
              access("/sys/fs/cgroup/cpu/tasks", R_OK) == 0;

    if (v2)
        check_says(r, CHECK_OK, "version 2");
    else if (v1)
        check_says(r, CHECK_OK, "version 1%s",
                   unified ? " (hybrid: version 2 without controllers)" : "");
    else {
        check_says(r, CHECK_WARN,
                   "none mounted: what a machine uses cannot be bounded from outside");
        check_fix(r, "mount -t cgroup2 none /sys/fs/cgroup");
    }
}

static void check_uring(struct check_result *r)
{
    struct io_uring ring;
    int ret = io_uring_queue_init(4, &ring, 0);

    if (ret == 0) {
        io_uring_queue_exit(&ring);
        check_says(r, CHECK_OK, "rings can be made");
        return;
    }
    check_says(r, CHECK_WARN, "refused (%s): disks work, by threads", strerror(-ret));
    check_fix(r,
              "sysctl kernel.io_uring_disabled=0; in a container: a seccomp profile with io_uring");
}

static void check_uffd(struct check_result *r)
{
    CLEANUP(fd) int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

    if (fd >= 0) {
        check_says(r, CHECK_OK, "for faults of user space");
        return;
    }
    check_says(r, CHECK_WARN, "refused (%s)", strerror(errno));
    check_fix(r, "sysctl vm.unprivileged_userfaultfd=1");
}

static void check_tun(struct check_result *r)
{
    CLEANUP(fd) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        check_says(r, CHECK_OK, "/dev/net/tun opens");
        return;
    }
    check_says(r, CHECK_WARN, "/dev/net/tun: %s", strerror(errno));
    check_fix(r,
              "modprobe tun, and access to /dev/net/tun: machines on a bridge and pasta need it");
}

static void check_vhost(struct check_result *r)
{
    bool net = access("/dev/vhost-net", R_OK | W_OK) == 0;
    bool vsock = access("/dev/vhost-vsock", R_OK | W_OK) == 0;

    if (net || vsock)
        check_says(r, CHECK_OK, "%s%s%s", net ? "net" : "", net && vsock ? ", " : "",
                   vsock ? "vsock" : "");
    else
        check_says(r, CHECK_OK, "absent, and not needed");
}

/* --- programs, kernel, store ----------------------------------------------- */

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    char file[4096];

    while (path && *path) {
        size_t n = strcspn(path, ":");

        snprintf(file, sizeof(file), "%.*s/%s", (int)n, path, program);
        if (access(file, X_OK) == 0)
            return true;
        path += n + (path[n] == ':');
    }
    return false;
}

static void needs_program(struct check_result *r, const char *program, const char *package,
                          const char *what_for)
{
    if (in_path(program)) {
        check_says(r, CHECK_OK, "found");
        return;
    }
    check_says(r, CHECK_WARN, "not found: %s", what_for);
    check_fix(r, "apt-get install %s", package);
}

static void check_user_net(struct check_result *r)
{
    needs_program(r, "pasta", "passt", "no --network user");
    if (r->status == CHECK_OK)
        check_says(r, CHECK_OK, "passt and pasta");
}

static void check_bridge_net(struct check_result *r)
{
    needs_program(r, "nft", "nftables", "no networks with a bridge");
    if (r->status == CHECK_OK)
        check_says(r, CHECK_OK, "nft%s", geteuid() == 0 ? "" : "; root can make bridges");
}

static void check_skopeo(struct check_result *r)
{
    needs_program(r, "skopeo", "skopeo", "images cannot be pulled from registries");
}

static void check_mksquashfs(struct check_result *r)
{
    needs_program(r, "mksquashfs", "squashfs-tools", "folders cannot be shared with -v");
}

static void check_qsd(struct check_result *r)
{
    needs_program(r, "qemu-storage-daemon", "qemu-system-common",
                  "no disks in qcow2 and other formats, over NBD, or of Ceph");
    if (r->status == CHECK_OK)
        check_says(r, CHECK_OK, "qemu-storage-daemon");
}

static void check_store(struct check_result *r)
{
    struct err e = {0};
    struct statvfs fs;
    struct store *s;

    if (store_open(NULL, &s, &e) < 0) {
        check_says(r, CHECK_MISSING, "%s", e.msg);
        check_fix(r, "name a folder you may write to in KILN_ROOT");
        return;
    }
    const char *root = store_root(s);
    if (access(root, W_OK) < 0) {
        check_says(r, CHECK_MISSING, "%s: %s", root, strerror(errno));
        check_fix(r, "name a folder you may write to in KILN_ROOT");
    } else if (statvfs(root, &fs) == 0) {
        uint64_t mib = (uint64_t)fs.f_bavail * fs.f_frsize / MIB;

        check_says(r, mib < STORE_FREE_MIB ? CHECK_WARN : CHECK_OK, "%s, %llu MiB free", root,
                   (unsigned long long)mib);
        if (r->status == CHECK_WARN)
            check_fix(r, "kiln prune, or name another folder in KILN_ROOT");
    } else {
        check_says(r, CHECK_OK, "%s", root);
    }
    store_close(s);
}

static void check_kernel(struct check_result *r)
{
    CLEANUP(mem) char *kernel = NULL;
    CLEANUP(mem) char *dir = NULL;
    struct err e = {0};
    struct store *s;
    int ret = store_open(NULL, &s, &e);

    if (ret == 0) {
        ret = kernel_find(store_root(s), NULL, &kernel, &dir, &e);
        store_close(s);
    }
    if (ret < 0)
        check_says(r, CHECK_MISSING, "%s", e.msg);
    else
        check_says(r, CHECK_OK, "%s", kernel);
}

const struct check_item checks_host[] = {
    {"cpu", check_cpu},
    {"kvm", check_kvm},
    {"engine", check_engine},
    {"memory", check_memory},
    {"limits", check_limits},
    {"kernel", check_kernel},
    {"store", check_store},
    {"skopeo", check_skopeo},
    {"mksquashfs", check_mksquashfs},
    {"disk formats", check_qsd},
    {"cgroups", check_cgroups},
    {"jail: user", checkjail_user},
    {"jail: pid", checkjail_pid},
    {"jail: mount", checkjail_mount},
    {"jail: net", checkjail_net},
    {"jail: caps", checkjail_caps},
    {"jail: seccomp", checkjail_seccomp},
    {"jail: landlock", checkjail_landlock},
    {"jail: mdwe", checkjail_mdwe},
    {"io_uring", check_uring},
    {"userfaultfd", check_uffd},
    {"tun", check_tun},
    {"network: user", check_user_net},
    {"network: bridge", check_bridge_net},
    {"vhost", check_vhost},
};
const size_t checks_host_n = ARRAY_LEN(checks_host);
