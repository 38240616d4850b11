#include "container/exec.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "container/exec_priv.h"

static int check_running(const struct record *r, struct err *e)
{
    switch (r->state.status) {
    case RECORD_RUNNING:
        return 0;
    case RECORD_PAUSED:
        return err_set(e, -EAGAIN, "container %s is paused, unpause the container before exec",
                       r->name);
    case RECORD_RESTARTING:
        return err_set(e, -ESRCH, "container %s is restarting, wait until the container is running",
                       r->name);
    default:
        return err_set(e, -ESRCH, "container %s is not running", r->name);
    }
}

/* The container's variables, and over them those given now: names once, the last value counts. */
static int make_env(const struct record *r, const struct exec_conf *c, struct strv *env)
{
    int rc = strv_add_all(env, r->spec.env.v);

    for (size_t i = 0; rc == 0 && c->env && c->env[i]; i++) {
        size_t name = strcspn(c->env[i], "="), k = 0;

        while (k < env->n && (strncmp(env->v[k], c->env[i], name) != 0 || env->v[k][name] != '='))
            k++;
        if (k == env->n) {
            rc = strv_add(env, c->env[i]);
            continue;
        }
        char *copy = strdup(c->env[i]);
        if (!copy)
            return -ENOMEM;
        free(env->v[k]);
        env->v[k] = copy;
    }
    return rc;
}

static int take_signals(struct exec *x, struct err *e)
{
    static const int wanted[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};
    sigset_t set;

    sigemptyset(&set);
    for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
        sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, &x->old_mask);
    x->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return x->signal_fd < 0 ? err_errno(e, -errno, "signalfd") : 0;
}

/* Every key is the process's. */
static bool raw_mode(int fd, struct termios *saved)
{
    struct termios t;

    if (tcgetattr(fd, saved) < 0)
        return false;
    t = *saved;
    cfmakeraw(&t);
    return tcsetattr(fd, TCSADRAIN, &t) == 0;
}

static int exit_status(struct exec *x, int rc, int status)
{
    if (x->failed)
        return rc == -ENOENT ? EXEC_NOT_FOUND
                             : (rc == -EINVAL || rc == -ETIMEDOUT || rc == -ECONNRESET ||
                                        rc == -EPROTO || rc == -EINTR
                                    ? EXEC_KILN
                                    : EXEC_CANNOT);
    if (rc == -EINTR || rc == -ECANCELED)
        return 128 + (x->signal ? x->signal : SIGINT);
    if (rc < 0)
        return EXEC_KILN;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int exec_run(const struct record *r, const struct exec_conf *c, struct err *e)
{
    struct exec x = {.r = r, .c = c, .signal_fd = -1};
    struct winsize ws = {.ws_row = 24, .ws_col = 80};
    struct termios saved;
    bool raw = false, vm = r->spec.isolation == SPEC_VM;
    int status = 0, rc = check_running(r, e);

    signal(SIGPIPE, SIG_IGN);
    if (c->terminal)
        (void)ioctl(c->in, TIOCGWINSZ, &ws);
    x.rows = ws.ws_row;
    x.cols = ws.ws_col;
    if (rc == 0 && make_env(r, c, &x.env) < 0)
        rc = err_errno(e, -ENOMEM, "environment");
    if (rc == 0 && c->signals)
        rc = take_signals(&x, e);
    if (rc == 0)
        rc = vm ? exec_vm_start(&x, e) : exec_process_start(&x, e);
    if (rc == 0 && !c->detach) {
        raw = c->terminal && raw_mode(c->in, &saved);
        rc = vm ? exec_vm_wait(&x, &status, e) : exec_process_wait(&x, &status, e);
    }
    if (raw)
        tcsetattr(c->in, TCSADRAIN, &saved);
    if (vm)
        exec_vm_done(&x);
    else
        exec_process_done(&x);
    strv_done(&x.env);
    if (x.signal_fd >= 0) {
        close(x.signal_fd);
        sigprocmask(SIG_SETMASK, &x.old_mask, NULL);
    }
    return exit_status(&x, rc, status);
}
