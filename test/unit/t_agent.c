/* The agent itself, as an ordinary process in namespaces of its own, and the host's end of a
 * session talking to it. The image is a folder with busybox. Needs root (mounts) and busybox; a
 * skip says so. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"
#include "container/session.h"
#include "container/sessnet.h"
#include "container/wire.h"
#include "proto/filework.h"
#include "proto/proctable.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

static char base[] = "/tmp/kiln-t-agent-XXXXXX";
static int group = -1; /* control group of the containers, where this host has cgroup2 */
static struct session_watch watch = {.machine_fd = -1, .signal_fd = -1}; /* SIGINT and SIGWINCH */

struct guest {
    struct sockaddr_storage addr; /* where the agent listens */
    socklen_t addr_len;
    pid_t pid;
    int listener; /* abstract AF_UNIX */
    struct sockaddr *sa;
    struct session *s;
};

static const char *const links[] = {
    "sh",  "cat",   "echo",   "id",    "env",  "pwd",  "hostname", "sleep",    "head",
    "tty", "stty",  "yes",    "touch", "ls",   "ps",   "mount",    "kill",     "wc",
    "dd",  "chmod", "mkfifo", "mkdir", "stat", "true", "false",    "sha256sum"};

static void put(const char *dir, const char *name, const char *text, mode_t mode)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    fchmod(fd, mode);
    close(fd);
}

static void make_image(const char *dir)
{
    static const char *const sub[] = {"", "/bin", "/etc", "/plain"};
    char path[512], cmd[600];

    for (unsigned i = 0; i < ARRAY_LEN(sub); i++) {
        snprintf(path, sizeof(path), "%s%s", dir, sub[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    snprintf(cmd, sizeof(cmd), "cp /bin/busybox %s/bin/busybox", dir);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    for (unsigned i = 0; i < ARRAY_LEN(links); i++) {
        snprintf(path, sizeof(path), "%s/bin/%s", dir, links[i]);
        assert_int_equal(symlink("busybox", path), 0);
    }
    put(dir, "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\njoe:x:1000:100:Joe:/home/joe:/bin/sh\nbroken\n", 0644);
    put(dir, "etc/group", "root:x:0:\nusers:x:100:\nwheel:x:10:root,joe\n", 0644);
    put(dir, "bin/noexec", "#!/bin/sh\n", 0644);
    put(dir, "bin/garbage", "\x01\x02\x03\x04garbage", 0755);
    put(dir, "bin/lost", "#!/no/such/interpreter\n", 0755);
}

static _Noreturn void run_agent(int listener)
{
    struct agent a = {.base = base, .any_peer = true, .group = group, .box = SANDBOX_NONE};
    struct err e = {0};
    sigset_t chld;

    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, NULL);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves it alone */
    if (serve(&a, listener, &e) < 0)
        fprintf(stderr, "agent: %s\n", e.msg);
    _exit(0);
}

/* A control group of our own, as the agent in a guest has one. */
static void make_group(void)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/cgroup", base);
    if (mkdir(path, 0755) < 0 || mount("cgroup2", path, "cgroup2", 0, NULL) < 0)
        return;
    snprintf(path, sizeof(path), "%s/cgroup/kiln-t-agent-%d", base, (int)getpid());
    if (mkdir(path, 0755) == 0)
        group = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_group(void)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/cgroup/kiln-t-agent-%d", base, (int)getpid());
    /* The last of what ran in it is still on its way out. */
    for (unsigned tries = 0; tries < 1000 && rmdir(path) < 0 && errno == EBUSY; tries++)
        usleep(10000);
    snprintf(path, sizeof(path), "%s/cgroup", base);
    umount2(path, MNT_DETACH);
}

static int group_up(void **state)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    watch.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (geteuid() != 0 || access("/bin/busybox", X_OK) < 0)
        return 0;
    if (!mkdtemp(base) || unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0)
        return -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("t", base, "tmpfs", 0, NULL) < 0)
        return -1;
    char dir[64];
    snprintf(dir, sizeof(dir), "%s/src", base);
    make_image(dir);
    make_group();
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

static int group_down(void **state)
{
    remove_group();
    umount2(base, MNT_DETACH);
    rmdir(base);
    return 0;
}

static void connect_again(struct guest *g)
{
    struct err e = {0};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&g->addr, g->addr_len), 0);
    assert_int_equal(session_open_fd(fd, &watch, 5000, &g->s, &e), 0);
}

static struct guest *up_with(const struct session_setup *extra)
{
    char dir[64];
    struct guest *g = calloc(1, sizeof(*g));
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    struct err e = {0};
    sa_family_t unix_family = AF_UNIX;

    if (geteuid() != 0 || access("/bin/busybox", X_OK) < 0) {
        print_message("skipped: needs root and busybox\n");
        free(g);
        skip();
    }
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&unix_family, sizeof(unix_family)),
                     0); /* autobind */
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&ss, &len), 0);
    g->pid = fork();
    if (g->pid == 0)
        run_agent(listener);
    close(listener);
    g->addr = ss;
    g->addr_len = len;
    connect_again(g);
    snprintf(dir, sizeof(dir), "%s/src", base);
    struct session_setup c = extra ? *extra : (struct session_setup){0};
    c.root_dev = dir;
    c.root_fstype = "bind";
    c.hostname = "testhost";
    if (session_setup(g->s, &c, &e) < 0)
        fail_msg("%s", e.msg);
    return g;
}

static struct guest *up(void)
{
    return up_with(NULL);
}

static void down(struct guest *g)
{
    struct err e;
    int status;

    assert_int_equal(session_poweroff(g->s, &e), 0);
    assert_int_equal(waitpid(g->pid, &status, 0), g->pid);
    assert_int_equal(status, 0);
    session_close(g->s);
    free(g);
}

struct result {
    int status;
    char out[8192], err[8192];
};

static void read_back(int fd, char *buf, size_t len)
{
    ssize_t n = pread(fd, buf, len - 1, 0);

    buf[n < 0 ? 0 : n] = '\0';
    close(fd);
}

static int run_process(struct guest *g, const struct session_process *p, int in, struct result *r,
                       struct err *e)
{
    int out = memfd_create("out", 0), er = memfd_create("err", 0);
    int rc = session_start(g->s, p, e);

    if (rc == 0) {
        struct session_streams io = {in, out, er, -1};
        rc = session_pump(g->s, &io, 20000, &r->status, e);
    }
    read_back(out, r->out, sizeof(r->out));
    read_back(er, r->err, sizeof(r->err));
    return rc;
}

/* One machine, one shell command. */
static void sh(const char *cmd, struct result *r)
{
    const char *argv[] = {"sh", "-c", cmd, NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};

    if (run_process(g, &p, -1, r, &e) < 0)
        fail_msg("%s", e.msg);
    down(g);
}

static void output_and_status_are_the_commands(void **state)
{
    static struct result r;

    sh("echo to-out; echo to-err >&2; exit 42", &r);
    assert_true(WIFEXITED(r.status));
    assert_int_equal(WEXITSTATUS(r.status), 42);
    assert_string_equal(r.out, "to-out\n");
    assert_string_equal(r.err, "to-err\n");
}

static void death_by_a_signal_is_told_as_such(void **state)
{
    static struct result r;

    sh("kill -KILL $$", &r);
    assert_true(WIFSIGNALED(r.status));
    assert_int_equal(WTERMSIG(r.status), SIGKILL);
    sh("kill -TERM $$", &r);
    assert_int_equal(WTERMSIG(r.status), SIGTERM);
}

static void the_container_ends_with_its_first_process(void **state)
{
    static struct result r;

    sh("sleep 1000 & (sleep 1000 &) ; echo bye", &r);
    assert_int_equal(r.status, 0);
    assert_string_equal(r.out, "bye\n");
}

static void the_root_looks_like_a_containers(void **state)
{
    static struct result r;

    sh("hostname; cat /etc/hostname; grep -c testhost /etc/hosts; id -u; echo $HOME; echo $PATH; "
       "echo $HOSTNAME; pwd;"
       "echo x > /new && cat /new; ls /dev/null /dev/ptmx /dev/fd/0 >/dev/null && echo dev;"
       "test -d /proc/1 && echo proc; echo y | cat /dev/stdin",
       &r);
    assert_string_equal(r.out, "testhost\ntesthost\n1\n0\n/root\n"
                               "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/"
                               "bin\ntesthost\n/\nx\ndev\nproc\ny\n");
}

static void a_machine_can_become_another(void **state)
{
    static struct result r;
    const char *argv[] = {"sh", "-c", "hostname; cat /etc/hostname /etc/machine-id; cat /etc/hosts",
                          NULL};
    struct session_process p = {.argv = argv};
    struct guest *g =
        up_with(&(struct session_setup){.machine_id = "0123456789abcdef0123456789abcdef"});
    struct session_setup other = {.hostname = "second",
                                  .machine_id = "fedcba9876543210fedcba9876543210"};
    struct err e = {0};

    assert_int_equal(session_identity(g->s, &other, &e), 0);
    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    down(g);
    assert_memory_equal(r.out, "second\nsecond\nfedcba9876543210fedcba9876543210\n", 47);
    assert_non_null(strstr(r.out, "\tsecond\n"));
    assert_null(strstr(r.out, "testhost"));
    other.hostname = "a-name-that-is-longer-than-any-name-of-a-host-that-linux-would-ever-take";
    g = up();
    assert_int_equal(session_identity(g->s, &other, &e), -EINVAL);
    down(g);
}

/* Waits until the kernel says so of the group. */
static void await_frozen(bool yes)
{
    for (unsigned tries = 0; tries < 6000; tries++) {
        char text[128] = "";
        int fd = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);

        assert_true(read(fd, text, sizeof(text) - 1) > 0);
        close(fd);
        if (!strstr(text, "frozen 1") == !yes)
            return;
        usleep(10000);
    }
    fail_msg("the group is%s frozen", yes ? " not" : "");
}

static void need_group(void)
{
    if (group < 0) {
        print_message("skipped: needs root and cgroup v2\n");
        skip();
    }
}

static const char *const busy[] = {"sh", "-c", "echo busy; while :; do :; done", NULL};

/* A container that is at work, and a second session. */
static struct guest *at_work(struct session **main_session)
{
    struct session_process p = {.argv = busy};
    struct guest *g = up();
    struct err e = {0};

    assert_int_equal(session_start(g->s, &p, &e), 0);
    *main_session = g->s;
    connect_again(g);
    return g;
}

static void processes_are_held_until_the_session_ends(void **state)
{
    struct session *work, *holder;
    struct err e = {0};

    need_group();
    struct guest *g = at_work(&work);
    assert_int_equal(session_hold(g->s, &e), 0);
    await_frozen(true);
    holder = g->s;
    connect_again(g);
    assert_int_equal(session_hold(g->s, &e), -EBUSY);
    session_close(g->s); /* one that holds nothing releases nothing */
    connect_again(g);
    await_frozen(true);
    session_close(holder);
    await_frozen(false);
    session_close(work);
    down(g);
}

static void a_copy_is_held_until_it_has_an_identity(void **state)
{
    struct session *work;
    struct session_setup other = {.hostname = "copy"};
    struct err e = {0};

    need_group();
    struct guest *g = at_work(&work);
    assert_int_equal(session_hold(g->s, &e), 0);
    /* An answer that is never read: the end of this connection is a reset, as that of a machine
     * which goes on from a saved state. */
    struct proto_buf hello;
    proto_begin(&hello, PROTO_HELLO, 0);
    assert_int_equal(proto_end(&hello), 0);
    assert_int_equal(send(g->s->fd, hello.b, hello.len, 0), hello.len);
    struct pollfd answer = {.fd = g->s->fd, .events = POLLIN};
    assert_int_equal(poll(&answer, 1, 60000), 1);
    session_close(g->s);
    connect_again(g);
    await_frozen(true);
    assert_int_equal(session_identity(g->s, &other, &e), 0);
    await_frozen(false);
    session_close(work);
    down(g);
}

static void a_read_only_container_keeps_its_files(void **state)
{
    struct guest *g = up_with(&(struct session_setup){.root_ro = true});
    struct session_setup other = {.hostname = "second"};
    struct err e = {0};

    assert_int_equal(session_identity(g->s, &other, &e), 0);
    down(g);
}

static void nothing_in_it_can_reach_the_agent(void **state)
{
    static struct result r;

    sh("sleep 1000 & kill -KILL 1; kill -KILL -1; wait; echo alone", &r);
    assert_string_equal(r.out, "alone\n");
    sh("kill -KILL 1; kill -TERM 1; sleep 0.1; cat /proc/1/comm; ls /proc/self/fd | wc -l", &r);
    assert_string_equal(r.out, "kiln-init\n4\n"); /* 0, 1, 2 and the listing itself */
}

static void users_are_looked_up_in_the_image(void **state)
{
    static const struct {
        const char *user, *out;
    } row[] = {
        {"joe", "uid=1000(joe) gid=100(users) groups=10(wheel),100(users)\n/home/joe\n"},
        {"1000", "uid=1000(joe) gid=100(users) groups=10(wheel),100(users)\n/home/joe\n"},
        {"joe:wheel", "uid=1000(joe) gid=10(wheel) groups=10(wheel)\n/home/joe\n"},
        {"4711", "uid=4711 gid=0(root) groups=0(root)\n/\n"},
        {"4711:4712", "uid=4711 gid=4712 groups=4712\n/\n"},
    };
    const char *argv[] = {"sh", "-c", "id; echo $HOME", NULL};

    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        static struct result r;
        struct session_process p = {.argv = argv, .user = row[i].user};
        struct guest *g = up();
        struct err e = {0};

        if (run_process(g, &p, -1, &r, &e) < 0)
            fail_msg("%s", e.msg);
        assert_string_equal(r.out, row[i].out);
        down(g);
    }
}

static void a_command_that_cannot_run_says_why(void **state)
{
    static const struct {
        const char *argv0, *user, *cwd;
        int code;
    } row[] = {
        {"nosuch", "", "/", -ENOENT},
        {"/bin/nosuch", "", "/", -ENOENT},
        {"", "", "/", -ENOENT},
        {"/bin/lost", "", "/", -ENOENT},
        {"/plain", "", "/", -EACCES},
        {"noexec", "", "/", -EACCES},
        {"garbage", "", "/", -ENOEXEC},
        {"true", "nobody-here", "/", -EINVAL},
        {"true", "joe:nogroup", "/", -EINVAL},
        {"true", "", "relative", -EINVAL},
        {"true", "", "/etc/passwd/x", -ENOTDIR},
    };
    struct guest *g = up();

    /* All on one session: a failed START leaves it as it was. */
    for (unsigned i = 0; i < ARRAY_LEN(row); i++) {
        const char *argv[] = {row[i].argv0, NULL};
        struct session_process p = {.argv = argv, .user = row[i].user, .cwd = row[i].cwd};
        struct err e = {0};

        int rc = session_start(g->s, &p, &e);
        if (rc != row[i].code)
            fail_msg("%s: %d %s", row[i].argv0, rc, e.msg);
        assert_true(e.msg[0] != '\0');
    }
    static struct result r;
    const char *argv[] = {"echo", "fine", NULL};
    struct session_process p = {.argv = argv};
    struct err e = {0};
    assert_int_equal(run_process(g, &p, -1, &r, &e), 0);
    assert_string_equal(r.out, "fine\n");
    down(g);
}

static void environment_and_folder_are_as_asked(void **state)
{
    const char *argv[] = {"sh", "-c", "echo $A-$HOME-$TERM; pwd; stat -c %u .", NULL};
    const char *env[] = {"A=1", "HOME=/h", "A=2", NULL};
    struct session_process p = {.argv = argv, .env = env, .cwd = "/made/for/it", .user = "joe"};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "2-/h-\n/made/for/it\n1000\n");
    down(g);
}

static void arguments_larger_than_a_frame_arrive(void **state)
{
    enum { N = 40, LEN = 10000 };
    static char big[LEN + 1];
    const char *argv[N + 4] = {"sh", "-c", "echo $# ${#40}"};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    memset(big, 'x', LEN);
    for (unsigned i = 0; i <= N; i++)
        argv[3 + i] = big;
    argv[3 + N] = NULL;
    argv[N + 3] = NULL;
    struct session_process p = {.argv = argv};
    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "39 0\n");
    down(g);
}

/* 32 MiB through cat: every byte, in order, with an end. */
static void stdin_goes_through_unharmed(void **state)
{
    enum { LEN = 32 << 20 };
    const char *argv[] = {"sha256sum", NULL};
    struct session_process p = {.argv = argv, .with_stdin = true};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};
    int in = memfd_create("in", 0);
    uint32_t x = 1;
    char local[128] = "", cmd[128];

    for (unsigned i = 0; i < LEN / 65536; i++) {
        static uint32_t block[16384];
        for (unsigned k = 0; k < 16384; k++)
            block[k] = x = x * 1664525 + 1013904223;
        assert_int_equal(write(in, block, sizeof(block)), sizeof(block));
    }
    snprintf(cmd, sizeof(cmd), "sha256sum < /proc/%d/fd/%d", getpid(), in);
    assert_int_equal(t_sh(cmd, local, sizeof(local)), 0);
    lseek(in, 0, SEEK_SET);
    if (run_process(g, &p, in, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, local);
    close(in);
    down(g);
}

static void a_process_that_leaves_its_input_unread_ends_well(void **state)
{
    const char *argv[] = {"head", "-c", "5", NULL};
    struct session_process p = {.argv = argv, .with_stdin = true};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};
    int in = open("/dev/zero", O_RDONLY);

    assert_int_equal(run_process(g, &p, in, &r, &e), 0);
    assert_int_equal(r.status, 0);
    close(in);
    down(g);
}

/* As after a fork of the machine: the connection is reset, not closed. A Unix socket does that when
 * bytes lie unread in it. */
static void a_command_outlives_a_reset_of_its_connection(void **state)
{
    const char *first[] = {"sh", "-c",
                           "echo unread; until test -e /go; do sleep 0.01; done; echo more; "
                           "touch /done; sleep 1000",
                           NULL};
    const char *second[] = {"sh", "-c", "touch /go; until test -e /done; do sleep 0.01; done",
                            NULL};
    struct session_process p = {.argv = first}, q = {.argv = second};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    assert_int_equal(session_start(g->s, &p, &e), 0);
    struct pollfd unread = {.fd = g->s->fd, .events = POLLIN};
    assert_int_equal(poll(&unread, 1, 60000), 1);
    session_close(g->s);
    connect_again(g);
    assert_int_equal(run_process(g, &q, -1, &r, &e), 0);
    assert_int_equal(r.status, 0);
    down(g);
}

static void an_output_nobody_reads_means_sigpipe(void **state)
{
    const char *argv[] = {"yes", NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};
    int v[2], status = 0;

    assert_int_equal(pipe(v), 0);
    close(v[0]);
    assert_int_equal(session_start(g->s, &p, &e), 0);
    struct session_streams io = {-1, v[1], 2, -1};
    assert_int_equal(session_pump(g->s, &io, 10000, &status, &e), 0);
    /* busybox's yes meets EPIPE or the signal, by its version */
    assert_true((WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE) || WEXITSTATUS(status) == 1);
    close(v[1]);
    down(g);
}

static void a_terminal_has_the_size_that_was_asked(void **state)
{
    const char *argv[] = {"sh", "-c", "tty; stty size; echo $TERM; test -t 0 -a -t 2 && echo all",
                          NULL};
    struct session_process p = {.argv = argv, .tty = true, .rows = 30, .cols = 99};
    static struct result r;
    struct guest *g = up();
    struct err e = {0};

    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "/dev/pts/0\r\n30 99\r\nxterm\r\nall\r\n");
    down(g);
}

static void a_second_interrupt_ends_what_ignores_the_first(void **state)
{
    const char *argv[] = {"sh", "-c", "trap '' INT; echo up; while :; do sleep 1; done", NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};
    int status, v[2];
    char c;

    assert_int_equal(pipe(v), 0);
    assert_int_equal(session_start(g->s, &p, &e), 0);
    pid_t child = fork();
    if (child == 0) { /* presses Ctrl-C twice once it is up */
        while (read(v[0], &c, 1) == 1 && c != '\n') {
        }
        kill(getppid(), SIGINT);
        usleep(100000);
        kill(getppid(), SIGINT);
        _exit(0);
    }
    struct session_streams io = {-1, v[1], 2, -1};
    assert_int_equal(session_pump(g->s, &io, 10000, &status, &e), -ECANCELED);
    waitpid(child, NULL, 0);
    close(v[0]);
    close(v[1]);
    down(g);
}

static void a_read_only_root_refuses_writes(void **state)
{
    const char *argv[] = {"sh", "-c", "touch /x; touch /dev/shm/x && echo shm; cat /etc/hostname",
                          NULL};
    struct session_process p = {.argv = argv};
    static const struct session_setup ro = {.root_ro = true};
    static struct result r;
    struct guest *g = up_with(&ro);
    struct err e = {0};

    if (run_process(g, &p, -1, &r, &e) < 0)
        fail_msg("%s", e.msg);
    assert_string_equal(r.out, "shm\ntesthost\n");
    assert_non_null(strstr(r.err, "Read-only"));
    down(g);
}

static void nonsense_from_the_host_ends_the_session_alone(void **state)
{
    struct guest *g = up();
    struct err e = {0};
    static struct result r;
    const char *argv[] = {"true", NULL};
    struct session_process p = {.argv = argv};

    /* A second connection that talks out of turn; the first goes on. */
    assert_int_equal(run_process(g, &p, -1, &r, &e), 0);
    assert_int_equal(r.status, 0);
    assert_int_equal(session_start(g->s, &p, &e) < 0, 1); /* one process a session */
    session_close(g->s);
    kill(g->pid, SIGKILL);
    waitpid(g->pid, NULL, 0);
    free(g);
}

/* ---- work on files */

/* What the work says: an error, or its stream on *out, a memfd. */
static int work(struct guest *g, unsigned kind, unsigned flags, const char *path, const char *name,
                int in, int *out, struct err *e)
{
    struct result *r = calloc(1, sizeof(*r));
    struct pack_in *p = calloc(1, sizeof(*p));
    struct pack_record rec;

    *out = memfd_create("out", 0);
    struct session_streams io = {in, *out, -1, -1};
    int rc = session_work(g->s, kind, flags, path, name, e);
    if (rc == 0)
        rc = session_pump(g->s, &io, 20000, &r->status, e);
    assert_int_equal(r->status, 0);
    lseek(*out, 0, SEEK_SET);
    pack_in_init(p, pack_fill_fd, out);
    while (rc == 0 && (rc = pack_next(p, &rec, e)) == 0 && rec.kind != PACK_END) {
    }
    lseek(*out, 0, SEEK_SET);
    free(r);
    free(p);
    return rc;
}

/* One shell command beside the main one, which has been started: its output. */
static void beside(struct guest *g, const char *cmd, struct result *r)
{
    const char *argv[] = {"sh", "-c", cmd, NULL};
    struct session_process p = {.argv = argv};
    struct guest other = *g;
    struct err e = {0};

    connect_again(&other);
    if (run_process(&other, &p, -1, r, &e) < 0)
        fail_msg("%s", e.msg);
    session_close(other.s);
}

static struct guest *up_sleeping(void)
{
    static const char *const argv[] = {"sleep", "1000", NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};

    assert_int_equal(session_start(g->s, &p, &e), 0);
    return g;
}

static void files_go_in_and_out(void **state)
{
    static struct result r;
    struct guest *g = up_sleeping(), other = *g;
    struct err e = {0};
    int tree, empty;

    beside(g, "mkdir /d && echo hello > /d/f && chmod 600 /d/f && ln -s /etc/passwd /l", &r);
    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_GET, 0, "/d", "", -1, &tree, &e), 0);
    session_close(other.s);
    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_PUT, FILEWORK_FOLDER, "/new", "d", tree, &empty, &e), 0);
    session_close(other.s);
    beside(g, "cat /new/f; stat -c %a /new/f", &r);
    assert_string_equal(r.out, "hello\n600\n");
    connect_again(&other);
    lseek(tree, 0, SEEK_SET);
    assert_int_equal(work(&other, FILEWORK_PUT, FILEWORK_FOLDER, "/no/new", "d", tree, &empty, &e),
                     -ENOENT);
    assert_string_equal(e.msg, "no such directory: '/no'");
    session_close(other.s);
    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_GET, 0, "/none", "", -1, &empty, &e), -ENOENT);
    session_close(other.s);
    down(g);
}

/* "A a", "C etc" ... of a difference, a line each, sorted by whoever compares. */
static void difference(struct guest *g, char *text, size_t len)
{
    struct guest other = *g;
    struct pack_in *p = calloc(1, sizeof(*p));
    struct pack_record rec;
    struct err e = {0};
    size_t n = 0;
    int out;

    connect_again(&other);
    if (work(&other, FILEWORK_DIFF, 0, "", "", -1, &out, &e) < 0)
        fail_msg("%s", e.msg);
    session_close(other.s);
    pack_in_init(p, pack_fill_fd, &out);
    text[0] = '\0';
    while (pack_next(p, &rec, &e) == 0 && rec.kind == PACK_ENTRY) {
        char kind = rec.entry.type == PACK_ABSENT   ? 'D'
                    : rec.entry.flags & PACK_NEW    ? 'A'
                    : rec.entry.flags & PACK_OPAQUE ? 'O'
                                                    : 'C';

        if (strncmp(rec.entry.path, "dev", 3) != 0 && strncmp(rec.entry.path, "proc", 4) != 0 &&
            strncmp(rec.entry.path, "sys", 3) != 0)
            n += (size_t)snprintf(text + n, len - n, "%c %s\n", kind, rec.entry.path);
    }
    free(p);
}

static void a_difference_names_what_changed(void **state)
{
    static struct result r;
    char text[4096];
    struct guest *g = up_sleeping();

    beside(g,
           "echo x > /plain/new; chmod 700 /etc/passwd; rm /etc/group; mkdir -p /a/b;"
           "rm -r /plain; mkdir /plain; mv /bin /usr-bin 2>/dev/null; true",
           &r);
    difference(g, text, sizeof(text));
    assert_non_null(strstr(text, "C etc/passwd\n"));
    assert_non_null(strstr(text, "D etc/group\n"));
    assert_non_null(strstr(text, "A a\nA a/b\n"));
    assert_non_null(strstr(text, "O plain\n"));
    assert_null(strstr(text, "plain/new"));
    /* A folder that was renamed, with all that is in it. */
    assert_non_null(strstr(text, "A usr-bin/busybox\n"));
    assert_non_null(strstr(text, "D bin\n"));
    down(g);
}

static void a_table_of_processes_shows_the_containers_own(void **state)
{
    static char text[8192];
    struct guest *g = up_sleeping(), other = *g;
    struct pack_in *p = calloc(1, sizeof(*p));
    struct pack_record rec;
    struct proctable_row row;
    struct err e = {0};
    unsigned n = 0;
    int out;

    connect_again(&other);
    assert_int_equal(work(&other, FILEWORK_TOP, 0, "", "", -1, &out, &e), 0);
    session_close(other.s);
    pack_in_init(p, pack_fill_fd, &out);
    assert_int_equal(pack_next(p, &rec, &e), 0);
    assert_int_equal(pack_next(p, &rec, &e), 0);
    assert_int_equal(rec.kind, PACK_DATA);
    snprintf(text, sizeof(text), "%.*s", (int)rec.len, (const char *)rec.data);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) && *line; n++) {
        assert_true(proctable_parse(line, &row));
        assert_string_equal(row.command, "sleep 1000");
        assert_string_equal(row.user, "root");
        assert_int_equal(row.ppid, 0);
        assert_true(row.rss > 0 && row.vsize > row.rss);
    }
    assert_int_equal(n, 1);
    free(p);
    down(g);
}

static void usage_is_told(void **state)
{
    struct guest *g = up_sleeping(), other = *g;
    struct session_usage u;
    struct err e = {0};

    connect_again(&other);
    assert_int_equal(session_usage(other.s, 5000, &u, &e), 0);
    assert_true(u.memory > 0 && u.memory < u.memory_total);
    if (group >= 0)
        assert_true(u.pids >= 1); /* those of a test before may be on their way out */
    session_close(other.s);
    down(g);
}

static void an_unknown_request_gets_an_error(void **state)
{
    struct guest *g = up();
    struct proto_frame f;
    struct err e = {0};

    proto_begin(&g->s->out, 999, 0);
    assert_int_equal(proto_end(&g->s->out), 0);
    assert_int_equal(wire_send(g->s, UINT64_MAX, &e), 0);
    assert_int_equal(wire_next(g->s, UINT64_MAX, &f, &e), 0);
    assert_int_equal(f.type, PROTO_ERROR);
    wire_drop(g->s, &f);
    down(g);
}

static void a_detached_process_outlives_its_session(void **state)
{
    static struct result r;
    static const char *const argv[] = {"sh", "-c", "sleep 0.2; echo here > /detached; sleep 1000",
                                       NULL};
    struct session_process p = {.argv = argv, .detach = true};
    struct guest *g = up_sleeping(), other = *g;
    struct err e = {0};

    connect_again(&other);
    assert_int_equal(session_start(other.s, &p, &e), 0);
    session_close(other.s);
    beside(g, "while ! test -s /detached; do sleep 0.05; done; cat /detached", &r);
    assert_string_equal(r.out, "here\n");
    down(g);
}

/* What the host says of a card is what the agent reads. */
static void cards_are_described_and_read(void **state)
{
    static const struct session_route more = {"10.8.0.0", "", 16};
    const struct session_net net[2] = {{.mac = {2, 0, 0, 0, 0, 7},
                                        .mtu = 1400,
                                        .ip = "192.0.2.9",
                                        .prefix = 24,
                                        .gateway = "192.0.2.1",
                                        .ip6 = "fd00::9",
                                        .prefix6 = 64,
                                        .gateway6 = "fe80::1",
                                        .route = &more,
                                        .n_routes = 1},
                                       {.ip = "", .ip6 = NULL}};
    struct session_setup su = {.net = net, .n_nets = 2};
    struct proto_buf *b = calloc(1, sizeof(*b));
    struct setup_req r = {0};
    struct proto_frame f;
    struct err e = {0};

    proto_begin(b, PROTO_IDENTITY, 0);
    assert_int_equal(sessnet_put(b, &su, &e), 0);
    proto_put(b, PF_ENTROPY, "entropy", 7); /* in any order */
    assert_int_equal(proto_end(b), 0);
    assert_true(proto_next(b->b, b->len, &f) > 0);
    assert_int_equal(setup_parse(&f, &r, &e), 0);
    assert_int_equal(r.n_nets, 2);
    const struct setup_net *n = &r.net[0];
    assert_true(n->has_mac && n->mac[5] == 7 && n->mtu == 1400);
    assert_int_equal(n->n_addrs, 2);
    assert_int_equal(n->n_routes, 3);
    assert_memory_equal(n->addr[0].to, "\300\0\2\11", 4);
    assert_int_equal(n->addr[0].prefix, 24);
    assert_int_equal(n->addr[1].family, AF_INET6);
    assert_int_equal(n->addr[1].to[15], 9);
    assert_memory_equal(n->route[0].via, "\300\0\2\1", 4);
    assert_true(n->route[0].prefix == 0 && !n->route[0].linked);
    assert_int_equal(n->route[1].via[0], 0xfe);
    assert_true(n->route[2].linked && n->route[2].prefix == 16);
    assert_true(!r.net[1].has_mac && r.net[1].n_addrs == 0 && r.net[1].mtu == 0);
    setup_done(&r);
    free(b);
}

static void cards_that_cannot_be_are_refused(void **state)
{
    static const struct {
        struct session_net net;
    } wrong[] = {{{.ip = "192.0.2", .prefix = 24}},
                 {{.ip = "192.0.2.1", .prefix = 33}},
                 {{.ip6 = "fd00::x", .prefix6 = 64}},
                 {{.gateway = "fd00::1"}}};
    static const struct {
        const char *bytes;
        size_t len;
    } fields[] = {
        {"\1\0\5\0\0\0abcde", 11},         /* a MAC of five bytes */
        {"\3\0\5\0\0\0\41\1\2\3\4", 11},   /* 33 bits */
        {"\3\0\0\0\0\0", 6},               /* no address */
        {"\3\0\4\0\0\0\10\1\2\3", 10},     /* three bytes of one */
        {"\4\0\6\0\0\0\10\1\2\3\4\5", 12}, /* half a route */
        {"\3\0\377\0\0\0", 6},             /* longer than it is */
    };
    struct proto_buf *b = calloc(1, sizeof(*b));
    struct err e = {0};

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct session_setup su = {.net = &wrong[i].net, .n_nets = 1};

        proto_begin(b, PROTO_IDENTITY, 0);
        assert_int_equal(sessnet_put(b, &su, &e), -EINVAL);
    }
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct setup_req r = {0};
        struct proto_frame f;

        proto_begin(b, PROTO_IDENTITY, 0);
        proto_put(b, PF_NET, fields[i].bytes, fields[i].len);
        assert_int_equal(proto_end(b), 0);
        assert_true(proto_next(b->b, b->len, &f) > 0);
        assert_int_equal(setup_parse(&f, &r, &e), -EBADMSG);
        setup_done(&r);
    }
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cards_are_described_and_read),
        cmocka_unit_test(cards_that_cannot_be_are_refused),
        cmocka_unit_test(output_and_status_are_the_commands),
        cmocka_unit_test(death_by_a_signal_is_told_as_such),
        cmocka_unit_test(the_container_ends_with_its_first_process),
        cmocka_unit_test(the_root_looks_like_a_containers),
        cmocka_unit_test(a_machine_can_become_another),
        cmocka_unit_test(processes_are_held_until_the_session_ends),
        cmocka_unit_test(a_copy_is_held_until_it_has_an_identity),
        cmocka_unit_test(a_read_only_container_keeps_its_files),
        cmocka_unit_test(nothing_in_it_can_reach_the_agent),
        cmocka_unit_test(users_are_looked_up_in_the_image),
        cmocka_unit_test(a_command_that_cannot_run_says_why),
        cmocka_unit_test(environment_and_folder_are_as_asked),
        cmocka_unit_test(arguments_larger_than_a_frame_arrive),
        cmocka_unit_test(stdin_goes_through_unharmed),
        cmocka_unit_test(a_process_that_leaves_its_input_unread_ends_well),
        cmocka_unit_test(a_command_outlives_a_reset_of_its_connection),
        cmocka_unit_test(an_output_nobody_reads_means_sigpipe),
        cmocka_unit_test(a_terminal_has_the_size_that_was_asked),
        cmocka_unit_test(a_second_interrupt_ends_what_ignores_the_first),
        cmocka_unit_test(a_read_only_root_refuses_writes),
        cmocka_unit_test(nonsense_from_the_host_ends_the_session_alone),
        cmocka_unit_test(files_go_in_and_out),
        cmocka_unit_test(a_difference_names_what_changed),
        cmocka_unit_test(a_table_of_processes_shows_the_containers_own),
        cmocka_unit_test(usage_is_told),
        cmocka_unit_test(an_unknown_request_gets_an_error),
        cmocka_unit_test(a_detached_process_outlives_its_session),
    };

    return cmocka_run_group_tests(tests, group_up, group_down);
}
