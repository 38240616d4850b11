/* container/session.h - the host's end of one agent session: SETUP, START, then the streams until EXIT.
 * Source: proto/agent.h. Thread: one; it runs its own poll loop. */
#ifndef CONTAINER_SESSION_H
#define CONTAINER_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct session;

struct session_setup { /* all borrowed; NULL or 0 = leave out */
    const char *hostname, *root_dev, *root_fstype, *overlay_dev;
    bool root_ro;
    const char *const *mounts;       /* NULL-terminated "type\0source\0target\0options" */
    const size_t *mount_len;
    const char *hosts, *resolv;
};

struct session_process { /* all borrowed */
    const char *const *argv, *const *env; /* NULL-terminated */
    const char *cwd, *user;
    bool tty, with_stdin;
    uint16_t rows, cols;
};

/* Listen for the agent's ready call on `<vsock_path>_1025`; made before the machine starts. */
int session_listen(const char *vsock_path, int *listen_fd, struct err *e) MUST_CHECK;
/* Wait for ready, then connect (CONNECT 1024) and say HELLO. `watch_fd` readable (or -1) = the machine died: -ECONNRESET. */
int session_open(const char *vsock_path, int listen_fd, int watch_fd, int timeout_ms,
                 struct session **ret, struct err *e) MUST_CHECK;
void session_close(struct session *s);
int session_setup(struct session *s, const struct session_setup *c, struct err *e) MUST_CHECK;
/* -ENOENT: command not found (exit 127); -EACCES, -ENOEXEC: cannot be run (126). */
int session_start(struct session *s, const struct session_process *p, struct err *e) MUST_CHECK;
/* Copy streams until EXIT. in -1 = no stdin. signal_fd (signalfd, or -1): forwarded; SIGWINCH sends the size of `tty_fd`.
 * Second SIGINT within 1 s while the guest does not answer: -ECANCELED. *status as from wait(2). */
int session_pump(struct session *s, int in, int out, int err_fd, int signal_fd, int tty_fd,
                 int watch_fd, int timeout_ms, int *status, struct err *e) MUST_CHECK;
int session_poweroff(struct session *s, struct err *e) MUST_CHECK;

#endif
