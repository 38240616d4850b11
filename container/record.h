/* container/record.h - a container as it stands on disk, whether it runs or not: what outlives
 * processes and reboots.
 *
 * ROOT/containers/ID/, mode 0700, ROOT being the image store's (image/store.h):
 *   config.json   struct spec, written once (record_update() replaces it)
 *   state.json    struct record_state, replaced whole by rename(2)
 *   lock          flock(2): whoever changes the container's life holds it (RECORD_CHANGE), for
 * moments alive         flock(2), held by the keeper as long as it lives: who can have it knows
 * that the container does not run, whatever state.json says log           what it wrote
 * (container/ctrlog.h);  log.1 ... older ones upper/, work/ or disk.img     its writable layer
 * ROOT/containers/names/NAME -> ID  a symbolic link: symlink(2) makes a name unique
 *
 * A record is made in ROOT/containers/tmp-..., and renamed when it is whole. Ids are 64 hexadecimal
 * digits; the first RECORD_SHORT name the folder of its running processes (container/rundir.h).
 *
 * The truth: record_load() never says "running" of a container whose keeper is gone. It then finds
 * what the keeper would have cleaned (processes, cgroup, network, mounts: record_recover()), does
 * it, and writes down that the container ended (exit code 137, `error` says that its keeper was
 * killed or the host restarted). */
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

struct record_state { /* plain data; times in ns since 1970, 0 = never */
    enum record_status status;
    pid_t keeper, pid;  /* pid: the container's process (process class), the machine's (VM) */
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
    struct record_probe probe[RECORD_HEALTH_LOG]; /* newest last; end_ns 0 = unused */
    struct record_address address[4];
    unsigned n_addresses;
    struct spec_port port[64]; /* as published, ports filled in; host_ip owned by nobody: NULL */
    unsigned n_ports;
    char cgroup[256]; /* as cgroup_open() wants it; "" = none */
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
/* All, newest first; *list owned by the caller: record_done() each, free(). A damaged one is left
 * out and counted in *damaged (may be NULL). */
int record_list(const char *root, struct record **list, size_t *n, unsigned *damaged,
                struct err *e) MUST_CHECK;
void record_done(struct record *r); /* gives the lock back */

/* With the lock: write r->state, or r->spec. */
int record_save(struct record *r, struct err *e) MUST_CHECK;
int record_update(struct record *r, struct err *e) MUST_CHECK;
int record_rename(struct record *r, const char *name, struct err *e) MUST_CHECK;
/* With the lock, not running: its folder and its name, so that no moment shows half of one. */
int record_remove(struct record *r, struct err *e) MUST_CHECK;
/* Give the lock back, or take it and read the state anew. -ENOENT: it was removed meanwhile. */
void record_unlock(struct record *r);
int record_relock(struct record *r, struct err *e) MUST_CHECK;

const char *record_status_name(enum record_status s);
const char *record_health_name(enum record_health h);
/* Letters, digits, '_', '.', '-', not first; -EINVAL with a sentence. */
int record_check_name(const char *name, struct err *e) MUST_CHECK;

#endif
