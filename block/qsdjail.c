#include "block/qsdjail.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"

/* Not in these kernel headers: Linux 6.2, ABI 3. */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RUN (READ | LANDLOCK_ACCESS_FS_EXECUTE)
#define WRITE (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
#define ABI_1 ((1ull << 13) - 1) /* all rights of the first ABI, EXECUTE to MAKE_SYM */
#define FILE_RIGHTS (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | WRITE)

static void allow(int ruleset, const char *path, uint64_t rights, bool folder)
{
    CLEANUP(fd) int fd = open(path, O_PATH | O_CLOEXEC);
    struct landlock_path_beneath_attr a = {.allowed_access = folder ? rights : rights & FILE_RIGHTS,
                                           .parent_fd = fd};

    if (fd >= 0)
        (void)syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &a, 0);
}

/* Programs and libraries are read and run, the image is read and written; files that an image names
 * are read, where the user vouched for it. */
static void confine_files(const struct disktext *d, const char *path)
{
    static const char *const system[] = {"/usr", "/lib", "/lib64", "/bin"};
    static const char *const other[] = {"/etc/ld.so.cache", "/dev/urandom"};
    bool remote = d->where == DISK_AT_NBD || d->where == DISK_AT_RBD;
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    uint64_t handled = ABI_1 | (abi >= 3 ? LANDLOCK_ACCESS_FS_TRUNCATE : 0);
    struct landlock_ruleset_attr a = {.handled_access_fs = handled};
    CLEANUP(fd)
    int set = abi < 1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &a, sizeof(a), 0);

    if (set < 0)
        return;
    for (size_t i = 0; i < ARRAY_LEN(system); i++)
        allow(set, system[i], RUN, true);
    for (size_t i = 0; i < ARRAY_LEN(other); i++)
        allow(set, other[i], READ, false);
    allow(set, "/sys", READ, true); /* limits of block devices */
    if (remote)
        allow(set, "/etc", READ, true); /* names, addresses, Ceph's configuration */
    allow(set, "/dev/null", (READ | WRITE) & handled, false); /* it tries locks on that */
    if (d->trusted && d->where == DISK_AT_FILE)
        allow(set, "/", READ, true);
    if (path)
        allow(set, path, (READ | (d->read_only ? 0 : WRITE)) & handled, false);
    if (d->where == DISK_AT_NBD_UNIX)
        allow(set, d->place, (READ | WRITE) & handled, false);
    (void)syscall(SYS_landlock_restrict_self, set, 0);
}

/* Root's, too; but files of other users can be read, as they could by whoever named them. */
static void drop_capabilities(void)
{
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
        if (cap != CAP_DAC_OVERRIDE)
            (void)prctl(PR_CAPBSET_DROP, cap);
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

void qsdjail_enter(const struct disktext *d, const char *path)
{
    const struct rlimit no_core = {0, 0};
    int alone = CLONE_NEWIPC | CLONE_NEWUTS;

    if (d->where == DISK_AT_FILE)
        alone |= CLONE_NEWNET;
    if (unshare(alone) < 0)
        (void)!unshare(CLONE_NEWUSER | alone);
    (void)setrlimit(RLIMIT_CORE, &no_core);
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    drop_capabilities();
    confine_files(d, path);
}
