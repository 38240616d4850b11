/* User mode: passt beside a machine, pasta beside a namespace; as root and as somebody else. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "network/netns.h"
#include "network/netprog.h"
#include "test/network/netlab.h"
#include "test/unit/t.h"
#include "test/unit/t_sh.h"

enum { USER = 4321 };

static struct netlab lab;

static bool write_text(const char *path, const char *text)
{
    CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* A container: in namespaces of its own it waits for a word, then asks the world and serves one
 * question. Status 0: the world answered. */
static _Noreturn void container(bool user_ns, int ready, int go)
{
    char c, map[32], t[64];
    uid_t uid = geteuid();

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET | (user_ns ? CLONE_NEWUSER : 0)) < 0)
        _exit(2);
    snprintf(map, sizeof(map), "0 %u 1", uid);
    if (user_ns &&
        (!write_text("/proc/self/setgroups", "deny") || !write_text("/proc/self/uid_map", map) ||
         !write_text("/proc/self/gid_map", map)))
        _exit(3);
    (void)!write(ready, "r", 1);
    if (read(go, &c, 1) != 1)
        _exit(4);
    CLEANUP(fd) int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    pid_t s = netlab_serve(own, "0.0.0.0", 80, false, "inside");
    (void)!write(ready, "s", 1);
    bool good = strcmp(netlab_ask(own, NETLAB_OUTSIDE, 7000, false, t), "world") == 0;
    good = good && read(go, &c, 1) == 0; /* until the other end is closed */
    netlab_stop(s);
    _exit(good ? 0 : 1);
}

/* The whole of it, in the calling process's rights. Returns 0, or the number of what went wrong. */
static int use_pasta(const char *store, bool user_ns, unsigned number)
{
    struct network_port p = {"", (uint16_t)(9000 + number), 80, false};
    struct network_lease l = NETWORK_LEASE_NONE;
    struct err e = {0};
    char id[65], c, t[64];
    int ready[2], go[2], status = -1;

    netlab_id(number, id);
    const struct network_want w = {
        .store = store, .id = id, .name = "u", .network = "user", .ports = &p, .n_ports = 1};
    if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
        return 1;
    pid_t pid = fork();
    if (pid == 0) {
        close(go[1]);
        container(user_ns, ready[1], go[0]);
    }
    if (read(ready[0], &c, 1) != 1)
        return 2;
    if (network_attach(&w, &l, &e) < 0 || l.kind != NETWORK_PLUG ||
        network_plug(&w, &l, pid, &e) < 0) {
        print_error("%s\n", e.msg);
        return 3;
    }
    uint64_t start = netprog_start_time(l.helper);
    (void)!write(go[1], "g", 1);
    if (read(ready[0], &c, 1) != 1)
        return 4;
    bool published = strcmp(netlab_ask(-1, "127.0.0.1", p.host_port, false, t), "inside") == 0;
    close(go[1]);
    waitpid(pid, &status, 0);
    pid_t helper = l.helper;
    network_detach(store, id);
    network_lease_done(&l);
    if (start == 0 || netprog_start_time(helper) == start)
        return 5;
    return !published ? 6 : status != 0 ? 7 : 0;
}

static void pasta_connects_a_namespace(void **state)
{
    pid_t out = netlab_serve(lab.outside, "0.0.0.0", 7000, false, "world");

    assert_int_equal(use_pasta(lab.store, false, 1), 0);
    assert_int_equal(use_pasta(lab.store, true, 2), 0);
    netlab_stop(out);
}

/* /dev/net/tun may be root's alone on this host; it is not where this is meant to be used. */
static bool open_tun_to_all(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("t", "/mnt", "tmpfs", 0, NULL) == 0 &&
           mknod("/mnt/tun", S_IFCHR | 0666, makedev(10, 200)) == 0 &&
           chmod("/mnt/tun", 0666) == 0 &&
           mount("/mnt/tun", "/dev/net/tun", NULL, MS_BIND, NULL) == 0;
}

static void pasta_needs_no_root(void **state)
{
    pid_t out = netlab_serve(lab.outside, "0.0.0.0", 7000, false, "world");
    char dir[] = "/tmp/kiln-t-usernet-XXXXXX", cmd[128];
    int status;

    assert_non_null(mkdtemp(dir));
    assert_int_equal(chown(dir, USER, USER), 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (!open_tun_to_all() || setresgid(USER, USER, USER) < 0 ||
            setresuid(USER, USER, USER) < 0 || prctl(PR_SET_DUMPABLE, 1) < 0)
            _exit(99);
        _exit(use_pasta(dir, true, 3));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    assert_int_equal(t_sh(cmd, NULL, 0), 0);
    netlab_stop(out);
}

static void passt_serves_a_machine(void **state)
{
    struct network_port p = {"", 0, 80, false};
    struct network_lease l = NETWORK_LEASE_NONE, m = NETWORK_LEASE_NONE;
    struct err e = {0};
    struct stat st;

    assert_int_equal(netlab_attach(&lab, 1, "user", true, &p, 1, &l, &e), 0);
    assert_int_equal(l.kind, NETWORK_STREAM);
    assert_int_equal(fstat(l.fd[0], &st), 0);
    assert_true(S_ISSOCK(st.st_mode));
    assert_string_equal(l.ip, "10.0.2.15");
    assert_string_equal(l.resolv, "nameserver 10.0.2.3\n");
    assert_true(l.port[0].host_port > 0);
    uint64_t start = netprog_start_time(l.helper);
    assert_true(start > 0);
    /* bound by passt: taken for others */
    p.host_port = l.port[0].host_port;
    assert_int_equal(netlab_attach(&lab, 2, "user", true, &p, 1, &m, &e), -EADDRINUSE);
    assert_non_null(strstr(e.msg, "address already in use"));
    pid_t helper = l.helper;
    netlab_detach(&lab, 1, &l);
    assert_true(netprog_start_time(helper) != start);
}

static void passt_speaks_for_a_namespace_that_is_joined(void **state)
{
    struct network_lease l = NETWORK_LEASE_NONE;
    struct err e = {0};
    char ns[64], out[256], cmd[64];

    snprintf(ns, sizeof(ns), "ns:/proc/%d/fd/%d", (int)getpid(), lab.outside);
    assert_int_equal(netlab_sh(lab.outside, "ip route add default via " NETLAB_HOST), 0);
    assert_int_equal(netlab_attach(&lab, 1, ns, true, NULL, 0, &l, &e), 0);
    assert_int_equal(l.kind, NETWORK_STREAM);
    snprintf(cmd, sizeof(cmd), "stat -L -c %%i /proc/%d/ns/net", (int)l.helper);
    assert_int_equal(t_sh(cmd, out, sizeof(out)), 0);
    struct stat st;
    assert_int_equal(fstat(lab.outside, &st), 0);
    assert_int_equal(strtoull(out, NULL, 10), st.st_ino);
    netlab_detach(&lab, 1, &l);
    assert_int_equal(netlab_sh(lab.outside, "ip route del default"), 0);
}

static int up(void **state)
{
    if (t_sh("command -v passt pasta > /dev/null", NULL, 0) != 0) {
        puts("skipped: needs passt");
        exit(77);
    }
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1);
    netlab_open(&lab);
    return 0;
}

static int down(void **state)
{
    netlab_close(&lab);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pasta_connects_a_namespace),
        cmocka_unit_test(pasta_needs_no_root),
        cmocka_unit_test(passt_serves_a_machine),
        cmocka_unit_test(passt_speaks_for_a_namespace_that_is_joined),
    };

    return cmocka_run_group_tests(tests, up, down);
}
