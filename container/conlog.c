#include "container/conlog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/cleanup.h"

struct conlog {
    struct conlog_files f;
    int in; /* console's pipe */
    const struct thread_hook *hook;
};

int conlog_open(int dir, struct conlog_files *f, struct err *e)
{
    const int flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW;

    f->log = openat(dir, "console.log", flags, 0600);
    f->old = openat(dir, "console.old", flags, 0600);
    if (f->log >= 0 && f->old >= 0)
        return 0;
    int r = err_errno(e, -errno, "console.log");
    conlog_close(f);
    return r;
}

void conlog_close(struct conlog_files *f)
{
    cleanup_fd(&f->log);
    cleanup_fd(&f->old);
    *f = CONLOG_NONE;
}

/* What was written so far becomes the old one. */
static void turn(const struct conlog_files *f, char *buf, size_t len)
{
    off_t at = 0;
    ssize_t n;

    (void)!ftruncate(f->old, 0);
    while ((n = pread(f->log, buf, len, at)) > 0) {
        if (pwrite(f->old, buf, (size_t)n, at) != n)
            break;
        at += n;
    }
    (void)!ftruncate(f->log, 0);
}

/* A guest may write for ever: two files, the older one dropped. */
static void *log_main(void *arg)
{
    const struct conlog *l = arg;
    char buf[4096];
    off_t at = 0;
    ssize_t n;

    thread_enter(l->hook, THREAD_LOG);
    while ((n = read(l->in, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0)
            continue;
        if (at > CONLOG_MAX) {
            char moved[4096];

            turn(&l->f, moved, sizeof(moved));
            at = 0;
        }
        (void)!pwrite(l->f.log, buf, (size_t)n, at);
        at += n;
    }
    return NULL;
}

int conlog_new(const struct conlog_files *f, struct conlog **ret, int *out, struct err *e)
{
    struct conlog *l = malloc(sizeof(*l));
    int v[2];

    if (!l || pipe2(v, O_CLOEXEC) < 0) {
        int r = err_errno(e, l ? -errno : -ENOMEM, "console");

        free(l);
        return r;
    }
    *l = (struct conlog){.f = *f, .in = v[0]};
    *out = v[1];
    *ret = l;
    return 0;
}

int conlog_start(struct conlog *l, const struct thread_hook *hook, struct err *e)
{
    pthread_t t;

    l->hook = hook;
    if (pthread_create(&t, NULL, log_main, l) != 0)
        return err_set(e, -EAGAIN, "console: no thread");
    pthread_detach(t);
    return 0;
}
