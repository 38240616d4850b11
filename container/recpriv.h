/* container/recpriv.h - what the files of a record share. See container/record.h. */
#ifndef CONTAINER_RECPRIV_H
#define CONTAINER_RECPRIV_H

#include <jansson.h>

#include "container/record.h"

/* state.json. json: owned by the caller, NULL = no memory. What is missing or wrong reads as 0. */
json_t *recstate_to_json(const struct record_state *s);
int recstate_from_json(const json_t *j, struct record_state *s, struct err *e) MUST_CHECK;

/* Two words that may be a name; `n` chooses among all. */
void recname_make(uint64_t n, char out[RECORD_NAME_MAX + 1]);

/* With the lock, the state just read, which speaks of a keeper that is gone: clean up and write
 * down what became of the container. -ENOENT: it was to be removed with its end (--rm), and is. */
int recover_settle(const char *root, struct record *r, struct err *e) MUST_CHECK;

/* The boot that runs now: boot_id of proc_sys_kernel(5); "" = not known. */
void recover_boot_id(char out[37]);
/* Field 22 of proc_pid_stat(5): when `pid` started; 0 = it is gone. */
uint64_t recover_pid_start(pid_t pid);

#endif
