#include "block/qsd.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "block/qsdjail.h"
#include "os/fds.h"
#include "vhost/vhostuser.h"

enum { LISTEN_FD = 3, POLL_US = 10000, SAID_MAX = 300, EXIT_NO_PROGRAM = 127 };

/* --- what it is told ------------------------------------------------------------------------ */

static json_t *file_node(const char *path)
{
    struct stat st;
    bool device = stat(path, &st) == 0 && S_ISBLK(st.st_mode);

    return json_pack("{s:s, s:s, s:s}", "driver", device ? "host_device" : "file", "filename", path,
                     "discard", "unmap");
}

static json_t *nbd_node(const struct disktext *d)
{
    json_t *server =
        d->where == DISK_AT_NBD
            ? json_pack("{s:s, s:s, s:s}", "type", "inet", "host", d->place, "port", d->port)
            : json_pack("{s:s, s:s}", "type", "unix", "path", d->place);

    return json_pack("{s:s, s:o, s:s*}", "driver", "nbd", "server", server, "export", d->export);
}

static json_t *rbd_node(const struct disktext *d)
{
    const char *slash = strchr(d->place, '/'), *at = strrchr(d->place, '@');
    size_t end = at ? (size_t)(at - d->place) : strlen(d->place);
    size_t pool = (size_t)(slash - d->place);

    if (end <= pool)
        end = strlen(d->place);
    return json_pack("{s:s, s:s%, s:s%, s:s*, s:s*}", "driver", "rbd", "pool", d->place, pool,
                     "image", slash + 1, end - pool - 1, "snapshot",
                     d->place[end] == '@' ? at + 1 : NULL, "user", d->user);
}

/* As text, the caller's; NULL = out of memory. */
static char *blockdev(const struct disktext *d, const char *path)
{
    json_t *place = d->where == DISK_AT_FILE  ? file_node(path)
                    : d->where == DISK_AT_RBD ? rbd_node(d)
                                              : nbd_node(d);
    json_t *node = json_pack("{s:s, s:s, s:b, s:s, s:o}", "driver", d->format, "node-name", "disk",
                             "read-only", d->read_only, "discard", "unmap", "file", place);

    if (node && strcmp(d->format, "qcow2") == 0 && !d->trusted)
        json_object_set_new(node, "backing", json_null());
    char *text = node ? json_dumps(node, JSON_COMPACT) : NULL;
    json_decref(node);
    return text;
}

/* --- its process ------------------------------------------------------------------------------ */

struct launch {
    const struct disktext *d;
    char *path;         /* of a file, absolute; owned */
    char *blockdev;     /* owned */
    int listen, errors; /* owned: socket; write end of the pipe for its stderr */
};

static _Noreturn void child(const struct launch *l, pid_t parent)
{
    char export[160];
    int null = open("/dev/null", O_RDWR), keep[] = {LISTEN_FD};
    sigset_t none;

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);   /* forked child */
    (void)setsid(); /* Ctrl-C on the terminal is the machine's */
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (null < 0 || dup2(null, 0) < 0 || dup2(l->errors, 1) < 0 || dup2(l->errors, 2) < 0)
        _exit(1); /* forked child */
    if (l->listen == LISTEN_FD ? fcntl(LISTEN_FD, F_SETFD, 0) < 0 : dup2(l->listen, LISTEN_FD) < 0)
        _exit(1); /* forked child */
    fds_close_but(keep, 1);
    snprintf(export, sizeof(export),
             "{\"type\":\"vhost-user-blk\",\"id\":\"disk\",\"node-name\":\"disk\",\"writable\":%s,"
             "\"addr\":{\"type\":\"fd\",\"str\":\"%d\"}}",
             l->d->read_only ? "false" : "true", LISTEN_FD);
    qsdjail_enter(l->d, l->path);
    execlp("qemu-storage-daemon", "qemu-storage-daemon", "--blockdev", l->blockdev, "--export",
           export, (char *)NULL);
    _exit(EXIT_NO_PROGRAM); /* forked child */
}

/* A listening socket and a connection that waits in its queue; its name exists only meanwhile, in a
 * folder nobody else can enter. */
static int make_sockets(int *listening, int *connected, struct err *e)
{
    char dir[] = "/tmp/kiln-disk-XXXXXX";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    CLEANUP(fd) int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = 0;

    if (s < 0)
        return err_errno(e, -errno, "make a socket");
    if (!mkdtemp(dir))
        return err_errno(e, -errno, "make a folder in /tmp");
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", dir);
    if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(s, 1) < 0)
        r = err_errno(e, -errno, "listen on '%s'", a.sun_path);
    int c = r == 0 ? vhostuser_connect(a.sun_path, e) : r;
    (void)unlink(a.sun_path);
    (void)rmdir(dir);
    if (c < 0)
        return c;
    *connected = c;
    *listening = take_fd(&s);
    return 0;
}

static int prepare(const struct disktext *d, struct launch *l, struct err *e)
{
    if (d->where == DISK_AT_FILE) {
        l->path = realpath(d->place, NULL);
        if (!l->path)
            return err_errno(e, -errno, "open");
    }
    l->blockdev = blockdev(d, l->path);
    return l->blockdev ? 0 : err_set(e, -EINVAL, "its name is no UTF-8");
}

/* --- how it went --------------------------------------------------------------------------------
 */

/* The first line it wrote, without its own name in front. */
static void what_it_said(int from, char said[SAID_MAX])
{
    char buf[SAID_MAX];
    ssize_t n = read(from, buf, sizeof(buf) - 1);

    buf[n > 0 ? n : 0] = '\0';
    buf[strcspn(buf, "\n")] = '\0';
    for (char *p = buf; *p; p++) /* part of it may be an image's */
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = '?';
    const char *text = strncmp(buf, "qemu-storage-daemon: ", 21) == 0 ? buf + 21 : buf;
    /* It repeats its option, which is ours and long. */
    const char *end_of_option = strncmp(text, "--blockdev ", 11) == 0 ? strstr(text, "}: ") : NULL;
    snprintf(said, SAID_MAX, "%s", end_of_option ? end_of_option + 3 : text);
}

/* It answers, or the sentence why not. */
static int await(struct qsd *q, int errors, struct err *e)
{
    struct vhostuser v = VHOSTUSER_NONE;
    char said[SAID_MAX];
    struct err why = {0};
    int fd = fcntl(q->fd, F_DUPFD_CLOEXEC, 0), status = 0;
    int r = fd < 0 ? err_errno(e, -errno, "dup") : vhostuser_open(fd, QSD_START_MS, &v, &why);

    vhostuser_close(&v); /* a copy: the connection stays */
    if (r >= 0)
        return 0;
    for (int us = 0; us < 1000000; us += POLL_US) {
        if (waitpid(q->pid, &status, WNOHANG) == q->pid) {
            q->pid = 0;
            break;
        }
        usleep(POLL_US);
    }
    if (q->pid == 0 && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_PROGRAM)
        return err_set(e, -ENOENT,
                       "qemu-storage-daemon is not installed (Debian: qemu-system-common)");
    what_it_said(errors, said);
    if (q->pid == 0 && said[0])
        return err_set(e, -EINVAL, "qemu-storage-daemon: %s", said);
    return err_set(e, r, "qemu-storage-daemon: %s", why.msg);
}

int qsd_start(const struct disktext *d, struct qsd *ret, struct err *e)
{
    struct launch l = {.d = d, .listen = -1, .errors = -1};
    struct qsd q = QSD_NONE;
    int p[2] = {-1, -1};
    pid_t self = getpid();
    int r = prepare(d, &l, e);

    if (r == 0)
        r = make_sockets(&l.listen, &q.fd, e);
    if (r == 0 && pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
        r = err_errno(e, -errno, "pipe");
    if (r == 0) {
        l.errors = p[1];
        q.pid = fork();
        if (q.pid == 0)
            child(&l, self);
        if (q.pid < 0)
            r = err_errno(e, -errno, "fork");
    }
    cleanup_fd(&l.listen);
    cleanup_fd(&p[1]);
    free(l.path);
    free(l.blockdev);
    if (r == 0)
        r = await(&q, p[0], e);
    cleanup_fd(&p[0]);
    if (r < 0) {
        qsd_stop(&q);
        return err_wrap(e, r, "disk '%s'", d->place);
    }
    *ret = q;
    return 0;
}

void qsd_stop(struct qsd *q)
{
    cleanup_fd(&q->fd);
    if (q->pid > 0) {
        kill(q->pid, SIGTERM);
        for (int ms = 0; waitpid(q->pid, NULL, WNOHANG) == 0; ms += POLL_US / 1000) {
            if (ms >= QSD_STOP_MS) {
                kill(q->pid, SIGKILL);
                while (waitpid(q->pid, NULL, 0) < 0 && errno == EINTR) {
                }
                break;
            }
            usleep(POLL_US);
        }
    }
    *q = QSD_NONE;
}
