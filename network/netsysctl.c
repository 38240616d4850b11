#include "network/netsysctl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"

enum { PATH_BYTES = 320 };

static int read_one(const char *path, char *value)
{
    CLEANUP(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return -errno;
    return read(fd, value, 1) == 1 ? 0 : -EIO;
}

static int set(const char *path, char value, struct err *e)
{
    char now;

    if (read_one(path, &now) == 0 && now == value)
        return 0;
    CLEANUP(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, &value, 1) != 1)
        return err_errno(e, -errno, "set %s to %c", path, value);
    return 0;
}

/* 1 means: unless this is a router. 2: also then. */
static void keep_advertisements(void)
{
    CLEANUP(dir) DIR *d = opendir("/proc/sys/net/ipv6/conf");
    struct dirent *de;

    while (d && (de = readdir(d))) {
        char path[PATH_BYTES], value;

        if (de->d_name[0] == '.' || strcmp(de->d_name, "all") == 0 ||
            strcmp(de->d_name, "default") == 0)
            continue;
        snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", de->d_name);
        if (read_one(path, &value) == 0 && value == '1')
            (void)set(path, '2', NULL);
    }
}

int netsysctl_forward(bool ip6, struct err *e)
{
    static const char all6[] = "/proc/sys/net/ipv6/conf/all/forwarding";
    char now;
    int r = set("/proc/sys/net/ipv4/ip_forward", '1', e);

    if (r < 0 || !ip6)
        return r;
    if (read_one(all6, &now) == 0 && now == '0')
        keep_advertisements();
    return set(all6, '1', e);
}

bool netsysctl_has_ipv6(void)
{
    return access("/proc/sys/net/ipv6", F_OK) == 0;
}

int netsysctl_bridge(const char *name, bool ip6, struct err *e)
{
    char path[PATH_BYTES];

    snprintf(path, sizeof(path), "/proc/sys/net/ipv4/conf/%s/route_localnet", name);
    int r = set(path, '1', e);
    if (r < 0 || !netsysctl_has_ipv6())
        return r;
    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/accept_ra", name);
    r = set(path, '0', e);
    snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
    return r < 0 ? r : set(path, ip6 ? '0' : '1', e);
}
