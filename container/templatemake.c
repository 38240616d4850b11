/* Making a template: a machine with nothing in its slots boots, its agent says that it waits, and
 * the machine is saved. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/guestconf.h"
#include "container/rundir.h"
#include "container/template.h"
#include "container/vmm.h"
#include "image/initrd.h"
#include "vm/snapshot.h"

enum { BOOT_MS = 600000 }; /* an interpreted kernel on a busy host */

struct maker {
    struct rundir dir;
    struct vmm vmm;
    int initrd, ready;
    char vsock[RUNDIR_PATH_MAX + 16];
};

static int start(struct maker *m, const struct guest_conf *c, const struct template *t,
                 struct err *e)
{
    char base[RUNDIR_PATH_MAX];
    struct vm_conf vc;
    int r = rundir_base(base, sizeof(base), e);

    if (r == 0)
        r = rundir_new(base, NULL, &m->dir, e);
    if (r < 0)
        return r;
    snprintf(m->vsock, sizeof(m->vsock), "%s/vsock", m->dir.path);
    guestconf_fill(c, m->vsock, true, &vc);
    guestconf_empty(&vc);
    r = initrd_build(c->kernel_dir, guestconf_modules(&vc), &m->initrd, e);
    vc.initrd_fd = m->initrd;
    if (r == 0)
        r = session_listen(m->vsock, &m->ready, e);
    struct vmm_conf vmm = {.vm = &vc, .dir = &m->dir, .snapshot = t->dir, .note = t->note};
    return r == 0 ? vmm_start(&vmm, &m->vmm, e) : r;
}

static int boot_and_save(struct maker *m, const struct session_watch *w, struct err *e)
{
    struct session_watch watch = *w;
    struct session *s = NULL;

    watch.machine_fd = m->vmm.report_fd;
    int r = session_open(m->vsock, m->ready, &watch, BOOT_MS, &s, e);
    session_close(s);
    if (r == 0)
        r = vmm_snapshot(&m->vmm, &watch, e);
    if (r == -ECONNRESET)
        r = vmm_why(&m->vmm, e);
    return r;
}

static int make(const struct guest_conf *c, const struct template *t, const struct session_watch *w,
                struct err *e)
{
    struct maker m = {.dir = RUNDIR_NONE, .vmm = VMM_NONE, .initrd = -1, .ready = -1};
    int r = start(&m, c, t, e);

    if (r == 0)
        r = boot_and_save(&m, w, e);
    vmm_stop(&m.vmm);
    cleanup_fd(&m.ready);
    cleanup_fd(&m.initrd);
    rundir_remove(&m.dir);
    return r;
}

/* The lock's file, made with its folder. */
static int open_lock(const struct guest_conf *c, const struct template *t, struct err *e)
{
    char path[PATH_MAX + 16];

    snprintf(path, sizeof(path), "%s/templates", c->store);
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return err_errno(e, -errno, "%s", path);
    snapshot_sweep(path);
    snprintf(path, sizeof(path), "%s.lock", t->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd < 0 ? err_errno(e, -errno, "%s", path) : fd;
}

/* The lock's mode says that the last try failed: a mark that needs no room on a full disk. */
enum { MODE_FRESH = 0600, MODE_FAILED = 0700 };

static bool failed_lately(int lock)
{
    struct stat st;

    return fstat(lock, &st) == 0 && (st.st_mode & 0777) == MODE_FAILED &&
           st.st_ctim.tv_sec + TEMPLATE_FAILED_S > time(NULL);
}

int template_make(const struct guest_conf *c, const struct template *t,
                  const struct session_watch *w, bool again, struct err *e)
{
    CLEANUP(fd) int lock = open_lock(c, t, e);

    if (lock < 0)
        return lock;
    if (flock(lock, LOCK_EX | LOCK_NB) < 0)
        return err_set(e, errno == EWOULDBLOCK ? -EBUSY : -errno,
                       "template %s: somebody else is making it", t->key);
    if (access(t->dir, F_OK) == 0)
        return err_set(e, -EEXIST, "template %s is there", t->key);
    if (!again && failed_lately(lock))
        return err_set(e, -EBUSY, "template %s: it could not be made a while ago", t->key);
    int r = make(c, t, w, e);
    if (r != -EINTR && r != -ETIMEDOUT)
        (void)fchmod(lock, r < 0 ? MODE_FAILED : MODE_FRESH);
    return r < 0 ? err_wrap(e, r, "template") : 0;
}
