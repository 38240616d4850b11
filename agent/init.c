/* The guest agent's main(): PID 1 of the initramfs. It never returns: the end of PID 1 is a kernel
 * panic. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "base/cleanup.h"

static void block_signals(void)
{
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The OOM killer spares PID 1; a container must not come to depend on that. */
static void spare_from_oom(void)
{
    CLEANUP(fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd >= 0)
        (void)!write(fd, "-1000", 5);
}

static _Noreturn void power_off(void)
{
    sync();
    reboot(RB_POWER_OFF);
    reboot(RB_AUTOBOOT);
    for (;;)
        pause();
}

int main(void)
{
    struct agent a = {.base = "/kiln", .group = -1, .box = SANDBOX_NONE};
    struct err e = {0};

    if (getpid() != 1) /* run in a container, so that a process has come and gone */
        return 0;
    umask(022);
    block_signals();
    early_mounts();
    spare_from_oom();
    (void)reboot(RB_DISABLE_CAD);
    early_modules("/modules");
    a.group = group_open("/cgroup");
    early_loopback();
    netconf_early();
    int listener = early_listen(&e);
    if (listener >= 0) {
        early_ready();
        (void)!serve(&a, listener, &e);
    }
    if (e.code)
        early_log("%s", e.msg);
    power_off();
}
