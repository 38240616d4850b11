/* test/process/box.h - a container of the tests: a busybox root in a folder of its own, docker's
 * defaults, output caught. What exists on the host is counted before and after. */
#ifndef TEST_PROCESS_BOX_H
#define TEST_PROCESS_BOX_H

#include <stdbool.h>

#include "process/defaults.h"
#include "process/filter.h"
#include "process/process.h"

enum { BOX_OUT_MAX = 16384, BOX_MOUNTS_MAX = 32 };

struct box_census { /* of what a container could leave behind */
    unsigned mounts, groups, children, fds;
};

struct box {
    struct box_census before;
    char base[64];          /* temporary folder */
    char dir[96], root[96]; /* the container's folder; a folder with busybox in it */
    struct process_conf conf;
    struct process_mount mounts[BOX_MOUNTS_MAX];
    struct filter filter;
    struct process_maps maps;
    char id[32];
    const char *argv[8];
    /* after box_start() */
    struct process_state st;
    struct process_child child;
    int out_fd;
    /* after box_end() */
    char out[BOX_OUT_MAX];
    int status; /* of wait(2) */
    struct err e;
};

/* A setup and teardown of cmocka; *state is a struct box. Teardown asserts that nothing is left. */
int box_setup(void **state);
int box_teardown(void **state);

/* Create with output to a pipe. Returns what process_create() does. */
int box_create(struct box *b, const char *const *argv);
int box_start(struct box *b, const char *const *argv); /* create and start; asserts success */
/* Wait for its end with all its output, and delete it. */
void box_end(struct box *b);
/* `sh -c script`, start to end: its output. */
const char *box_sh(struct box *b, const char *script);
/* A process in a running box: its output; *status of wait(2). */
const char *box_exec(struct box *b, const struct process_proc *like, const char *script,
                     int *status);
/* True when this process may do what the tests need; else prints why not. */
bool box_possible(void);

#endif
