#include "jail/landlock.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* include/uapi/linux/landlock.h, which older headers have in part only. */
struct ruleset_attr {
    uint64_t fs, net /* ABI 4 */, scoped /* ABI 6 */;
};
struct __attribute__((packed)) path_beneath {
    uint64_t allowed;
    int32_t parent_fd;
};

enum {
    CREATE_RULESET_VERSION = 1,
    RULE_PATH_BENEATH = 1,
    FS_EXECUTE = 1,
    FS_ABI_1 = 0x1fff,     /* up to MAKE_SYM */
    FS_REFER = 0x2000,     /* ABI 2 */
    FS_TRUNCATE = 0x4000,  /* ABI 3 */
    FS_IOCTL_DEV = 0x8000, /* ABI 5 */
    NET_TCP = 3,           /* ABI 4: bind, connect */
    SCOPED = 3,            /* ABI 6: abstract Unix sockets, signals */
};

int landlock_abi(void)
{
    long r = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

    return r < 0 ? 0 : (int)r;
}

static size_t fill(struct ruleset_attr *a, int abi)
{
    a->fs = FS_ABI_1 | (abi >= 2 ? FS_REFER : 0u) | (abi >= 3 ? FS_TRUNCATE : 0u) |
            (abi >= 5 ? FS_IOCTL_DEV : 0u);
    a->net = abi >= 4 ? NET_TCP : 0;
    a->scoped = abi >= 6 ? SCOPED : 0;
    if (abi >= 6)
        return sizeof(*a);
    return abi >= 4 ? offsetof(struct ruleset_attr, scoped) : offsetof(struct ruleset_attr, net);
}

int landlock_enter(const int *fd, unsigned n, struct err *e)
{
    struct ruleset_attr a;
    int abi = landlock_abi();

    if (abi == 0)
        return 0;
    size_t size = fill(&a, abi);
    CLEANUP(fd) int rules = (int)syscall(SYS_landlock_create_ruleset, &a, size, 0);
    if (rules < 0)
        return err_errno(e, -errno, "landlock_create_ruleset");
    for (unsigned i = 0; i < n; i++) {
        struct path_beneath p = {.allowed = a.fs & ~(uint64_t)FS_EXECUTE, .parent_fd = fd[i]};

        if (syscall(SYS_landlock_add_rule, rules, RULE_PATH_BENEATH, &p, 0) < 0)
            return err_errno(e, -errno, "landlock_add_rule");
    }
    if (syscall(SYS_landlock_restrict_self, rules, 0) < 0)
        return err_errno(e, -errno, "landlock_restrict_self");
    return 0;
}
