/* The process class against images that are made to get out, and without root. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
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
#include "test/process/box.h"
#include "test/unit/t.h"

#define assert_has(text, part)                           \
    do {                                                 \
        if (!strstr(text, part))                         \
            fail_msg("'%s' is not in:\n%s", part, text); \
    } while (0)

static void in_root(const struct box *b, const char *name, char out[256])
{
    snprintf(out, 256, "%s/%s", b->root, name);
}

/* A directory of the image becomes a link. */
static void replace(const struct box *b, const char *name, const char *target)
{
    char path[256];

    in_root(b, name, path);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(symlink(target, path), 0);
}

static const char *const true_argv[] = {"true", NULL};

/* What a link to the host's would be: nothing of it may change. */
static void secret(const struct box *b, char dir[256])
{
    snprintf(dir, 256, "%s/secret", b->base);
    assert_int_equal(mkdir(dir, 0755), 0);
}

static bool empty(const char *dir)
{
    return rmdir(dir) == 0;
}

static void dev_as_a_link_stays_inside(void **state)
{
    struct box *b = *state;
    char dir[256];

    secret(b, dir);
    replace(b, "dev", dir);
    /* Inside, that path is the image's own: it is made there. */
    const char *out = box_sh(b, "ls /dev/null && ls -d /tmp/t_process*");
    assert_has(out, "/dev/null\n");
    assert_true(empty(dir));
}

static void dev_as_a_link_upwards_stays_inside(void **state)
{
    struct box *b = *state;

    replace(b, "dev", "../../../../../../../../etc");
    (void)box_sh(b, "ls /etc/null");
    assert_has(b->out, "/etc/null");
    assert_int_equal(access("/etc/null", F_OK), -1);
}

static void proc_and_sys_as_links_are_refused(void **state)
{
    struct box *b = *state;

    replace(b, "proc", "/tmp");
    assert_int_equal(box_create(b, true_argv), -EINVAL);
    assert_has(b->e.msg, "symbolic link");
    char path[256];
    in_root(b, "proc", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0755), 0);
    replace(b, "sys", "/etc");
    assert_int_equal(box_create(b, true_argv), -EINVAL);
}

static void a_volume_on_a_link_stays_inside(void **state)
{
    static const char *const link[] = {"/etc/passwd", "../../../../../../etc/passwd",
                                       "/proc/1/root", "/proc/self/fd/3"};
    struct box *b = *state;
    char source[96], path[256];
    struct stat before, after;

    snprintf(source, sizeof(source), "%s/vol", b->base);
    assert_int_equal(mkdir(source, 0755), 0);
    assert_int_equal(stat("/etc/passwd", &before), 0);
    b->mounts[b->conf.n_mounts++] =
        (struct process_mount){.target = "/data", .type = "bind", .source = source};
    in_root(b, "data", path);
    for (unsigned i = 0; i < ARRAY_LEN(link); i++) {
        (void)unlink(path);
        assert_int_equal(symlink(link[i], path), 0);
        /* A file, or what may not be followed: refused; and nothing outside has changed. */
        int r = box_create(b, true_argv);
        if (r == 0) {
            assert_int_equal(process_start(&b->st, &b->e), 0);
            box_end(b);
        }
        assert_int_equal(stat("/etc/passwd", &after), 0);
        assert_int_equal(before.st_ino, after.st_ino);
    }
    /* One that leads nowhere is made inside. */
    (void)unlink(path);
    assert_int_equal(symlink("/made/here", path), 0);
    assert_has(box_sh(b, "ls -d /made/here"), "/made/here\n");
    assert_int_equal(access("/made", F_OK), -1);
    /* Round and round. */
    (void)unlink(path);
    assert_int_equal(symlink("data", path), 0);
    assert_int_equal(box_create(b, true_argv), -ELOOP);
}

static void a_device_of_the_image_is_no_terminal(void **state)
{
    struct box *b = *state;
    char path[256];

    /* The image's own /dev, with a ptmx that is something else. */
    b->conf.n_mounts = 1; /* /proc */
    b->conf.n_devices = 0;
    in_root(b, "dev/pts", path);
    assert_int_equal(mkdir(path, 0755), 0);
    in_root(b, "dev/pts/ptmx", path);
    assert_int_equal(mknod(path, S_IFCHR | 0666, makedev(1, 3)), 0);
    b->conf.process.terminal = true;
    assert_int_equal(box_create(b, true_argv), -ENOTTY);
}

static void masked_paths_of_the_image_are_harmless(void **state)
{
    static const char *const masked[] = {"/link", "/etc/passwd/x", "/none", "/etc", NULL};
    struct box *b = *state;
    char path[256];

    in_root(b, "link", path);
    assert_int_equal(symlink("/../../../etc/shadow", path), 0);
    b->conf.masked_paths = masked;
    const char *out = box_sh(b, "ls /etc | wc -l");
    assert_string_equal(out, "0\n");
    assert_int_equal(access("/etc/passwd", R_OK), 0);
}

static void a_container_cannot_see_who_enters(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {
        "sh", "-c",
        "while :; do for i in /proc/[0-9]*; do "
        "cat $i/exe > /dev/null 2>&1 && readlink $i/exe; ls $i/root/home 2>/dev/null; done; done",
        NULL};
    struct process_proc p = b->conf.process;
    int status;

    b->conf.resources.pids = 50;
    box_start(b, argv);
    for (int i = 0; i < 20; i++)
        (void)box_exec(b, &p, "true", &status);
    assert_int_equal(process_kill(&b->st, SIGKILL, false, &b->e), 0);
    box_end(b);
    for (char *line = b->out, *next; (next = strchr(line, '\n')); line = next + 1) {
        *next = '\0';
        if (strcmp(line, "/bin/busybox") != 0 && !strstr(line, "memfd:kiln-last"))
            fail_msg("seen: %s", line);
    }
}

/* A host without control groups: nobody says which devices may be used. */
static void without_groups_a_device_of_the_image_is_none(void **state)
{
    struct box *b = *state;
    char dir[128], path[256];

    snprintf(dir, sizeof(dir), "%s/proc", b->base);
    assert_int_equal(mkdir(dir, 0755), 0);
    snprintf(dir, sizeof(dir), "%s/proc/self", b->base);
    assert_int_equal(mkdir(dir, 0755), 0);
    snprintf(path, sizeof(path), "%s/cgroup", dir);
    assert_int_equal(mknod(path, S_IFREG | 0644, 0), 0);
    snprintf(path, sizeof(path), "%s/mountinfo", dir);
    assert_int_equal(mknod(path, S_IFREG | 0644, 0), 0);
    in_root(b, "zero", path);
    assert_int_equal(mknod(path, S_IFCHR | 0666, makedev(1, 5)), 0);
    b->conf.cgroup_root = b->base;
    b->conf.root.path = b->root;
    const char *out = box_sh(b, "head -c 1 /zero | wc -c; mknod /tmp/zero c 1 5; "
                                "head -c 3 /dev/zero | wc -c");
    assert_has(out, "/zero: Permission denied");
    assert_has(out, "mknod: /tmp/zero: Operation not permitted");
    assert_has(out, "\n3\n");
}

static void many_processes_are_killed_whole(void **state)
{
    struct box *b = *state;
    const char *const argv[] = {"sh", "-c",
                                "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; "
                                "echo up; wait",
                                NULL};
    char up[3];

    b->conf.ns[PROCESS_NS_PID].how = PROCESS_NS_HOST; /* no namespace that ends with its init */
    box_start(b, argv);
    assert_int_equal(read(b->out_fd, up, 3), 3);
    assert_int_equal(process_kill(&b->st, SIGKILL, false, &b->e), 0);
    assert_int_equal(waitid(P_PIDFD, (id_t)b->child.pidfd, &(siginfo_t){0}, WEXITED | WNOWAIT), 0);
    pid_t *list;
    size_t n;
    assert_int_equal(process_pids(&b->st, &list, &n, &b->e), 0);
    free(list);
    assert_true(n >= 100);
    assert_int_equal(process_delete(&b->st, false, &b->e), 0);
    box_end(b);
}

/* ---- without root */

enum { NOBODY = 54321 };

struct result {
    int code;
    char msg[ERR_MSG_MAX], out[1024];
};

/* Some hosts let only programs they know make user namespaces. */
static void need_user_namespaces(void)
{
    FILE *f = fopen("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "r");
    int restricted = f ? fgetc(f) : '0';

    if (f)
        fclose(f);
    if (restricted != '1')
        return;
    print_message("user namespaces are not for users here\n");
    skip();
}

/* On most hosts /dev/fuse is everybody's; where it is not, it is so for this process. */
static int open_fuse_to_all(const struct box *b)
{
    char node[96];

    snprintf(node, sizeof(node), "%s/fuse", b->base);
    return unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                   mknod(node, S_IFCHR | 0666, makedev(10, 229)) < 0 || chmod(node, 0666) < 0 ||
                   mount(node, "/dev/fuse", NULL, MS_BIND, NULL) < 0
               ? -1
               : 0;
}

/* In a child that has given root up. */
static void as_nobody(struct box *b, const char *image, int64_t pids, const char *script,
                      struct result *res)
{
    const char *const argv[] = {"sh", "-c", script, NULL};

    if ((image && open_fuse_to_all(b) < 0) || setgroups(0, NULL) < 0 ||
        setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0 ||
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0)
        _exit(9); /* dumpable, as a program of that user's would be */
    b->conf.ns[PROCESS_NS_USER].how = PROCESS_NS_NEW;
    if (process_rootless_maps(&b->maps, &b->e) < 0)
        _exit(8);
    b->conf.uid_maps = b->maps.uid;
    b->conf.n_uid_maps = b->maps.n_uid;
    b->conf.gid_maps = b->maps.gid;
    b->conf.n_gid_maps = b->maps.n_gid;
    b->conf.resources = (struct cgroup_limits){.pids = pids};
    b->mounts[DEFAULTS_DEVPTS].data = DEFAULTS_DEVPTS_PLAIN;
    if (image)
        b->conf.root = (struct process_root){.image = image, .fstype = "squashfs", .tmpfs = true};
    res->code = box_create(b, argv);
    if (res->code == 0)
        res->code = process_start(&b->st, &b->e);
    snprintf(res->msg, sizeof(res->msg), "%s", b->e.msg);
    if (res->code == 0) {
        box_end(b);
        snprintf(res->out, sizeof(res->out), "%.1000s", b->out);
    }
}

static struct result run_as_nobody(struct box *b, const char *image, int64_t pids,
                                   const char *script)
{
    struct result res = {.code = -EIO};
    int p[2], status;

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    assert_int_equal(chown(b->base, NOBODY, NOBODY), 0);
    assert_int_equal(chown(b->dir, NOBODY, NOBODY), 0);
    assert_int_equal(chown(b->root, NOBODY, NOBODY), 0);
    pid_t child = fork();
    if (child == 0) {
        as_nobody(b, image, pids, script, &res);
        _exit(write(p[1], &res, sizeof(res)) != sizeof(res));
    }
    close(p[1]);
    (void)!read(p[0], &res, sizeof(res));
    close(p[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return res;
}

static void without_root_a_container_runs(void **state)
{
    struct box *b = *state;

    need_user_namespaces();
    struct result r = run_as_nobody(b, NULL, 0,
                                    "id -u; hostname; echo $$; touch /x && echo wrote; "
                                    "echo x > /dev/null && echo null; ls /sys/class/net; "
                                    "grep CapEff /proc/self/status");

    if (r.code < 0)
        fail_msg("%s", r.msg);
    assert_has(r.out, "0\nbox\n1\nwrote\nnull\nlo\nCapEff:\t00000000a80425fb\n");
}

static void without_root_a_limit_is_an_error_of_one_sentence(void **state)
{
    struct box *b = *state;
    struct cgroup_host h;
    struct result r = run_as_nobody(b, NULL, 5, "true");

    assert_int_equal(cgroup_host_find("", &h, &b->e), 0);
    assert_true(r.code == -EACCES || r.code == -EOPNOTSUPP);
    assert_has(r.msg, "limits need");
}

static void without_root_an_image_is_served(void **state)
{
    struct box *b = *state;
    char image[96], command[300];

    need_user_namespaces();
    if (access("/dev/fuse", F_OK) < 0 || access("/usr/bin/squashfuse_ll", X_OK) < 0) {
        print_message("no squashfuse or no /dev/fuse\n");
        skip();
    }
    snprintf(image, sizeof(image), "%s/image.squashfs", b->base);
    snprintf(command, sizeof(command), "mksquashfs %s %s -quiet -no-progress -noI -noD >/dev/null",
             b->root, image);
    assert_int_equal(system(command), 0);
    struct result r = run_as_nobody(b, image, 0, "head -1 /etc/group; touch /x && echo wrote");
    if (r.code < 0)
        fail_msg("%s", r.msg);
    assert_string_equal(r.out, "root:x:0:\nwrote\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, box_setup, box_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(dev_as_a_link_stays_inside),
        TEST(dev_as_a_link_upwards_stays_inside),
        TEST(proc_and_sys_as_links_are_refused),
        TEST(a_volume_on_a_link_stays_inside),
        TEST(a_device_of_the_image_is_no_terminal),
        TEST(masked_paths_of_the_image_are_harmless),
        TEST(a_container_cannot_see_who_enters),
        TEST(without_groups_a_device_of_the_image_is_none),
        TEST(many_processes_are_killed_whole),
        TEST(without_root_a_container_runs),
        TEST(without_root_a_limit_is_an_error_of_one_sentence),
        TEST(without_root_an_image_is_served),
    };

    if (!box_possible())
        return 77;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
