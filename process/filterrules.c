#include "process/filterrules.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/filter.h"

#define NEVER (~0u)          /* with no capability */
#define CAP(c) (1ull << (c)) /* of one */

/* What is refused, and the capability with which it is not. Everything else that the list below
 * knows is allowed. Reasons, in groups: changes the host as a whole (time, modules, swap, reboot),
 * shows or touches other processes' memory, makes namespaces and mounts, is not namespaced (keys),
 * or has been a way out of containers more than once (bpf, io_uring, userfaultfd, vm86). */
static const struct {
    const char *name;
    unsigned cap;
} refused[] = {
    {"_sysctl", NEVER},
    {"acct", CAP_SYS_PACCT},
    {"add_key", NEVER},
    {"bpf", CAP_BPF},
    {"clock_adjtime", CAP_SYS_TIME},
    {"clock_adjtime64", CAP_SYS_TIME},
    {"clock_settime", CAP_SYS_TIME},
    {"clock_settime64", CAP_SYS_TIME},
    {"create_module", CAP_SYS_MODULE},
    {"delete_module", CAP_SYS_MODULE},
    {"fanotify_init", CAP_SYS_ADMIN},
    {"finit_module", CAP_SYS_MODULE},
    {"fsconfig", CAP_SYS_ADMIN},
    {"fsmount", CAP_SYS_ADMIN},
    {"fsopen", CAP_SYS_ADMIN},
    {"fspick", CAP_SYS_ADMIN},
    {"get_kernel_syms", NEVER},
    {"get_mempolicy", CAP_SYS_NICE},
    {"init_module", CAP_SYS_MODULE},
    {"io_uring_enter", NEVER},
    {"io_uring_register", NEVER},
    {"io_uring_setup", NEVER},
    {"ioperm", CAP_SYS_RAWIO},
    {"iopl", CAP_SYS_RAWIO},
    {"kcmp", CAP_SYS_PTRACE},
    {"kexec_file_load", CAP_SYS_BOOT},
    {"kexec_load", CAP_SYS_BOOT},
    {"keyctl", NEVER},
    {"lookup_dcookie", CAP_SYS_ADMIN},
    {"mbind", CAP_SYS_NICE},
    {"mount", CAP_SYS_ADMIN},
    {"mount_setattr", CAP_SYS_ADMIN},
    {"move_mount", CAP_SYS_ADMIN},
    {"move_pages", CAP_SYS_NICE},
    {"nfsservctl", NEVER},
    {"open_by_handle_at", CAP_DAC_READ_SEARCH},
    {"open_tree", CAP_SYS_ADMIN},
    {"perf_event_open", CAP_PERFMON},
    {"pidfd_getfd", CAP_SYS_PTRACE},
    {"pivot_root", CAP_SYS_ADMIN},
    {"process_madvise", CAP_SYS_PTRACE},
    {"process_vm_readv", CAP_SYS_PTRACE},
    {"process_vm_writev", CAP_SYS_PTRACE},
    {"query_module", NEVER},
    {"quotactl", CAP_SYS_ADMIN},
    {"quotactl_fd", CAP_SYS_ADMIN},
    {"reboot", CAP_SYS_BOOT},
    {"request_key", NEVER},
    {"set_mempolicy", CAP_SYS_NICE},
    {"set_mempolicy_home_node", CAP_SYS_NICE},
    {"setdomainname", CAP_SYS_ADMIN},
    {"sethostname", CAP_SYS_ADMIN},
    {"setns", CAP_SYS_ADMIN},
    {"settimeofday", CAP_SYS_TIME},
    {"stime", CAP_SYS_TIME},
    {"swapoff", NEVER},
    {"swapon", NEVER},
    {"sysfs", NEVER},
    {"syslog", CAP_SYSLOG},
    {"umount", CAP_SYS_ADMIN},
    {"umount2", CAP_SYS_ADMIN},
    {"unshare", CAP_SYS_ADMIN},
    {"uselib", NEVER},
    {"userfaultfd", NEVER},
    {"ustat", NEVER},
    {"vhangup", CAP_SYS_TTY_CONFIG},
    {"vm86", NEVER},
    {"vm86old", NEVER},
    {"chroot", CAP_SYS_CHROOT},
};

/* Decided by arguments below. */
static const char *const special[] = {"clone", "clone3", "personality", "socket"};

enum {
    LAST_X86_64 = 456, /* futex_requeue, Linux 6.7: later calls are "not there" */
    NEW_NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
                     CLONE_NEWPID | CLONE_NEWNET,
};

/* personality(2): Linux, 32-bit Linux, without address randomisation; and the question. */
static const uint32_t personas[] = {0x0, 0x0008, 0x20000, 0x20008, 0xffffffff};

static bool has(uint64_t caps, unsigned cap)
{
    return cap != NEVER && (caps & CAP(cap));
}

uint64_t filterrules_relevant(void)
{
    uint64_t mask = CAP(CAP_SYS_ADMIN);

    for (unsigned i = 0; i < ARRAY_LEN(refused); i++)
        if (refused[i].cap != NEVER)
            mask |= CAP(refused[i].cap);
    return mask;
}

static bool is_special(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(special); i++)
        if (strcmp(name, special[i]) == 0)
            return true;
    return false;
}

/* NULL-safe: libseccomp does not know every number. 0 = allow, 1 = refuse, -1 = leave alone. */
static int verdict(const char *name, uint64_t caps)
{
    if (name && is_special(name))
        return -1;
    for (unsigned i = 0; name && i < ARRAY_LEN(refused); i++)
        if (strcmp(refused[i].name, name) == 0)
            return has(caps, refused[i].cap) ? 0 : 1;
    return 0;
}

/* Names of one ABI; libseccomp translates the numbers for the others. */
static int plain_rules(scmp_filter_ctx ctx, uint64_t caps)
{
    int r = 0;

    for (int nr = 0; r == 0 && nr <= LAST_X86_64; nr++) {
        if (nr > 334 && nr < 424) /* no calls there: common numbers begin at 424 */
            continue;
        CLEANUP(mem) char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);
        int v = verdict(name, caps);

        if (v >= 0)
            r = seccomp_rule_add(ctx, v ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW, nr, 0);
        if (r == -EDOM || r == -EFAULT) /* not known to this libseccomp for every ABI */
            r = 0;
    }
    return r;
}

/* Calls that 32-bit programs alone have. */
static int x86_rules(scmp_filter_ctx ctx, uint64_t caps)
{
    int r = 0;

    for (int nr = 0; r == 0 && nr <= LAST_X86_64; nr++) {
        CLEANUP(mem) char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86, nr);

        if (!name || seccomp_syscall_resolve_name_arch(SCMP_ARCH_X86_64, name) >= 0)
            continue;
        int v = verdict(name, caps);
        int pseudo = seccomp_syscall_resolve_name(name);
        if (v >= 0 && pseudo != __NR_SCMP_ERROR)
            r = seccomp_rule_add(ctx, v ? SCMP_ACT_ERRNO(EPERM) : SCMP_ACT_ALLOW, pseudo, 0);
        if (r == -EDOM || r == -EFAULT)
            r = 0;
    }
    return r;
}

static int special_rules(scmp_filter_ctx ctx, uint64_t caps)
{
    int r = 0;

    for (unsigned i = 0; r == 0 && i < ARRAY_LEN(personas); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(personality), 1,
                             SCMP_A0_32(SCMP_CMP_EQ, personas[i]));
    /* vsock reaches the host's services around the network namespace. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0_32(SCMP_CMP_LT, AF_VSOCK));
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1,
                             SCMP_A0_32(SCMP_CMP_GT, AF_VSOCK));
    if (r < 0)
        return r;
    if (has(caps, CAP_SYS_ADMIN)) {
        r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 0);
        return r < 0 ? r : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone3), 0);
    }
    /* clone3's flags are in memory, where a filter cannot look: it is "not there", and libraries
     * fall back to clone. */
    return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                            SCMP_A0_32(SCMP_CMP_MASKED_EQ, NEW_NAMESPACES, 0));
}

int filterrules_export(void *ctx, struct sock_filter **insns, size_t *n, struct err *e)
{
    struct stat st;
    CLEANUP(fd) int fd = memfd_create("filter", MFD_CLOEXEC);

    if (fd < 0)
        return err_errno(e, -errno, "memfd_create");
    int r = seccomp_export_bpf(ctx, fd);
    if (r < 0)
        return err_errno(e, r, "seccomp filter");
    if (fstat(fd, &st) < 0)
        return err_errno(e, -errno, "seccomp filter");
    size_t size = (size_t)st.st_size;
    if (size / sizeof(struct sock_filter) > FILTER_INSNS_MAX)
        return err_set(e, -E2BIG, "seccomp filter: more than %d instructions", FILTER_INSNS_MAX);
    CLEANUP(mem) struct sock_filter *v = malloc(size);
    if (!v)
        return err_errno(e, -ENOMEM, "seccomp filter");
    if (pread(fd, v, size, 0) != (ssize_t)size)
        return err_errno(e, -EIO, "seccomp filter");
    *insns = take_ptr(&v);
    *n = size / sizeof(struct sock_filter);
    return 0;
}

int filterrules_default(uint64_t caps, struct sock_filter **insns, size_t *n, struct err *e)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));

    if (!ctx)
        return err_errno(e, -ENOMEM, "seccomp filter");
    int r = seccomp_arch_add(ctx, SCMP_ARCH_X86);
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    /* A binary tree, not a list: 400 numbers. */
    if (r == 0)
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (r == 0)
        r = plain_rules(ctx, caps);
    if (r == 0)
        r = x86_rules(ctx, caps);
    if (r == 0)
        r = special_rules(ctx, caps);
    r = r < 0 ? err_errno(e, r, "seccomp filter") : filterrules_export(ctx, insns, n, e);
    seccomp_release(ctx);
    return r;
}
