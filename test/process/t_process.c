/* The process class, with real containers: what is new in them, what is not there, what holds. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "test/process/box.h"
#include "test/unit/t.h"

#define assert_has(text, part)                           \
    do {                                                 \
        if (!strstr(text, part))                         \
            fail_msg("'%s' is not in:\n%s", part, text); \
    } while (0)
#define assert_has_not(text, part)                   \
    do {                                             \
        if (strstr(text, part))                      \
            fail_msg("'%s' is in:\n%s", part, text); \
    } while (0)

static void a_command_runs_and_its_status_comes_back(void **state)
{
    struct box *b = *state;

    assert_string_equal(box_sh(b, "echo hello; exit 7"), "hello\n");
    assert_int_equal(WEXITSTATUS(b->status), 7);
}

static void each_namespace_is_new(void **state)
{
    static const char *const kind[] = {"pid", "net", "ipc", "uts", "cgroup", "mnt"};
    struct box *b = *state;
    const char *out =
        box_sh(b, "for i in pid net ipc uts cgroup mnt; do "
                  "readlink /proc/self/ns/$i; done; echo pid $$; hostname; ls /sys/class/net");

    for (unsigned i = 0; i < ARRAY_LEN(kind); i++) {
        char path[40], ours[64];

        snprintf(path, sizeof(path), "/proc/self/ns/%s", kind[i]);
        ssize_t n = readlink(path, ours, sizeof(ours) - 1);
        assert_true(n > 0);
        ours[n] = '\0';
        ours[strlen(kind[i])] = '\0';
        assert_has(out, ours); /* one of that kind is shown */
        ours[strlen(kind[i])] = ':';
        assert_has_not(out, ours);
    }
    assert_has(out, "pid 1\nbox\n");
    assert_has(out, "\nlo\n");
}

static void capabilities_are_exactly_the_set(void **state)
{
    struct box *b = *state;
    char want[64];
    const char *out = box_sh(b, "grep -E 'Cap|NoNew|Seccomp:' /proc/self/status");

    snprintf(want, sizeof(want), "%016" PRIx64 "\n", (uint64_t)DEFAULTS_CAPS);
    char line[96];
    snprintf(line, sizeof(line), "CapPrm:\t%s", want);
    assert_has(out, line);
    snprintf(line, sizeof(line), "CapEff:\t%s", want);
    assert_has(out, line);
    snprintf(line, sizeof(line), "CapBnd:\t%s", want);
    assert_has(out, line);
    assert_has(out, "CapInh:\t0000000000000000\n");
    assert_has(out, "CapAmb:\t0000000000000000\n");
    assert_has(out, "NoNewPrivs:\t0\n");
    assert_has(out, "Seccomp:\t2\n");
}

static void a_user_has_no_capabilities_but_ambient_ones(void **state)
{
    struct box *b = *state;
    const uint64_t net = DEFAULTS_CAP(CAP_NET_RAW);

    b->conf.process.user.name = "web";
    b->conf.process.caps.ambient = b->conf.process.caps.inheritable = net;
    b->conf.process.no_new_privileges = true;
    const char *out = box_sh(b, "id; echo $HOME; grep -E 'CapEff|NoNew' /proc/self/status");
    assert_has(out, "uid=1000(web) gid=1000(web) groups=29(audio),1000(web)");
    assert_has(out, "/home/web\n");
    assert_has(out, "CapEff:\t0000000000002000\n");
    assert_has(out, "NoNewPrivs:\t1\n");
}

static void an_unknown_user_is_an_error_of_create(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"true", NULL};

    b->conf.process.user.name = "nobody-here";
    assert_int_equal(box_create(b, argv), -EINVAL);
    assert_has(b->e.msg, "nobody-here");
}

static void what_cannot_be_executed_says_so(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"no-such-command", NULL};

    assert_int_equal(box_create(b, argv), 0);
    assert_int_equal(process_status(&b->st), PROCESS_CREATED);
    assert_int_equal(process_start(&b->st, &b->e), -ENOENT);
    assert_has(b->e.msg, "no-such-command");
    box_end(b);
    assert_int_equal(WEXITSTATUS(b->status), 127);

    const char *const folder[] = {"/etc", NULL};
    assert_int_equal(box_create(b, folder), 0);
    assert_int_equal(process_start(&b->st, &b->e), -EACCES);
    box_end(b);
    assert_int_equal(WEXITSTATUS(b->status), 126);
}

static void it_is_started_once_and_by_whoever_has_its_state(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"sleep", "1000", NULL};

    assert_int_equal(box_create(b, argv), 0);
    pid_t other = fork();
    if (other == 0) {
        struct err e = {0};

        _exit(process_start(&b->st, &e) == 0 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(other, &status, 0), other);
    assert_int_equal(status, 0);
    assert_int_equal(process_start(&b->st, &b->e), -EALREADY);
    assert_int_equal(process_status(&b->st), PROCESS_RUNNING);
    assert_int_equal(process_delete(&b->st, false, &b->e), -EBUSY);
    struct process_state stale = b->st;
    stale.start_time++;
    assert_int_equal(process_status(&stale), PROCESS_GONE);
    assert_int_equal(process_kill(&stale, SIGKILL, false, &b->e), -ESRCH);
    assert_int_equal(process_kill(&b->st, SIGKILL, false, &b->e), 0);
    box_end(b);
    assert_int_equal(WTERMSIG(b->status), SIGKILL);
    assert_int_equal(process_status(&b->st), PROCESS_GONE);
    assert_int_equal(process_start(&b->st, &b->e), -ESRCH);
}

static void its_creator_can_keep_the_start_to_itself(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"echo", "hello", NULL}, *const none[] = {"none", NULL};
    char path[128];

    b->conf.own_start = true;
    snprintf(path, sizeof(path), "%s/start", b->dir);
    assert_int_equal(box_create(b, argv), 0);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(process_start_child(&b->child, &b->e), 0);
    assert_int_equal(process_start_child(&b->child, &b->e), -EALREADY);
    box_end(b);
    assert_string_equal(b->out, "hello\n");
    assert_int_equal(box_create(b, none), 0);
    assert_int_equal(process_start_child(&b->child, &b->e), -ENOENT);
    box_end(b);
    assert_int_equal(WEXITSTATUS(b->status), 127);
    b->conf.start_now = true;
    assert_int_equal(box_create(b, none), 0);
    assert_int_equal(process_start_child(&b->child, &b->e), -ENOENT);
    box_end(b);
    assert_int_equal(box_create(b, argv), 0);
    assert_int_equal(process_start_child(&b->child, &b->e), 0);
    box_end(b);
    assert_string_equal(b->out, "hello\n");
    b->conf.start_now = false;
    /* Who goes without starting it takes it along. */
    assert_int_equal(box_create(b, argv), 0);
    close(b->child.start);
    b->child.start = -1;
    box_end(b);
    assert_int_equal(WEXITSTATUS(b->status), 1);
    assert_string_equal(b->out, "");
}

static void masked_and_readonly_paths_are(void **state)
{
    struct box *b = *state;
    /* Not every kernel has each of them. */
    const char *out =
        box_sh(b, "for i in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do "
                  "test -e $i && wc -c < $i; done; ls /sys/firmware | wc -l; "
                  "touch /sys/firmware/x; echo 1 > /proc/sys/kernel/panic; "
                  "test -e /proc/sysrq-trigger && echo b > /proc/sysrq-trigger; mkdir /sys/x");

    assert_has(out, "0\n0\n");
    for (const char *p = out; *p >= '0' && *p <= '9'; p += 2)
        assert_true(p[0] == '0' && p[1] == '\n');
    assert_has(out, "/sys/firmware/x: Read-only");
    assert_has(out, "/proc/sys/kernel/panic: Read-only");
    assert_has(out, "'/sys/x': Read-only");
}

static void seccomp_refuses(void **state)
{
    struct box *b = *state;

    /* With every capability it is the filter alone that refuses. */
    b->conf.process.caps = defaults_caps(DEFAULTS_CAPS | DEFAULTS_CAP(CAP_SYS_ADMIN));
    const char *out = box_sh(b, "mount -t tmpfs x /tmp; echo $?; busybox unshare -m true; echo $?");
    assert_has(out, "mount: permission denied");
    assert_has(out, "unshare: unshare(0x20000): Operation not permitted\n1\n");
    b->conf.process.filter = NULL;
    out = box_sh(b, "mount -t tmpfs x /tmp && echo mounted");
    assert_has(out, "mounted");
}

static void devices_are_the_default_ones(void **state)
{
    struct box *b = *state;
    const char *out = box_sh(
        b, "ls /dev; echo x > /dev/null && echo null; head -c 4 /dev/zero | wc -c; "
           "mknod /tmp/kmsg c 1 11; cat /tmp/kmsg; mknod /tmp/loop b 7 0; head -c1 /tmp/loop");

    assert_has(out, "full\n");
    assert_has(out, "null\n4\n");
    assert_has_not(out, "kmsg\nloop");
    assert_has(out, "can't open '/tmp/kmsg': Operation not permitted");
    assert_has(out, "/tmp/loop: Operation not permitted");
}

/* Some hosts, and some layouts of them, have no such controllers. */
static void need(enum cgroup_controller k)
{
    struct cgroup_host h;
    struct err e = {0};

    assert_int_equal(cgroup_host_find("", &h, &e), 0);
    if (h.own[k][0])
        return;
    print_message("no cgroup controller %s\n", cgroup_controller_name(k));
    skip();
}

static void limits_hold(void **state)
{
    struct box *b = *state;

    need(CGROUP_MEMORY);
    need(CGROUP_PIDS);
    struct cgroup_usage u;
    const char *const argv[] = {"sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1", NULL};

    b->conf.resources.memory_bytes = b->conf.resources.memory_swap_bytes = 32 << 20;
    box_start(b, argv);
    (void)waitid(P_PIDFD, (id_t)b->child.pidfd, &(siginfo_t){0}, WEXITED | WNOWAIT);
    assert_int_equal(cgroup_usage(&b->st.cgroup, &u, &b->e), 0);
    assert_int_equal(u.memory_limit_bytes, 32 << 20);
    assert_true(u.oom_kills >= 1);
    box_end(b);
    assert_true(WIFSIGNALED(b->status) || WEXITSTATUS(b->status) == 128 + SIGKILL);

    b->conf.resources.memory_bytes = b->conf.resources.memory_swap_bytes = 0;
    b->conf.resources.pids = 4;
    b->conf.resources.cpu_quota_us = 50000;
    const char *const forks[] = {
        "sh", "-c",
        "for i in 1 2 3 4 5 6; do sleep 1000 & done; "
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null",
        NULL};
    box_start(b, forks);
    box_end(b);
    assert_has(b->out, "can't fork");
}

static void the_cpu_quota_is_seen_inside(void **state)
{
    struct box *b = *state;

    need(CGROUP_CPU);
    b->conf.resources.cpu_quota_us = 50000;
    assert_has(box_sh(b, "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max; true"),
               "50000");
}

static void the_main_process_gets_signals(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"sh", "-c",
                                "trap 'echo got; exit 3' TERM; echo up; while :; do "
                                "sleep 0.01; done",
                                NULL};
    char up[3];

    box_start(b, argv);
    assert_int_equal(read(b->out_fd, up, 3), 3);
    assert_int_equal(process_kill(&b->st, SIGTERM, false, &b->e), 0);
    box_end(b);
    assert_string_equal(b->out, "got\n");
    assert_int_equal(WEXITSTATUS(b->status), 3);
}

static void exec_enters_it(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"sleep", "1000", NULL};
    struct process_proc p = b->conf.process;
    int status;

    box_start(b, argv);
    const char *out = box_exec(b, &p,
                               "hostname; cat /proc/1/comm; grep CapEff /proc/self/status; "
                               "cat /proc/self/cgroup; exit 5",
                               &status);
    assert_has(out, "box\nsleep\nCapEff:\t00000000a80425fb\n");
    assert_has(out, ":/\n"); /* the container's group is the root of its namespace */
    assert_has_not(out, "tproc");
    assert_int_equal(WEXITSTATUS(status), 5);
    p.user.name = "web:audio";
    assert_has(box_exec(b, &p, "id", &status), "uid=1000(web) gid=29(audio)");

    const char *const none[] = {"nothing", NULL};
    struct process_child child;
    p.args = none;
    assert_int_equal(process_exec(&b->st, &p, &child, &b->e), -ENOENT);
    assert_has(b->e.msg, "nothing");

    pid_t *list;
    size_t n;
    assert_int_equal(process_pids(&b->st, &list, &n, &b->e), 0);
    assert_int_equal(n, 1);
    assert_int_equal(list[0], b->st.pid);
    free(list);
    assert_int_equal(process_kill(&b->st, SIGKILL, true, &b->e), 0);
    box_end(b);
    assert_int_equal(process_exec(&b->st, &p, &child, &b->e), -ESRCH);
}

static void it_has_a_terminal(void **state)
{
    struct box *b = *state;

    b->conf.process.terminal = true;
    b->conf.process.rows = 33;
    b->conf.process.cols = 77;
    const char *out = box_sh(b, "tty; stty size; test -c /dev/console && echo console; echo $TERM; "
                                "sh -c 'echo > /dev/tty' && echo controlling");
    assert_has(out, "/dev/pts/0\r\n33 77\r\nconsole\r\nxterm\r\n");
    assert_has(out, "controlling");

    const char *const argv[] = {"sleep", "1000", NULL};
    struct process_proc p = b->conf.process;
    int status;
    b->conf.process.terminal = false;
    box_start(b, argv);
    assert_has(box_exec(b, &p, "tty; stty size", &status), "/dev/pts/0\r\n33 77\r\n");
    assert_int_equal(process_kill(&b->st, SIGKILL, false, &b->e), 0);
    box_end(b);
}

static void it_stands_still_and_goes_on(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"sh", "-c", "while :; do :; done", NULL};
    struct cgroup_usage u, v;
    struct process_child child;

    box_start(b, argv);
    assert_int_equal(process_freeze(&b->st, true, &b->e), 0);
    assert_int_equal(process_status(&b->st), PROCESS_PAUSED);
    assert_int_equal(process_exec(&b->st, &b->conf.process, &child, &b->e), -EAGAIN);
    assert_int_equal(cgroup_usage(&b->st.cgroup, &u, &b->e), 0);
    usleep(20000);
    assert_int_equal(cgroup_usage(&b->st.cgroup, &v, &b->e), 0);
    assert_int_equal(u.cpu_ns, v.cpu_ns);
    assert_int_equal(process_freeze(&b->st, false, &b->e), 0);
    assert_int_equal(process_status(&b->st), PROCESS_RUNNING);
    assert_int_equal(process_freeze(&b->st, true, &b->e), 0);
    assert_int_equal(process_delete(&b->st, true, &b->e), 0); /* also while it is frozen */
    box_end(b);
}

static void nothing_of_the_host_is_open(void **state)
{
    struct box *b = *state;
    CLEANUP(fd) int leak = open("/etc", O_RDONLY | O_DIRECTORY); /* not close-on-exec */

    assert_true(leak >= 0);
    const char *out = box_sh(b, "ls /proc/self/fd; ls -l /proc/self/exe; ls /proc/1/fd");
    assert_has(out, "0\n1\n2\n3\n"); /* 3 is the folder that ls reads */
    assert_has_not(out, "\n4\n");
    b->conf.process.cwd = "/proc/self/fd/3";
    const char *const argv[] = {"pwd", NULL};
    assert_true(box_create(b, argv) < 0);
}

/* The file that execve(2) was called from is what a script with this interpreter would run. */
static void the_runtime_is_not_reachable(void **state)
{
    struct box *b = *state;
    char path[256];
    const char *const argv[] = {"/evil", NULL};

    snprintf(path, sizeof(path), "%s/evil", b->root);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("#!/proc/self/exe\n", f);
    fclose(f);
    assert_int_equal(chmod(path, 0755), 0);
    assert_int_equal(box_create(b, argv), 0);
    /* The program in memory calls itself: it finds no descriptor to report to, and ends. */
    (void)!process_start(&b->st, &b->e);
    box_end(b);
    assert_true(WIFEXITED(b->status));
    assert_int_equal(WEXITSTATUS(b->status), 126);
}

static void volumes_are_bound(void **state)
{
    struct box *b = *state;
    char source[96], sub[112];

    snprintf(source, sizeof(source), "%s/vol", b->base);
    assert_int_equal(mkdir(source, 0755), 0);
    snprintf(sub, sizeof(sub), "%s/file", source);
    FILE *f = fopen(sub, "w");
    assert_non_null(f);
    fputs("content\n", f);
    fclose(f);
    b->mounts[b->conf.n_mounts++] = (struct process_mount){
        .target = "/data/deep", .type = "bind", .source = source, .flags = MS_RDONLY};
    b->mounts[b->conf.n_mounts++] =
        (struct process_mount){.target = "/etc/one", .type = "bind", .source = sub};
    b->mounts[b->conf.n_mounts++] = (struct process_mount){
        .target = "/scratch", .type = "tmpfs", .source = "tmpfs", .data = "size=1m,mode=1777"};
    const char *out = box_sh(b, "cat /data/deep/file /etc/one; touch /data/deep/x; "
                                "echo more >> /etc/one; stat -f -c %b /scratch");
    assert_has(out, "content\ncontent\n");
    assert_has(out, "/data/deep/x: Read-only");
    f = fopen(sub, "r");
    char text[32] = "";
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
    fclose(f);
    assert_string_equal(text, "content\nmore\n");
}

static void the_upper_folder_keeps_what_was_written(void **state)
{
    struct box *b = *state;
    char upper[96], path[128];

    snprintf(upper, sizeof(upper), "%s/run/layer", b->base);
    b->conf.root.upper = upper;
    box_sh(b, "echo kept > /tmp/new; rm /etc/group");
    snprintf(path, sizeof(path), "%s/tmp/new", b->root);
    assert_int_equal(access(path, F_OK), -1);
    assert_string_equal(box_sh(b, "cat /tmp/new; ls /etc"), "kept\npasswd\n");

    b->conf.root.upper = NULL;
    b->conf.root.tmpfs = true;
    b->conf.root.tmpfs_bytes = 1 << 20;
    const char *out = box_sh(b, "cat /tmp/new; dd if=/dev/zero of=/tmp/big bs=1M count=3");
    assert_has(out, "No such file");
    assert_has(out, "No space left");

    b->conf.root.readonly = true;
    assert_has(box_sh(b, "touch /x"), "/x: Read-only");
}

static void an_image_is_mounted_for_it_alone(void **state)
{
    struct box *b = *state;
    char image[96], command[300];

    snprintf(image, sizeof(image), "%s/image.squashfs", b->base);
    snprintf(command, sizeof(command), "mksquashfs %s %s -quiet -no-progress -noI -noD >/dev/null",
             b->root, image);
    assert_int_equal(system(command), 0);
    b->conf.root = (struct process_root){.image = image, .fstype = "squashfs", .tmpfs = true};
    assert_string_equal(box_sh(b, "touch /x && cat /etc/group | head -1"), "root:x:0:\n");
    b->conf.root.tmpfs = false;
    assert_has(box_sh(b, "touch /x"), "/x: Read-only");
    b->conf.root.image = "/nonexistent";
    const char *const argv[] = {"true", NULL};
    assert_int_equal(box_create(b, argv), -ENOENT);
}

static void sysctls_are_those_of_namespaces(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"true", NULL};
    struct process_sysctl s = {"net.ipv4.ip_forward", "1"};

    b->conf.sysctls = &s;
    b->conf.n_sysctls = 1;
    assert_string_equal(box_sh(b, "cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    s = (struct process_sysctl){"kernel.panic", "5"};
    assert_int_equal(box_create(b, argv), -EINVAL);
    s = (struct process_sysctl){"net/../kernel/panic", "5"};
    assert_int_equal(box_create(b, argv), -EINVAL);
    s = (struct process_sysctl){"net.ipv4.ip_forward", "1"};
    b->conf.ns[PROCESS_NS_NET].how = PROCESS_NS_HOST;
    assert_int_equal(box_create(b, argv), -EINVAL);
}

static void a_namespace_is_joined_by_its_path(void **state)
{
    struct box *b = *state;
    struct box *other;
    void *s;
    char path[48], theirs[64], want[68];
    const char *const argv[] = {"sleep", "1000", NULL};

    box_start(b, argv);
    snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)b->st.pid);
    ssize_t n = readlink(path, theirs, sizeof(theirs) - 1);
    assert_true(n > 0);
    theirs[n] = '\0';
    snprintf(want, sizeof(want), "%s\n", theirs);
    assert_int_equal(box_setup(&s), 0);
    other = s;
    other->conf.ns[PROCESS_NS_NET] = (struct process_namespace){PROCESS_NS_PATH, path};
    assert_string_equal(box_sh(other, "readlink /proc/self/ns/net"), want);
    other->conf.ns[PROCESS_NS_NET].path = "/nonexistent";
    assert_int_equal(box_create(other, argv), -ENOENT);
    assert_int_equal(box_teardown(&s), 0);
    assert_int_equal(process_kill(&b->st, SIGKILL, false, &b->e), 0);
    box_end(b);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, box_setup, box_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_command_runs_and_its_status_comes_back),
        TEST(each_namespace_is_new),
        TEST(capabilities_are_exactly_the_set),
        TEST(a_user_has_no_capabilities_but_ambient_ones),
        TEST(an_unknown_user_is_an_error_of_create),
        TEST(what_cannot_be_executed_says_so),
        TEST(it_is_started_once_and_by_whoever_has_its_state),
        TEST(its_creator_can_keep_the_start_to_itself),
        TEST(masked_and_readonly_paths_are),
        TEST(seccomp_refuses),
        TEST(devices_are_the_default_ones),
        TEST(limits_hold),
        TEST(the_cpu_quota_is_seen_inside),
        TEST(the_main_process_gets_signals),
        TEST(exec_enters_it),
        TEST(it_has_a_terminal),
        TEST(it_stands_still_and_goes_on),
        TEST(nothing_of_the_host_is_open),
        TEST(the_runtime_is_not_reachable),
        TEST(volumes_are_bound),
        TEST(the_upper_folder_keeps_what_was_written),
        TEST(an_image_is_mounted_for_it_alone),
        TEST(sysctls_are_those_of_namespaces),
        TEST(a_namespace_is_joined_by_its_path),
    };

    if (!box_possible())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
