#include "container/conlog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct log {
    int in; /* console's pipe */
    int dir;
};

static int log_open(int dir)
{
    return openat(dir, "console.log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

/* A guest may write for ever: two files, the older one dropped. */
static void *log_main(void *arg)
{
    struct log *l = arg;
    char buf[4096];
    size_t len = 0;
    int out = log_open(l->dir);
    ssize_t n;

    while ((n = read(l->in, buf, sizeof(buf))) > 0 || (n < 0 && errno == EINTR)) {
        if (n < 0 || out < 0)
            continue;
        if (len > CONLOG_MAX) {
            close(out);
            (void)renameat(l->dir, "console.log", l->dir, "console.old");
            out = log_open(l->dir);
            len = 0;
        }
        len += (size_t)n;
        if (out >= 0)
            (void)!write(out, buf, (size_t)n);
    }
    return NULL;
}

int conlog_start(int dir, int *out, struct err *e)
{
    struct log *l = malloc(sizeof(*l));
    pthread_t t;
    int v[2];

    if (!l || pipe2(v, O_CLOEXEC) < 0) {
        int r = err_errno(e, l ? -errno : -ENOMEM, "console");

        free(l);
        return r;
    }
    *l = (struct log){.in = v[0], .dir = dir};
    if (pthread_create(&t, NULL, log_main, l) != 0) {
        close(v[0]);
        close(v[1]);
        free(l);
        return err_set(e, -EAGAIN, "console: no thread");
    }
    pthread_detach(t);
    *out = v[1];
    return 0;
}
