#include "jail/powers.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <signal.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65 /* Linux 6.3 */
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

enum {
    /* Nobody hands out ids of this range: beyond containers' and below 2^31, which some take for
     * negative (systemd, UIDS-GIDS.md). */
    UID_BASE = 0x70000000,
    UID_MASK = 0x0fffffff,
    NPROC = 65536, /* of that user: a machine and its forks */
};

static const uint64_t files_caps =
    1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER | 1u << CAP_FSETID;

static int set_caps(uint64_t effective, uint64_t permitted)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2] = {
        {.effective = (uint32_t)effective, .permitted = (uint32_t)permitted},
        {.effective = (uint32_t)(effective >> 32), .permitted = (uint32_t)(permitted >> 32)},
    };

    return (int)syscall(SYS_capset, &h, d);
}

static uint64_t permitted(void)
{
    struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2] = {{0}};

    if (syscall(SYS_capget, &h, d) < 0)
        return 0;
    return d[0].permitted | (uint64_t)d[1].permitted << 32;
}

void powers_files(enum powers_files how)
{
    uint64_t have = permitted() & files_caps;

    if (have)
        (void)set_caps(how == POWERS_USE ? have : 0, how == POWERS_NONE ? 0 : have);
}

/* System calls, not the C library's functions, which speak to all threads: there is one. */
static int change_user(struct err *e)
{
    uint32_t id;

    if (geteuid() != 0 || !(permitted() & 1u << CAP_SETUID) || !(permitted() & 1u << CAP_SETGID))
        return 0;
    if (getrandom(&id, sizeof(id), 0) != sizeof(id))
        return err_errno(e, -errno, "getrandom");
    id = UID_BASE | (id & UID_MASK);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || syscall(SYS_setgroups, 0, NULL) < 0 ||
        syscall(SYS_setresgid, id, id, id) < 0 || syscall(SYS_setresuid, id, id, id) < 0)
        return err_errno(e, -errno, "become another user");
    (void)set_caps(permitted(), permitted()); /* kept, they are to be put into effect again */
    return 0;
}

static void set_limit(int what, rlim_t most)
{
    struct rlimit l;

    if (getrlimit(what, &l) < 0)
        return;
    l.rlim_max = l.rlim_max < most ? l.rlim_max : most;
    l.rlim_cur = l.rlim_cur < l.rlim_max ? l.rlim_cur : l.rlim_max;
    (void)setrlimit(what, &l);
}

static int drop_bounding(struct err *e)
{
    static const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED |
                                      SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
                                      SECBIT_NO_CAP_AMBIENT_RAISE |
                                      SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED | SECBIT_KEEP_CAPS_LOCKED;

    if (!(permitted() & 1u << CAP_SETPCAP))
        return 0;
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return err_errno(e, -errno, "drop capability %d from the bounding set", cap);
    return prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0 ? err_errno(e, -errno, "securebits") : 0;
}

int powers_drop(bool files, struct err *e)
{
    bool root = geteuid() == 0;
    int r = change_user(e);

    if (r == 0)
        r = drop_bounding(e);
    if (r < 0)
        return r;
    set_limit(RLIMIT_CORE, 0);
    set_limit(RLIMIT_MSGQUEUE, 0);
    if (root)
        set_limit(RLIMIT_NPROC, NPROC);
    uint64_t stay = root && files ? permitted() & files_caps : 0;
    if (set_caps(0, stay) < 0)
        return err_errno(e, -errno, "drop capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return err_errno(e, -errno, "prctl");
    (void)prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); /* where it is known */
    /* Another user: the kernel has forgotten it. */
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0 ? err_errno(e, -errno, "prctl") : 0;
}
