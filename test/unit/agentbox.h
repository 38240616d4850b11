/* test/unit/agentbox.h - the agent itself, as an ordinary process in namespaces of its own, and the
 * host's end of a session talking to it. The image is a folder with busybox. Needs root (mounts)
 * and busybox; a skip says so. */
#ifndef TEST_UNIT_AGENTBOX_H
#define TEST_UNIT_AGENTBOX_H

#include <sys/socket.h>
#include <sys/types.h>

#include "container/session.h"
#include "test/unit/t.h"

extern char box_base[]; /* a folder of the test's own */
extern int box_group;   /* control group of the containers, where this host has cgroup2; -1 */
extern struct session_watch box_watch; /* SIGINT and SIGWINCH */

struct guest {
    struct sockaddr_storage addr; /* where the agent listens */
    socklen_t addr_len;
    pid_t pid;
    int listener; /* abstract AF_UNIX */
    struct sockaddr *sa;
    struct session *s;
};

struct result {
    int status;
    char out[8192], err[8192];
};

/* Of the whole program. */
int group_up(void **state);
int group_down(void **state);
/* A machine with its container's root; `extra` may be NULL. */
struct guest *up_with(const struct session_setup *extra);
struct guest *up(void);
void down(struct guest *g);
/* A further session, as g->s. */
void connect_again(struct guest *g);
/* In g's session. Errors as session_start() and session_pump(). */
int run_process(struct guest *g, const struct session_process *p, int in, struct result *r,
                struct err *e);
/* One machine, one shell command. */
void sh(const char *cmd, struct result *r);

#endif
