#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/cleanup.h"
#include "net/net.h"

static int open_one(const char *name, bool multi, int *ret, struct err *e)
{
    struct ifreq r = {
        .ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | (multi ? IFF_MULTI_QUEUE : 0))};
    CLEANUP(fd) int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0)
        return err_errno(e, -errno, "/dev/net/tun");
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    if (ioctl(fd, TUNSETIFF, &r) < 0) {
        const char *why = errno == EBUSY    ? "somebody has it open already"
                          : errno == EINVAL ? "it is another kind of interface, or has other queues"
                                            : strerror(errno);
        return err_set(e, -errno, "tap '%s': %s", name, why);
    }
    *ret = take_fd(&fd);
    return 0;
}

int tap_open(const char *name, unsigned pairs, int fd[NET_PAIRS_MAX], struct err *e)
{
    size_t len = strlen(name);
    int r = 0;

    if (len == 0 || len >= IFNAMSIZ || strchr(name, '/') || strchr(name, '%'))
        return err_set(e, -EINVAL, "'%s' is no name of an interface", name);
    if (pairs < 1 || pairs > NET_PAIRS_MAX)
        return err_set(e, -EINVAL, "%u queue pairs: a card has 1 to %d", pairs, NET_PAIRS_MAX);
    for (unsigned i = 0; i < pairs; i++) {
        r = open_one(name, pairs > 1, &fd[i], e);
        if (r < 0) {
            while (i-- > 0)
                close(fd[i]);
            return r;
        }
    }
    return 0;
}
