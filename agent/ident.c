#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum { NAME_LEN_MAX = 64 /* __NEW_UTS_LEN */, MACHINE_ID_LEN = 32 /* machine-id(5) */ };

/* random(4): RNDADDENTROPY mixes and credits; RNDRESEEDCRNG makes it count at once. */
static void add_entropy(const struct setup_req *r)
{
    CLEANUP(fd) int fd = open("/dev/random", O_WRONLY | O_CLOEXEC);
    CLEANUP(mem) struct rand_pool_info *p = malloc(sizeof(*p) + r->entropy_len);

    if (fd < 0 || !p)
        return;
    p->entropy_count = (int)(r->entropy_len * 8);
    p->buf_size = (int)r->entropy_len;
    memcpy(p->buf, r->entropy, r->entropy_len);
    (void)ioctl(fd, RNDADDENTROPY, p);
    (void)ioctl(fd, RNDRESEEDCRNG);
}

/* What the virtio driver fetched before a state was saved is in every machine that goes on from
 * it. The driver and the core of Linux 6.1 hold at most a cache line each. */
static void drop_stale_entropy(void)
{
    CLEANUP(fd) int fd = open("/dev/hwrng", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    uint8_t stale[2 * 64];

    if (fd >= 0)
        (void)!read(fd, stale, sizeof(stale));
}

/* What the machine's own clock says; `told` where there is none. */
static uint64_t wall_now(uint64_t told)
{
    uint64_t now = 0;

    if (ioperm(PROTO_WALL_PORT, 12, 1) < 0)
        return told;
    if (inl(PROTO_WALL_PORT + PROTO_WALL_MAGIC) == PROTO_WALL_IS) {
        now = inl(PROTO_WALL_PORT + PROTO_WALL_LOW);
        now |= (uint64_t)inl(PROTO_WALL_PORT + PROTO_WALL_HIGH) << 32;
    }
    (void)ioperm(PROTO_WALL_PORT, 12, 0);
    return now ? now : told;
}

static void set_clock(const struct setup_req *r)
{
    uint64_t ns = r->wall_port ? wall_now(r->wall_ns) : r->wall_ns;
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};

    (void)clock_settime(CLOCK_REALTIME, &t);
}

int ident_machine(const struct setup_req *r, struct err *e)
{
    if (r->entropy) {
        drop_stale_entropy();
        add_entropy(r);
    }
    if (r->wall_ns)
        set_clock(r);
    if (!r->hostname)
        return 0;
    if (strlen(r->hostname) > NAME_LEN_MAX)
        return err_set(e, -EINVAL, "hostname longer than %d bytes", NAME_LEN_MAX);
    if (sethostname(r->hostname, strlen(r->hostname)) < 0)
        return err_errno(e, -errno, "sethostname");
    return 0;
}

/* Replaces the file, also when the image has a symbolic link (say, into /run) in its place. */
static int put_file(const char *path, const char *text, struct err *e)
{
    if (unlink(path) < 0 && errno != ENOENT)
        return err_errno(e, -errno, "%s", path);
    CLEANUP(fd) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(e, -errno, "%s", path);
    for (size_t n = strlen(text); n > 0;) {
        ssize_t w = write(fd, text, n);

        if (w < 0)
            return err_errno(e, -errno, "%s", path);
        text += w;
        n -= (size_t)w;
    }
    return 0;
}

static int put_hosts(const struct setup_req *r, struct err *e)
{
    static const char local[] = "127.0.0.1\tlocalhost\n"
                                "::1\tlocalhost ip6-localhost ip6-loopback\n"
                                "ff02::1\tip6-allnodes\n"
                                "ff02::2\tip6-allrouters\n";
    char text[sizeof(local) + NAME_LEN_MAX + 16];

    if (r->hosts)
        return put_file("/etc/hosts", r->hosts, e);
    snprintf(text, sizeof(text), "%s127.0.1.1\t%.*s\n", local, NAME_LEN_MAX,
             r->hostname ? r->hostname : "localhost");
    return put_file("/etc/hosts", text, e);
}

int ident_files(const struct setup_req *r, struct err *e)
{
    int rc = launch_mkdirs("/etc", 0755);

    if (rc < 0)
        return err_errno(e, rc, "/etc");
    if (symlink("/proc/mounts", "/etc/mtab") < 0 && errno != EEXIST)
        return err_errno(e, -errno, "/etc/mtab");
    rc = put_hosts(r, e);
    if (rc == 0 && r->hostname) {
        char line[NAME_LEN_MAX + 2];

        snprintf(line, sizeof(line), "%.*s\n", NAME_LEN_MAX, r->hostname);
        rc = put_file("/etc/hostname", line, e);
    }
    if (rc == 0 && r->machine_id) {
        char line[MACHINE_ID_LEN + 2];

        snprintf(line, sizeof(line), "%.*s\n", MACHINE_ID_LEN, r->machine_id);
        rc = put_file("/etc/machine-id", line, e);
    }
    if (rc == 0 && r->resolv)
        rc = put_file("/etc/resolv.conf", r->resolv, e);
    return rc;
}

/* A forked child enters: should the container's file system block, it is the host that waits, and
 * what the container made of its /etc can lead only to places of its own. */
int ident_renew(const struct sandbox *s, const struct setup_req *r, struct err *e)
{
    int status;
    pid_t pid = fork();

    if (pid < 0)
        return err_errno(e, -errno, "fork");
    if (pid == 0) {
        int rc = setns(s->mnt, CLONE_NEWNS) < 0 ? -errno : ident_files(r, NULL);

        _exit(rc == 0 || rc == -EROFS ? 0 : -rc);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return err_errno(e, WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO,
                         "new names in the container's /etc");
    return 0;
}
