/* container/record.h - a container as it stands on disk, whether it runs or not: what outlives
 * processes and reboots.
 *
 * ROOT/containers/ID/, mode 0700, ROOT being the image store's (image/store.h):
 *   config.json      struct spec, written once (record_update() replaces it)
 *   state.json       struct record_state, replaced whole by rename(2)
 *   lock             flock(2): whoever changes the container's life holds it, for moments
 *   alive            locked by the keeper (container/keeper.h) for as long as it lives: if nobody
 *                    holds it the container does not run, whatever state.json says
 *   log, log.1 ...   what it wrote (container/ctrlog.h)
 *   upper/, work/ or disk.img   its writable layer
 * ROOT/containers/names/NAME -> ID   a symbolic link
 * ROOT/containers/lock               flock(2): whoever changes names/ or makes a record
 *
 * A record is made in ROOT/containers/tmp-ID and renamed when it is whole; one that goes is renamed
 * back first. What a kill leaves there goes with the next record_create() or record_list(), and a
 * name that leads nowhere is nobody's. Ids are 64 hexadecimal digits; the first RECORD_SHORT name
 * the folder of its running processes (container/rundir.h).
 *
 * Who writes what: state.json is its keeper's as long as that lives, else that of who holds `lock`;
 * all else is that of who holds `lock`. Nobody holds `lock` while he waits for a keeper, since a
 * keeper takes it to remove a record (--rm).
 *
 * The truth: what is read here never says "running" of a container whose keeper is gone. What the
 * keeper would have cleaned (processes, cgroup, network, folder) is then cleaned, and it is written
 * down that the container ended: exit code 137, and `error` says why. */
#ifndef CONTAINER_RECORD_H
#define CONTAINER_RECORD_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "container/spec.h"

enum { RECORD_ID_LEN = 64, RECORD_SHORT = 12, RECORD_NAME_MAX = 63, RECORD_HEALTH_LOG = 5 };

enum record_status { /* docker's words: record_status_name() */
                     RECORD_CREATED,
                     RECORD_RUNNING,
                     RECORD_PAUSED,
                     RECORD_RESTARTING,
                     RECORD_REMOVING,
                     RECORD_EXITED,
                     RECORD_DEAD, /* could not be removed whole */
};

enum record_health { RECORD_HEALTH_NONE, RECORD_STARTING, RECORD_HEALTHY, RECORD_UNHEALTHY };

struct record_probe { /* one run of the health command */
    int64_t start_ns, end_ns;
    int exit_code;
    char output[512]; /* its beginning */
};

struct record_address { /* on one network, for ps, inspect, port */
    char network[64], ip[16], ip6[46], mac[18], gateway[16], gateway6[46];
    unsigned prefix, prefix6;
};

struct record_port {  /* as published: free ports are filled in */
    char host_ip[46]; /* "" = all */
    uint16_t host_port, ctr_port;
    bool udp;
};

struct record_state { /* plain data; times in ns since 1970, 0 = never */
    enum record_status status;
    pid_t keeper, pid;  /* keeper: 0 = none runs, and none was killed. pid: the container's process
                           (process class), the machine's (VM) */
    uint64_t pid_start; /* field 22 of its /proc/PID/stat: tells it from a later one; 0 = unknown */
    int64_t created_ns, started_ns, finished_ns;
    int exit_code;
    bool oom_killed;
    bool stopped_by_user; /* for restart policies */
    unsigned restart_count;
    char error[ERR_MSG_MAX];
    char engine[16]; /* VM: that it runs on */
    enum record_health health;
    unsigned failing_streak;
    struct record_probe probe[RECORD_HEALTH_LOG]; /* newest last */
    unsigned n_probes;
    struct record_address address[4];
    unsigned n_addresses;
    struct record_port port[64];
    unsigned n_ports;
    char run[128];    /* its folder while it runs (rundir.path); "" = none */
    char boot_id[37]; /* of the boot that keeper and pid are of */
};

struct record { /* owned: record_done() */
    char id[RECORD_ID_LEN + 1];
    char name[RECORD_NAME_MAX + 1];
    char path[PATH_MAX]; /* its folder */
    int dir;             /* that folder */
    int lock;            /* -1 = not held */
    struct spec spec;
    struct record_state state;
};

/* How record_find() opens it. */
enum record_use { RECORD_LOOK, RECORD_CHANGE /* takes the lock, waits for it */ };

/* Everything below takes the store's root; NULL = default (image/store.h). */

/* A new one in state created. `name` NULL: one is made up ("brave_tesla"). *s is taken over, also
 * on failure. Errors: -EEXIST the name is in use by container ID; -EINVAL not a name; -ENOSPC. */
int record_create(const char *root, const char *name, struct spec *s, struct record *r,
                  struct err *e) MUST_CHECK;
/* By name, id, or unique beginning of an id. -ENOENT "no such container: X"; -EINVAL: several. */
int record_find(const char *root, const char *text, enum record_use use, struct record *r,
                struct err *e) MUST_CHECK;
/* A running machine of a container's kind that has no record, as one: a fork, or one restored. Its
 * spec says nothing. By name, id or unique beginning. -ENOENT; -ENOTSUP: it has no agent. */
int record_of_machine(const char *text, struct record *r, struct err *e) MUST_CHECK;
/* record_find() to look, or else record_of_machine(). */
int record_find_running(const char *root, const char *text, struct record *r,
                        struct err *e) MUST_CHECK;
/* All, newest first; *list owned by the caller: record_done() each, free(). A damaged one is left
 * out and counted in *damaged (may be NULL). */
int record_list(const char *root, struct record **list, size_t *n, unsigned *damaged,
                struct err *e) MUST_CHECK;
void record_done(struct record *r); /* gives the lock back */

/* Its keeper lives: it runs, or is about to. */
bool record_alive(const struct record *r);
/* Read the state anew. -ENOENT: it was removed meanwhile. */
int record_refresh(struct record *r, struct err *e) MUST_CHECK;
/* With the lock: become the one whose life record_alive() tells, by the descriptor *alive (owned by
 * the caller) and its copies. -EBUSY: another one lives. */
int record_hold(struct record *r, int *alive, struct err *e) MUST_CHECK;

/* Write r->state (see above for who may), or, with the lock, r->spec. */
int record_save(struct record *r, struct err *e) MUST_CHECK;
int record_update(struct record *r, struct err *e) MUST_CHECK;
/* With the lock. -EEXIST as record_create(). */
int record_rename(struct record *r, const char *name, struct err *e) MUST_CHECK;
/* With the lock, not running: its folder and its name, so that no moment shows half of one. */
int record_remove(struct record *r, struct err *e) MUST_CHECK;
/* Give the lock back, or take it and read the state anew, once a keeper that wrote down the end is
 * gone. -ENOENT: it was removed meanwhile. */
void record_unlock(struct record *r);
int record_relock(struct record *r, struct err *e) MUST_CHECK;

/* What ROOT stands for: owned by the caller; NULL = no memory. */
char *record_root(const char *root);

const char *record_status_name(enum record_status s);
const char *record_health_name(enum record_health h);
/* Letters, digits, '_', '.', '-', not first; -EINVAL with a sentence. */
int record_check_name(const char *name, struct err *e) MUST_CHECK;

#endif
