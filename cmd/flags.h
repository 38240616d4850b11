/* cmd/flags.h - groups of flags that several verbs have, and what reads their values. Their words
 * and the syntax of their values are docker's. Each group's target is a struct spec but those of
 * cmd/specflags.h. */
#ifndef CMD_FLAGS_H
#define CMD_FLAGS_H

#include "cmd/flag.h"

extern const struct flag_group flags_process; /* what runs: -e -w -u -i -t --label ... */
extern const struct flag_group flags_limits;  /* -m --cpus --pids-limit --ulimit ... */
extern const struct flag_group flags_storage; /* -v --mount --tmpfs --device ... */
extern const struct flag_group flags_net;     /* --network -p --dns ... */
extern const struct flag_group flags_life;    /* --restart --health-* --stop-* --log-* ... */
extern const struct flag_group flags_machine; /* --isolation --engine --kernel ... */
extern const struct flag_group flags_power;   /* --cap-add --privileged --pid ... */

/* Readers for FLAG_AT(): the target is the field. All: -EINVAL and, where noted, more. */
int flags_env(void *strv, const char *value, struct err *e);     /* "K=V"; "K" as it is here */
int flags_env_file(void *strv, const char *path, struct err *e); /* fopen(3)'s errors */
int flags_label(void *strv, const char *value, struct err *e);   /* "K[=V]" */
int flags_label_file(void *strv, const char *path, struct err *e);
int flags_cpus(void *int64, const char *value, struct err *e);   /* "1.5": billionths */
int flags_swap(void *int64, const char *value, struct err *e);   /* a size or -1 */
int flags_pids(void *int64, const char *value, struct err *e);   /* 0 and -1: -1 */
int flags_size(void *int64, const char *value, struct err *e);   /* bytes, above 0 */
int flags_signal(void *text, const char *value, struct err *e);  /* char *: "SIGTERM", "15" */
int flags_restart(void *spec, const char *value, struct err *e); /* "on-failure:3" */
int flags_volume(void *spec, const char *value, struct err *e);  /* as -v */
int flags_keys(void *text, const char *value, struct err *e);    /* "ctrl-p,ctrl-q" */

int flags_code_cache(void *uint64, const char *value, struct err *e); /* as parse_code_cache() */
int flags_console(void *yes, const char *value, struct err *e);       /* bool: "stdio", "none" */

/* Names without CAP_, NULL-terminated. */
extern const char *const flags_capabilities[];

/* Put a copy in a char * field, freeing what was there. -ENOMEM. */
int flags_copy(void *text, const char *value, struct err *e);

#endif
