/* A container's terminal: a pair of its own devpts, so that its paths mean something inside. The
 * image decides what /dev/pts/ptmx is, so that is looked at, and the slave comes by ioctl. */
#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "process/process_priv.h"

enum { PTMX_MINOR = 2 };

int console_open(int root, const struct process_proc *proc, int *master, int *slave, struct err *e)
{
    struct winsize ws = {.ws_row = proc->rows, .ws_col = proc->cols};
    struct stat st;
    int zero = 0;

    CLEANUP(fd) int m = inroot_open_flags(root, "dev/pts/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK);
    if (m < 0)
        return err_errno(e, m, "terminal: /dev/pts/ptmx of the container");
    if (fstat(m, &st) < 0 || !S_ISCHR(st.st_mode) ||
        st.st_rdev != makedev(TTYAUX_MAJOR, PTMX_MINOR))
        return err_set(e, -ENOTTY, "terminal: the container's /dev/pts/ptmx is something else");
    if (ioctl(m, TIOCSPTLCK, &zero) < 0)
        return err_errno(e, -errno, "terminal");
    int s = ioctl(m, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s < 0)
        return err_errno(e, -errno, "terminal");
    if (ws.ws_row || ws.ws_col)
        (void)ioctl(m, TIOCSWINSZ, &ws);
    *master = take_fd(&m);
    *slave = s;
    return 0;
}

int console_bind(int root, int slave, struct err *e)
{
    CLEANUP(fd)
    int tree = open_tree(slave, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

    if (tree < 0)
        return err_errno(e, -errno, "/dev/console");
    CLEANUP(fd) int target = inroot_make(root, "dev/console", false, false);
    if (target < 0)
        return err_errno(e, target, "/dev/console");
    int r = mounts_attach(tree, target);
    return r < 0 ? err_errno(e, r, "/dev/console") : 0;
}
