/* Hostile code in the place of a machine's threads. A real machine runs a real guest; the hook that
 * each of its threads calls first is the jail's, and after that the attack runs, on that thread. It
 * must not come back with a success. Without the jail the same attacks do, where that harms nobody:
 * so they are attacks. */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "jail/jail.h"
#include "test/switch/world.h"

enum { ATTACK_MS = 20000 };

static pid_t victim; /* a process of the host's that is not ours to touch */
static char secret[] = "the victim's secret"; /* at the same address in it */
static int shared_dir = -1;                   /* a descriptor that a careless caller left open */

/* --- attacks: 0 or more = success ------------------------------------------------- */

static long a_open(void)
{
    return syscall(SYS_open, "/etc/passwd", O_RDONLY);
}
static long a_openat(void)
{
    return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
}
static long a_openat_above(void)
{
    return syscall(SYS_openat, shared_dir, "../etc/passwd", O_RDONLY);
}
static long a_openat2(void)
{
    struct open_how how = {.flags = O_RDONLY};

    return syscall(SYS_openat2, AT_FDCWD, "/etc/passwd", &how, sizeof(how));
}
static long a_handle(void)
{
    struct {
        struct file_handle h;
        char room[128];
    } f = {.h = {.handle_bytes = 8, .handle_type = 1}};
    long r = syscall(SYS_open_by_handle_at, shared_dir, &f.h, O_RDONLY);

    return r < 0 && errno == ESTALE ? 0 : r; /* it was looked up */
}
static long a_create(void)
{
    return syscall(SYS_creat, "/tmp/kiln-jail-test", 0600);
}
static long a_uring(void)
{
    struct io_uring_params p = {0};

    return syscall(SYS_io_uring_setup, 4, &p);
}
static long a_proc(void)
{
    return syscall(SYS_openat, AT_FDCWD, "/proc/1/status", O_RDONLY);
}
static long a_unix(void)
{
    return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
}
static long a_inet(void)
{
    return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}
static long a_connect(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
    long r = syscall(SYS_connect, shared_dir, &a, sizeof(a));

    return r < 0 && errno == ENOTSOCK ? 0 : r; /* the call was made */
}
static long a_bind(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    long r = syscall(SYS_bind, shared_dir, &a, sizeof(a));

    return r < 0 && errno == ENOTSOCK ? 0 : r;
}
static long a_ptrace(void)
{
    return syscall(SYS_ptrace, PTRACE_ATTACH, victim, NULL, NULL);
}
static long a_readv(void)
{
    char buf[sizeof(secret)] = "";
    struct iovec to = {buf, sizeof(buf)}, from = {secret, sizeof(secret)};

    return syscall(SYS_process_vm_readv, victim, &to, 1, &from, 1, 0);
}
static long a_writev(void)
{
    struct iovec to = {secret, 1}, from = {secret, 1};

    return syscall(SYS_process_vm_writev, victim, &from, 1, &to, 1, 0);
}
static long a_kill(void)
{
    return syscall(SYS_kill, victim, 0);
}
static long a_kill_all(void)
{
    return syscall(SYS_kill, -1, 0);
}
static long a_tgkill(void)
{
    return syscall(SYS_tgkill, victim, victim, 0);
}
static long a_sigqueue(void)
{
    siginfo_t si = {.si_code = SI_QUEUE};

    return syscall(SYS_rt_sigqueueinfo, victim, 0, &si);
}
static long a_pidfd(void)
{
    return syscall(SYS_pidfd_open, victim, 0);
}
static long a_mount(void)
{
    return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}
static long a_open_tree(void)
{
    return syscall(SYS_open_tree, AT_FDCWD, "/", 1);
}
static long a_fsopen(void)
{
    return syscall(SYS_fsopen, "proc", 0);
}
static long a_chroot(void)
{
    return syscall(SYS_chroot, "/");
}
static long a_unshare(void)
{
    return syscall(SYS_unshare, CLONE_NEWUSER);
}
static long a_clone_user(void)
{
    long r = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0);

    if (r == 0)
        _exit(0); /* forked child */
    return r;
}
static long a_setns(void)
{
    long r = syscall(SYS_setns, shared_dir, 0);

    return r < 0 && errno == EINVAL ? 0 : r;
}
static long a_exec(void)
{
    char *argv[] = {(char *)(uintptr_t) "true", NULL};

    return syscall(SYS_execve, "/nowhere", argv, argv + 1) < 0 && errno == ENOENT ? 0 : -1;
}
static long a_execveat(void)
{
    char *argv[] = {(char *)(uintptr_t) "true", NULL};

    return syscall(SYS_execveat, shared_dir, "nowhere", argv, argv + 1, 0) < 0 && errno == ENOENT
               ? 0
               : -1;
}
static long a_code(void)
{
    return (long)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
}
static long a_more_code(void)
{
    void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return mprotect(p, 4096, PROT_READ | PROT_EXEC);
}
static long a_keyctl(void)
{
    return syscall(SYS_keyctl, 0, -3, 1);
}
static long a_bpf(void)
{
    union bpf_attr a = {
        .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

    return syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a));
}
static long a_perf(void)
{
    struct perf_event_attr a = {.type = PERF_TYPE_SOFTWARE, .size = sizeof(a)};

    return syscall(SYS_perf_event_open, &a, 0, -1, -1, 0);
}
static long a_uffd(void)
{
    return syscall(SYS_userfaultfd, 0);
}
static long a_setuid(void)
{
    return syscall(SYS_setresuid, 0, 0, 0);
}
static long a_module(void)
{
    return syscall(SYS_init_module, NULL, 0, "") < 0 && errno != EPERM && errno != ENOSYS ? 0 : -1;
}
static long a_tty(void)
{
    long r = syscall(SYS_ioctl, 0, TIOCSTI, "x");

    return r < 0 && errno == ENOTTY ? 0 : r;
}
static long a_shm(void)
{
    return syscall(SYS_shmget, 0, 4096, 0600);
}
static long a_dump(void)
{
    return syscall(SYS_prctl, 4 /* PR_SET_DUMPABLE */, 1, 0, 0, 0);
}
static long a_handler(void)
{
    return syscall(SYS_rt_sigaction, SIGSYS, NULL, NULL, 8);
}

static const struct attack {
    const char *name;
    long (*run)(void);
    bool harmless; /* ...and works without a jail for root on this kernel: tried there */
    bool control;  /* the control thread may: a forked machine needs it */
    bool deep;     /* what the jail has besides its lists of calls stops it as well */
} attacks[] = {
    {"open", a_open, true, false, true},
    {"openat", a_openat, true, false, true},
    {"openat ..", a_openat_above, true, false, true},
    {"openat2", a_openat2, true, false, true},
    {"open_by_handle_at", a_handle, false, false, true},
    {"creat", a_create, false, false, true},
    {"io_uring_setup", a_uring, false, false, false},
    {"/proc of another", a_proc, true, false, true},
    {"socket unix", a_unix, true, false, false},
    {"socket inet", a_inet, true, false, false},
    {"connect", a_connect, true, false, false},
    {"bind", a_bind, true, false, false},
    {"ptrace", a_ptrace, false, false, true},
    {"process_vm_readv", a_readv, true, false, true},
    {"process_vm_writev", a_writev, false, false, true},
    {"kill", a_kill, true, false, true},
    {"kill -1", a_kill_all, true, false, true},
    {"tgkill", a_tgkill, true, false, true},
    {"rt_sigqueueinfo", a_sigqueue, false, false, true},
    {"pidfd_open", a_pidfd, true, false, true},
    {"mount", a_mount, false, false, true},
    {"open_tree", a_open_tree, false, false, false},
    {"fsopen", a_fsopen, false, false, true},
    {"chroot", a_chroot, true, false, true},
    {"unshare", a_unshare, false, false, false},
    {"clone newuser", a_clone_user, false, false, false},
    {"setns", a_setns, true, false, false},
    {"execve", a_exec, true, false, false},
    {"execveat", a_execveat, true, false, false},
    {"mmap rwx", a_code, true, false, true},
    {"mprotect exec", a_more_code, true, false, true},
    {"keyctl", a_keyctl, false, false, false},
    {"bpf", a_bpf, false, false, true},
    {"perf_event_open", a_perf, false, false, false},
    {"userfaultfd", a_uffd, false, false, false},
    {"setresuid 0", a_setuid, false, false, true},
    {"init_module", a_module, false, false, true},
    {"TIOCSTI", a_tty, true, false, false},
    {"shmget", a_shm, false, false, false},
    {"dumpable", a_dump, true, false, false},
    {"rt_sigaction", a_handler, true, true, false},
};

/* --- a machine with one of them inside -------------------------------------------- */

struct stage {
    struct thread_hook jail;
    const struct attack *a;
    enum thread_role role;
    bool no_lists;
    int result; /* gets a byte: 'y' it worked, 'n' it did not */
};

static void enter(void *ctx, enum thread_role role)
{
    const struct stage *s = ctx;

    if (!s->no_lists)
        thread_enter(&s->jail, role);
    if (role != s->role)
        return;
    char said = s->a->run() < 0 ? 'n' : 'y';
    (void)!write(s->result, &said, 1);
    for (;;)
        pause(); /* not in any list either: the end */
}

static void *other_thread(void *arg)
{
    const struct thread_hook *h = arg;
    const struct stage *s = h->ctx;

    thread_enter(h, s->role);
    return NULL;
}

static _Noreturn void machine(struct stage *s, const char *guest, bool off, int why)
{
    struct thread_hook hook = {.enter = enter, .ctx = s};
    struct jail_conf j = {.off = off, .why_fd = why};
    struct vm_conf c = {.cpus = 1,
                        .ram_bytes = 32 << 20,
                        .engine = "bt",
                        .kernel = guest,
                        .initrd_fd = -1,
                        .cmdline = "",
                        .rng = true,
                        .hook = &hook,
                        .console_in = -1,
                        .console_out = -1};
    struct err e = {0};
    pthread_t t;
    struct vm *vm;

    if (vm_new(&c, &vm, &e) < 0 || jail_enter(&j, &s->jail, &e) < 0 || vm_start(vm, &e) < 0)
        die("machine", &e);
    /* The machine has no such threads here; their lists are the same in any. */
    if (s->role != THREAD_IO && s->role != THREAD_VCPU &&
        pthread_create(&t, NULL, other_thread, &hook) != 0)
        _exit(1); /* forked child */
    (void)vm_wait(vm, ATTACK_MS, NULL, &e);
    _exit(1); /* forked child */
}

enum how { JAILED, NO_LISTS, FREE };

/* 'y', 'n', or 'k': it was ended for it, with *e. */
static char run(const struct attack *a, enum thread_role role, const char *guest, enum how how,
                struct err *e)
{
    int result[2], why[2];
    char said = 'k';

    if (pipe2(result, O_CLOEXEC) < 0 || pipe2(why, O_CLOEXEC) < 0)
        abort();
    pid_t warden = jail_fork(how == FREE, e);
    if (warden < 0)
        die("jail_fork", e);
    if (warden == 0) {
        struct stage s = {.a = a, .role = role, .no_lists = how == NO_LISTS, .result = result[1]};
        pid_t pid = fork();

        if (pid == 0)
            machine(&s, guest, how == FREE, why[1]);
        close(result[1]);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
        _exit(0); /* forked child */
    }
    close(result[1]);
    close(why[1]);
    (void)!read(result[0], &said, 1);
    kill(warden, SIGKILL); /* and with it all of its namespace */
    while (waitpid(warden, NULL, 0) < 0 && errno == EINTR) {
    }
    if (said == 'k' && jail_why(why[0], e) == 0)
        err_set(e, -EIO, "it ended without a reason");
    close(result[0]);
    close(why[0]);
    return said;
}

static int attack_all(const char *guest)
{
    int bad = 0;

    for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
        for (int role = 0; role < THREAD_ROLES; role++) {
            const struct attack *a = &attacks[i];
            struct err e = {0};
            bool wide = role == THREAD_CONTROL || role == THREAD_MAIN;

            if (a->control && wide)
                continue;
            char how = run(a, (enum thread_role)role, guest, JAILED, &e);
            if (how == 'y' || (how == 'k' && e.code != -EPERM)) {
                printf("%s by thread %d: %s\n", a->name, role, how == 'y' ? "it worked" : e.msg);
                bad++;
            } else if (role == THREAD_VCPU) {
                printf("%s: %s\n", a->name, how == 'k' ? e.msg : "it failed");
            }
        }
    }
    return bad;
}

/* Namespaces, the empty root, capabilities, landlock, PR_SET_MDWE: as if a list had a hole. */
static int without_lists(const char *guest)
{
    int bad = 0;

    for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
        struct err e = {0};

        if (attacks[i].deep && run(&attacks[i], THREAD_IO, guest, NO_LISTS, &e) != 'n') {
            printf("%s: only the lists of calls stop it\n", attacks[i].name);
            bad++;
        }
    }
    return bad;
}

static int without_a_jail(const char *guest)
{
    int bad = 0;

    for (size_t i = 0; i < ARRAY_LEN(attacks); i++) {
        struct err e = {0};

        if (attacks[i].harmless && run(&attacks[i], THREAD_VCPU, guest, FREE, &e) != 'y') {
            printf("%s: no attack, it does not even work without a jail\n", attacks[i].name);
            bad++;
        }
    }
    return bad;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    puts("skipped: a program with a sanitizer has no lists of system calls");
    return 77;
#endif
    shared_dir = open("/tmp", O_RDONLY | O_DIRECTORY);
    victim = fork();
    if (victim == 0)
        for (;;)
            pause();
    int bad = attack_all(argv[1]);
    bad += without_lists(argv[1]);
    if (geteuid() == 0)
        bad += without_a_jail(argv[1]);
    kill(victim, SIGKILL);
    waitpid(victim, NULL, 0);
    (void)unlink("/tmp/kiln-jail-test");
    return bad != 0;
}
