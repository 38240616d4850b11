/* jail/calls.h - which system calls a thread of a machine's process may make, by its role. Read by
 * tools/mkcalls.c alone, when kiln is built. docs/isolation.md explains the choice.
 *
 * Threads of one process share its memory: who has taken over one can make another's calls. So no
 * list has a call that opens a name, makes a socket, reaches another process or starts a program;
 * what the roles differ in narrows down what a first mistake can do. */
#ifndef JAIL_CALLS_H
#define JAIL_CALLS_H

enum call_rule {
    CALL_ANY,
    CALL_REFUSED, /* EPERM or ENOSYS: there is another way, and the caller takes it */
    CALL_NO_CODE, /* mmap, mprotect: nothing becomes executable */
    CALL_CODE,    /* mmap: executable, but not writable */
    CALL_THREAD,  /* clone: a thread of this process */
    CALL_FORK,    /* clone: no new namespaces */
    CALL_FSTAT,   /* newfstatat: as the C library asks of a descriptor */
    CALL_KICK,    /* tgkill: the signal that kicks a vCPU, which is ignored elsewhere */
    CALL_OWN_PID, /* tgkill: this process */
    CALL_IOCTL,   /* one of `ioctls`, or of KVM's */
    CALL_PRCTL,   /* one of `prctls` */
};

struct call {
    const char *name;
    enum call_rule rule;
};

/* What the C library and every thread need. */
static const struct call common[] = {
    {"read", CALL_ANY},
    {"write", CALL_ANY},
    {"readv", CALL_ANY},
    {"writev", CALL_ANY},
    {"close", CALL_ANY},
    {"fstat", CALL_ANY},
    {"newfstatat", CALL_FSTAT},
    {"lseek", CALL_ANY},
    {"poll", CALL_ANY},
    {"ppoll", CALL_ANY},
    {"futex", CALL_ANY},
    {"exit", CALL_ANY},
    {"exit_group", CALL_ANY},
    {"rt_sigreturn", CALL_ANY},
    {"rt_sigprocmask", CALL_ANY},
    {"restart_syscall", CALL_ANY},
    {"mmap", CALL_NO_CODE},
    {"mprotect", CALL_NO_CODE},
    {"munmap", CALL_ANY},
    {"mremap", CALL_ANY},
    {"madvise", CALL_ANY},
    {"brk", CALL_ANY},
    {"membarrier", CALL_ANY},
    {"clock_gettime", CALL_ANY},
    {"clock_getres", CALL_ANY},
    {"clock_nanosleep", CALL_ANY},
    {"nanosleep", CALL_ANY},
    {"gettimeofday", CALL_ANY},
    {"time", CALL_ANY},
    {"sched_yield", CALL_ANY},
    {"sched_getaffinity", CALL_ANY},
    {"sysinfo", CALL_ANY},
    {"getrandom", CALL_ANY},
    {"getpid", CALL_ANY},
    {"getppid", CALL_ANY},
    {"gettid", CALL_ANY},
    {"tgkill", CALL_OWN_PID},
    {"set_robust_list", CALL_ANY},
    {"rseq", CALL_ANY},
    {"prctl", CALL_PRCTL},
    {"clone3", CALL_REFUSED},
};

/* KVM_RUN and a vCPU's state; the GS base where the CPU has no instruction for it; what a device
 * does when its registers are written, a reset above all. */
static const struct call vcpu[] = {
    {"ftruncate", CALL_ANY},  {"epoll_ctl", CALL_ANY},       {"io_uring_enter", CALL_ANY},
    {"shutdown", CALL_ANY},   {"sendmsg", CALL_ANY},         {"recvmsg", CALL_ANY},
    {"fcntl", CALL_ANY},      {"timerfd_settime", CALL_ANY}, {"ioctl", CALL_IOCTL},
    {"arch_prctl", CALL_ANY}, {"rt_sigtimedwait", CALL_ANY}, {"timer_settime", CALL_ANY},
};

static const struct call io[] = {
    {"epoll_wait", CALL_ANY},      {"epoll_pwait", CALL_ANY}, {"epoll_ctl", CALL_ANY},
    {"timerfd_settime", CALL_ANY}, {"accept4", CALL_ANY},     {"recvfrom", CALL_ANY},
    {"recvmsg", CALL_ANY},         {"recvmmsg", CALL_ANY},    {"sendto", CALL_ANY},
    {"sendmsg", CALL_ANY},         {"sendmmsg", CALL_ANY},    {"shutdown", CALL_ANY},
    {"getsockopt", CALL_ANY},      {"fcntl", CALL_ANY},       {"dup", CALL_ANY},
    {"ioctl", CALL_IOCTL},         {"preadv", CALL_ANY},      {"pwritev", CALL_ANY},
    {"pread64", CALL_ANY},         {"pwrite64", CALL_ANY},    {"fdatasync", CALL_ANY},
    {"capget", CALL_ANY},          {"capset", CALL_ANY},      {"io_uring_enter", CALL_ANY},
    {"clone", CALL_THREAD},        {"seccomp", CALL_ANY},     {"eventfd2", CALL_ANY},
    {"ftruncate", CALL_ANY},       {"fallocate", CALL_ANY},
};

/* ...and what a file server does beneath its folders. */
static const struct call files[] = {
    {"openat", CALL_ANY},     {"openat2", CALL_ANY},   {"newfstatat", CALL_ANY},
    {"statx", CALL_ANY},      {"fstatfs", CALL_ANY},   {"readlinkat", CALL_ANY},
    {"getdents64", CALL_ANY}, {"unlinkat", CALL_ANY},  {"mkdirat", CALL_ANY},
    {"mknodat", CALL_ANY},    {"symlinkat", CALL_ANY}, {"linkat", CALL_ANY},
    {"renameat2", CALL_ANY},  {"renameat", CALL_ANY},  {"fchownat", CALL_ANY},
    {"fchmodat", CALL_ANY},   {"utimensat", CALL_ANY}, {"fallocate", CALL_ANY},
    {"ftruncate", CALL_ANY},  {"fsync", CALL_ANY},     {"copy_file_range", CALL_ANY},
    {"flock", CALL_ANY},      {"faccessat", CALL_ANY}, {"faccessat2", CALL_ANY},
    {"dup3", CALL_ANY},
};

static const struct call block[] = {
    {"preadv", CALL_ANY},   {"pwritev", CALL_ANY},   {"pread64", CALL_ANY},
    {"pwrite64", CALL_ANY}, {"fallocate", CALL_ANY}, {"fdatasync", CALL_ANY},
};

static const struct call memory[] = {
    {"pread64", CALL_ANY},
    {"ioctl", CALL_IOCTL},
};

static const struct call console_log[] = {
    {"pread64", CALL_ANY},
    {"pwrite64", CALL_ANY},
    {"ftruncate", CALL_ANY},
};

/* A fork(2) of the machine's process writes memory and copies of disks into files it was given. */
static const struct call writer[] = {
    {"sync_file_range", CALL_ANY}, {"pread64", CALL_ANY},         {"pwrite64", CALL_ANY},
    {"preadv", CALL_ANY},          {"pwritev", CALL_ANY},         {"fsync", CALL_ANY},
    {"fdatasync", CALL_ANY},       {"ftruncate", CALL_ANY},       {"fallocate", CALL_ANY},
    {"close_range", CALL_ANY},     {"copy_file_range", CALL_ANY}, {"ioctl", CALL_IOCTL},
    {"fcntl", CALL_ANY},           {"clone", CALL_THREAD},
};

/* The control socket, snapshots and forks. A forked machine makes its engine, devices and threads
 * under this list. Without io_uring: a new ring could not be kept from opening files. */
static const struct call control[] = {
    {"tgkill", CALL_KICK},
    {"clone", CALL_FORK},
    {"wait4", CALL_ANY},
    {"pipe2", CALL_ANY},
    {"listen", CALL_ANY},
    {"epoll_create1", CALL_ANY},
    {"timerfd_create", CALL_ANY},
    {"memfd_create", CALL_ANY},
    {"rt_sigaction", CALL_ANY},
    {"mmap", CALL_CODE},
    {"flock", CALL_ANY},
    {"io_uring_setup", CALL_REFUSED},
    {"set_tid_address", CALL_ANY},

    {"signalfd4", CALL_ANY},
    {"rt_sigtimedwait", CALL_ANY},
    {"dup3", CALL_ANY},
    {"dup2", CALL_ANY},
    {"setsid", CALL_ANY},
    {"fadvise64", CALL_ANY},
    {"io_uring_register", CALL_REFUSED},
    {"prlimit64", CALL_ANY},
    {"geteuid", CALL_ANY},
    {"getuid", CALL_ANY},
    {"socketpair", CALL_ANY},
};

#endif
