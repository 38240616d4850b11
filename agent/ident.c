#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

/* Replaces a file in the folder `etc`, also when the image has a symbolic link (say, into /run) in
 * its place. */
static int put_file(int etc, const char *name, const char *text, struct err *e)
{
    if (unlinkat(etc, name, 0) < 0 && errno != ENOENT)
        return err_errno(e, -errno, "/etc/%s", name);
    CLEANUP(fd)
    int fd = openat(etc, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return err_errno(e, -errno, "/etc/%s", name);
    for (size_t n = strlen(text); n > 0;) {
        ssize_t w = write(fd, text, n);

        if (w < 0)
            return err_errno(e, -errno, "/etc/%s", name);
        text += w;
        n -= (size_t)w;
    }
    return 0;
}

static int put_hosts(int etc, const struct setup_req *r, struct err *e)
{
    static const char local[] = "127.0.0.1\tlocalhost\n"
                                "::1\tlocalhost ip6-localhost ip6-loopback\n"
                                "ff02::1\tip6-allnodes\n"
                                "ff02::2\tip6-allrouters\n";
    char text[sizeof(local) + NAME_LEN_MAX + 16];

    if (r->hosts)
        return put_file(etc, "hosts", r->hosts, e);
    snprintf(text, sizeof(text), "%s127.0.1.1\t%.*s\n", local, NAME_LEN_MAX,
             r->hostname ? r->hostname : "localhost");
    return put_file(etc, "hosts", text, e);
}

/* "/etc" as the container has it: wherever its links lead, it is a place of its own. */
static int open_etc(int root)
{
    static const struct open_how how = {.flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
                                        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, root, "etc", &how, sizeof(how));

    return fd < 0 ? -errno : fd;
}

static int put_files(int etc, const struct setup_req *r, struct err *e)
{
    int rc = put_hosts(etc, r, e);

    if (rc == 0 && r->hostname) {
        char line[NAME_LEN_MAX + 2];

        snprintf(line, sizeof(line), "%.*s\n", NAME_LEN_MAX, r->hostname);
        rc = put_file(etc, "hostname", line, e);
    }
    if (rc == 0 && r->machine_id) {
        char line[MACHINE_ID_LEN + 2];

        snprintf(line, sizeof(line), "%.*s\n", MACHINE_ID_LEN, r->machine_id);
        rc = put_file(etc, "machine-id", line, e);
    }
    if (rc == 0 && r->resolv)
        rc = put_file(etc, "resolv.conf", r->resolv, e);
    return rc;
}

int ident_files(int root, const struct setup_req *r, struct err *e)
{
    if (mkdirat(root, "etc", 0755) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "/etc");
    CLEANUP(fd) int etc = open_etc(root);
    if (etc < 0)
        return err_errno(e, etc, "/etc");
    if (symlinkat("/proc/mounts", etc, "mtab") < 0 && errno != EEXIST)
        return err_errno(e, -errno, "/etc/mtab");
    return put_files(etc, r, e);
}

int ident_renew(const struct sandbox *s, const struct setup_req *r, struct err *e)
{
    CLEANUP(fd) int etc = open_etc(s->root);
    int rc = etc < 0 ? err_errno(e, etc, "/etc") : put_files(etc, r, e);

    return rc == -EROFS ? 0 : rc;
}
