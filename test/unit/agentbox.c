#include "test/unit/agentbox.h"

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
#include "test/unit/t_sh.h"

char box_base[] = "/tmp/kiln-t-agent-XXXXXX";
int box_group = -1; /* control box_group of the containers, where this host has cgroup2 */
struct session_watch box_watch = {.machine_fd = -1, .signal_fd = -1}; /* SIGINT and SIGWINCH */

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
    struct agent a = {.base = box_base, .any_peer = true, .group = box_group, .box = SANDBOX_NONE};
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

/* A control box_group of our own, as the agent in a guest has one. */
static void make_group(void)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/cgroup", box_base);
    if (mkdir(path, 0755) < 0 || mount("cgroup2", path, "cgroup2", 0, NULL) < 0)
        return;
    snprintf(path, sizeof(path), "%s/cgroup/kiln-t-agent-%d", box_base, (int)getpid());
    if (mkdir(path, 0755) == 0)
        box_group = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_group(void)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/cgroup/kiln-t-agent-%d", box_base, (int)getpid());
    /* The last of what ran in it is still on its way out. */
    for (unsigned tries = 0; tries < 1000 && rmdir(path) < 0 && errno == EBUSY; tries++)
        usleep(10000);
    snprintf(path, sizeof(path), "%s/cgroup", box_base);
    umount2(path, MNT_DETACH);
}

int group_up(void **state)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
    box_watch.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (geteuid() != 0 || access("/bin/busybox", X_OK) < 0)
        return 0;
    if (!mkdtemp(box_base) || unshare(CLONE_NEWNS | CLONE_NEWUTS) < 0)
        return -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("t", box_base, "tmpfs", 0, NULL) < 0)
        return -1;
    char dir[64];
    snprintf(dir, sizeof(dir), "%s/src", box_base);
    make_image(dir);
    make_group();
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int group_down(void **state)
{
    remove_group();
    umount2(box_base, MNT_DETACH);
    rmdir(box_base);
    return 0;
}

void connect_again(struct guest *g)
{
    struct err e = {0};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&g->addr, g->addr_len), 0);
    assert_int_equal(session_open_fd(fd, &box_watch, 5000, &g->s, &e), 0);
}

struct guest *up_with(const struct session_setup *extra)
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
    snprintf(dir, sizeof(dir), "%s/src", box_base);
    struct session_setup c = extra ? *extra : (struct session_setup){0};
    c.root_dev = dir;
    c.root_fstype = "bind";
    c.hostname = "testhost";
    if (session_setup(g->s, &c, &e) < 0)
        fail_msg("%s", e.msg);
    return g;
}

struct guest *up(void)
{
    return up_with(NULL);
}

void down(struct guest *g)
{
    struct err e;
    int status;

    assert_int_equal(session_poweroff(g->s, &e), 0);
    assert_int_equal(waitpid(g->pid, &status, 0), g->pid);
    assert_int_equal(status, 0);
    session_close(g->s);
    free(g);
}

static void read_back(int fd, char *buf, size_t len)
{
    ssize_t n = pread(fd, buf, len - 1, 0);

    buf[n < 0 ? 0 : n] = '\0';
    close(fd);
}

int run_process(struct guest *g, const struct session_process *p, int in, struct result *r,
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
void sh(const char *cmd, struct result *r)
{
    const char *argv[] = {"sh", "-c", cmd, NULL};
    struct session_process p = {.argv = argv};
    struct guest *g = up();
    struct err e = {0};

    if (run_process(g, &p, -1, r, &e) < 0)
        fail_msg("%s", e.msg);
    down(g);
}
