#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

enum { READY_TRIES = 200, READY_WAIT_MS = 25 };

void early_log(const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (n > 0)
        dprintf(2, "kiln agent: %s\n", line);
}

static void mount_early(const char *type, const char *dir, unsigned long flags)
{
    (void)mkdir(dir, 0755);
    /* EBUSY: the kernel did it (devtmpfs). */
    if (mount(type, dir, type, flags, NULL) < 0 && errno != EBUSY)
        early_log("mount %s: %s", dir, strerror(errno));
}

void early_mounts(void)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    mount_early("devtmpfs", "/dev", MS_NOSUID);
    mount_early("proc", "/proc", flags);
    mount_early("sysfs", "/sys", flags);
    mount_early("tmpfs", "/tmp", MS_NOSUID | MS_NODEV);
}

static void load_module(const char *path)
{
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        early_log("%s: %s", path, strerror(errno));
        return;
    }
    /* EEXIST: built in or loaded already. ENODEV: hardware that this machine has not. */
    if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST && errno != ENODEV)
        early_log("%s: %s", path, strerror(errno));
}

void early_modules(const char *dir)
{
    char path[512], line[256];

    snprintf(path, sizeof(path), "%s/list", dir);
    CLEANUP(file) FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (!line[0] || line[0] == '#')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, line);
        load_module(path);
        (void)unlink(path); /* an initramfs is memory */
    }
}

void early_loopback(void)
{
    CLEANUP(fd) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &r) < 0)
        early_log("lo: %s", strerror(errno));
}

int early_listen(struct err *e)
{
    CLEANUP(fd) int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_vm sa = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = PROTO_PORT};

    if (fd < 0)
        return err_errno(e, -errno, "vsock");
    if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, AGENT_PEERS_MAX) < 0)
        return err_errno(e, -errno, "vsock port %d", PROTO_PORT);
    return take_fd(&fd);
}

static int call_host(void)
{
    CLEANUP(fd) int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_vm sa = {
        .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = PROTO_READY_PORT};

    if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
        return -errno;
    return send(fd, "r", 1, MSG_NOSIGNAL) == 1 ? 0 : -errno;
}

void early_ready(void)
{
    struct timespec t = {.tv_nsec = READY_WAIT_MS * 1000000L};
    int r = 0;

    /* The transport's driver may still be probing its device. */
    for (unsigned i = 0; i < READY_TRIES; i++) {
        r = call_host();
        if (r == 0)
            return;
        nanosleep(&t, NULL);
    }
    early_log("cannot reach the host: %s", strerror(-r));
}
