#include "test/process/box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "test/unit/t.h"

static const char *const links[] = {
    "sh",    "cat",  "ls",       "id",   "mount", "sleep", "true",   "false",
    "echo",  "grep", "hostname", "kill", "mkdir", "touch", "umount", "readlink",
    "mknod", "tty",  "stty",     "wc",   "ps",    "dd",    "chroot", "ip",
    "env",   "pwd",  "stat",     "test", "head",  "ln",    "rm"};

static void file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void copy(const char *from, const char *to)
{
    CLEANUP(fd) int in = open(from, O_RDONLY | O_CLOEXEC);
    CLEANUP(fd) int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    struct stat st;

    assert_true(in >= 0 && out >= 0 && fstat(in, &st) == 0);
    for (off_t done = 0; done < st.st_size;) {
        ssize_t n = copy_file_range(in, NULL, out, NULL, (size_t)(st.st_size - done), 0);

        assert_true(n > 0);
        done += n;
    }
    assert_int_equal(fchmod(out, 0755), 0);
}

static void make_root(const char *root)
{
    static const char *const dirs[] = {"bin", "etc", "tmp", "proc", "sys", "dev", "root"};
    char path[256];

    assert_int_equal(mkdir(root, 0755), 0);
    for (unsigned i = 0; i < ARRAY_LEN(dirs); i++) {
        snprintf(path, sizeof(path), "%s/%s", root, dirs[i]);
        assert_int_equal(mkdir(path, 0755), 0);
    }
    snprintf(path, sizeof(path), "%s/bin/busybox", root);
    copy("/usr/bin/busybox", path);
    for (unsigned i = 0; i < ARRAY_LEN(links); i++) {
        snprintf(path, sizeof(path), "%s/bin/%s", root, links[i]);
        assert_int_equal(symlink("busybox", path), 0);
    }
    snprintf(path, sizeof(path), "%s/etc/passwd", root);
    file(path, "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n");
    snprintf(path, sizeof(path), "%s/etc/group", root);
    file(path, "root:x:0:\nweb:x:1000:\naudio:x:29:web\n");
}

bool box_possible(void)
{
    if (geteuid() != 0) {
        puts("SKIP: containers of these tests need root");
        return false;
    }
    if (access("/usr/bin/busybox", X_OK) < 0) {
        puts("SKIP: no /usr/bin/busybox");
        return false;
    }
    return true;
}

/* ---- what is left behind */

static unsigned lines_of(const char *path)
{
    CLEANUP(file) FILE *f = fopen(path, "re");
    unsigned n = 0;

    for (int c; f && (c = fgetc(f)) != EOF;)
        n += c == '\n';
    return n;
}

static unsigned groups;
static void count_group(void *ctx, const char *id)
{
    groups += strncmp(id, ctx, strlen(ctx)) == 0;
}

static struct box_census census(struct box *b)
{
    struct cgroup_host h;
    struct box_census c = {.mounts = lines_of("/proc/self/mountinfo")};
    struct dirent *de;

    assert_int_equal(cgroup_host_find("", &h, &b->e), 0);
    groups = 0;
    if (h.layout != CGROUP_NONE)
        assert_int_equal(cgroup_each(&h, count_group, b->id, &b->e), 0);
    c.groups = groups;
    CLEANUP(file) FILE *f = fopen("/proc/thread-self/children", "re");
    int pid;
    while (f && fscanf(f, "%d", &pid) == 1)
        c.children++;
    CLEANUP(dir) DIR *d = opendir("/proc/self/fd");
    while (d && (de = readdir(d)))
        c.fds++;
    return c;
}

/* ---- set-up */

int box_setup(void **state)
{
    static unsigned serial;
    struct box *b = calloc(1, sizeof(*b));

    assert_non_null(b);
    *state = b;
    snprintf(b->base, sizeof(b->base), "/tmp/t_process.XXXXXX");
    assert_non_null(mkdtemp(b->base));
    assert_int_equal(chmod(b->base, 0755), 0);
    snprintf(b->dir, sizeof(b->dir), "%s/run", b->base);
    assert_int_equal(mkdir(b->dir, 0755), 0);
    snprintf(b->root, sizeof(b->root), "%s/root", b->base);
    make_root(b->root);
    snprintf(b->id, sizeof(b->id), "tproc-%d-%u", (int)getpid(), serial++);
    memcpy(b->mounts, defaults_mounts, defaults_n_mounts * sizeof(b->mounts[0]));
    assert_int_equal(filter_default(DEFAULTS_CAPS, &b->filter, &b->e), 0);
    b->child = PROCESS_CHILD_NONE;
    b->out_fd = -1;
    b->conf = (struct process_conf){
        .id = b->id,
        .dir = b->dir,
        .process = {.fill_env = true,
                    .cwd = "/",
                    .user = {.name = ""},
                    .caps = defaults_caps(DEFAULTS_CAPS),
                    .filter = &b->filter.f,
                    .io = {-1, -1, -1}},
        .root = {.path = b->root},
        .hostname = "box",
        .mounts = b->mounts,
        .n_mounts = defaults_n_mounts,
        .devices = defaults_devices,
        .n_devices = defaults_n_devices,
        .masked_paths = defaults_masked_paths,
        .readonly_paths = defaults_readonly_paths,
        .resources = {.devices = defaults_device_rules, .n_devices = defaults_n_device_rules},
    };
    for (unsigned i = 0; i < PROCESS_NS_KINDS; i++)
        if (i != PROCESS_NS_USER && i != PROCESS_NS_TIME)
            b->conf.ns[i].how = PROCESS_NS_NEW;
    b->before = census(b);
    return 0;
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *f)
{
    return remove(path);
}

int box_teardown(void **state)
{
    struct box *b = *state;

    if (b->child.pid > 0)
        box_end(b);
    filter_done(&b->filter);
    struct box_census now = census(b);
    assert_int_equal(now.mounts, b->before.mounts);
    assert_int_equal(now.groups, b->before.groups);
    assert_int_equal(now.children, b->before.children);
    assert_int_equal(now.fds, b->before.fds);
    (void)nftw(b->base, drop, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    assert_int_equal(access(b->base, F_OK), -1);
    free(b);
    return 0;
}

/* ---- running */

int box_create(struct box *b, const char *const *argv)
{
    int p[2];

    assert_int_equal(pipe2(p, O_CLOEXEC), 0);
    b->conf.process.args = argv;
    if (!b->conf.process.terminal)
        b->conf.process.io[1] = b->conf.process.io[2] = p[1];
    b->e = (struct err){0};
    int r = process_create(&b->conf, &b->st, &b->child, &b->e);
    close(p[1]);
    b->conf.process.io[1] = b->conf.process.io[2] = -1;
    if (r < 0) {
        close(p[0]);
        return r;
    }
    if (b->conf.process.terminal) {
        close(p[0]);
        b->out_fd = fcntl(b->child.terminal, F_DUPFD_CLOEXEC, 0);
    } else {
        b->out_fd = p[0];
    }
    return 0;
}

int box_start(struct box *b, const char *const *argv)
{
    int r = box_create(b, argv);

    if (r == 0)
        r = process_start(&b->st, &b->e);
    if (r < 0)
        print_message("start: %s\n", b->e.msg);
    assert_int_equal(r, 0);
    return r;
}

static void read_all(int fd, char out[BOX_OUT_MAX])
{
    size_t have = 0;

    while (have < BOX_OUT_MAX - 1) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n;

        (void)poll(&p, 1, 60000);
        n = read(fd, out + have, BOX_OUT_MAX - 1 - have);
        if (n <= 0) /* a terminal without a slave says EIO */
            break;
        have += (size_t)n;
    }
    out[have] = '\0';
}

void box_end(struct box *b)
{
    if (b->out_fd >= 0)
        read_all(b->out_fd, b->out);
    if (b->out_fd >= 0)
        close(b->out_fd);
    b->out_fd = -1;
    assert_int_equal(waitpid(b->child.pid, &b->status, 0), b->child.pid);
    process_child_reap(&b->child);
    process_child_done(&b->child);
    int r = process_delete(&b->st, true, &b->e);
    if (r < 0)
        print_message("delete: %s\n", b->e.msg);
    assert_int_equal(r, 0);
}

const char *box_sh(struct box *b, const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};

    box_start(b, argv);
    box_end(b);
    return b->out;
}

const char *box_exec(struct box *b, const struct process_proc *like, const char *script,
                     int *status)
{
    static char out[BOX_OUT_MAX];
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct process_proc p = *like;
    struct process_child child;
    int pipe_fd[2];

    assert_int_equal(pipe2(pipe_fd, O_CLOEXEC), 0);
    p.args = argv;
    if (!p.terminal) {
        p.io[0] = -1;
        p.io[1] = p.io[2] = pipe_fd[1];
    }
    int r = process_exec(&b->st, &p, &child, &b->e);
    close(pipe_fd[1]);
    if (r < 0)
        print_message("exec: %s\n", b->e.msg);
    assert_int_equal(r, 0);
    read_all(p.terminal ? child.terminal : pipe_fd[0], out);
    close(pipe_fd[0]);
    assert_int_equal(waitpid(child.pid, status, 0), child.pid);
    process_child_done(&child);
    return out;
}
