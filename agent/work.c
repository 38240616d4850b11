/* Work on the container's files, by a child of the agent that is in the container but runs none of
 * its programs. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/pid1.h"
#include "proto/filework.h"

enum { FD_IMAGE = 4, FD_UPPER = 5, FD_ROOT = 6, FD_HIGH = 64 };

/* The layers where they are expected; nothing else of the agent's stays open. */
static int place_layers(const struct layers *l)
{
    int image = fcntl(l->image, F_DUPFD, FD_HIGH), upper = fcntl(l->upper, F_DUPFD, FD_HIGH);

    if (image < 0 || upper < 0 || dup2(image, FD_IMAGE) < 0 || dup2(upper, FD_UPPER) < 0)
        return -errno;
    return syscall(SYS_close_range, FD_ROOT, ~0U, 0) < 0 ? -errno : 0;
}

int work_run(const struct sandbox *s, const struct start_req *r, struct err *e)
{
    struct filework w = {
        .kind = (enum filework_kind)r->work,
        .flags = r->flags,
        .path = r->argv.v[0],
        .name = r->argv.v[1],
        .upper = FD_UPPER,
        .image = FD_IMAGE,
        .in = 0,
        .out = 1,
    };

    (void)prctl(PR_SET_DUMPABLE, 0);
    if (setns(s->mnt, CLONE_NEWNS) < 0)
        return err_errno(e, -errno, "enter the container");
    int rc = place_layers(&s->layers);
    if (rc < 0)
        return err_errno(e, rc, "descriptors");
    w.root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (w.root < 0)
        return err_errno(e, -errno, "the container's root");
    umask(0);
    close(3); /* it has begun */
    _exit(filework_run(&w) < 0);
}
