/* cmd/verb.h - one verb a file; what they share. Only cmd/ prints and chooses exit statuses. */
#ifndef CMD_VERB_H
#define CMD_VERB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

struct command;
struct vm_report;

/* A verb in the table of main.c: its command (cmd/flag.h), which says everything unless run is
 * given here; or, for verbs that read their flags themselves, the rest. */
struct verb {
    const char *name, *args, *summary; /* summary alone: a heading */
    int (*run)(int argc, char **argv); /* argv[0] is the verb; returns the exit status */
    const struct command *command;
};

/* main.c */
extern const struct verb verbs_table[];
extern const size_t verbs_n;

/* One a line, of verbs in files named after them, with "verb" behind where another file has the
 * name.
 */
extern const struct command command_attach;
extern const struct command command_boot;
extern const struct command command_check;
extern const struct command command_commit;
extern const struct command command_cp;
extern const struct command command_diff;
extern const struct command command_events;
extern const struct command command_exec;
extern const struct command command_fork;
extern const struct command command_images;
extern const struct command command_import;
extern const struct command command_inspect;
extern const struct command command_kill;
extern const struct command command_logs;
extern const struct command command_network;
extern const struct command command_pause;
extern const struct command command_port;
extern const struct command command_prune;
extern const struct command command_ps;
extern const struct command command_pull;
extern const struct command command_rename;
extern const struct command command_restart;
extern const struct command command_restore;
extern const struct command command_rm;
extern const struct command command_rmi;
extern const struct command command_snapshot;
extern const struct command command_start;
extern const struct command command_stats;
extern const struct command command_stop;
extern const struct command command_template;
extern const struct command command_top;
extern const struct command command_unpause;
extern const struct command command_update;
extern const struct command command_volume;
extern const struct command command_wait;

/* Table in main.c. */
int cmd_boot(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_fork(int argc, char **argv);
int cmd_images(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_prune(int argc, char **argv);
int cmd_ps(int argc, char **argv);
int cmd_pull(int argc, char **argv);
int cmd_restore(int argc, char **argv);
int cmd_rmi(int argc, char **argv);
int cmd_run(int argc, char **argv);

enum { EXIT_KILN = 125 }; /* kiln itself failed, as docker has it */

/* Before much is removed: is it wanted? Asked on a terminal only, and not with `force`. */
bool confirmed(bool force, const char *what);
/* Texts of images, registries and guests may hold what steers a terminal: control characters but
 * newline and tab are shown as question marks. */
void say_plain(FILE *out, const char *text);
/* "kiln: sentence" on stderr, plain as above. */
__attribute__((format(printf, 1, 2))) void say(const char *fmt, ...);
/* say(e->msg), returns `status`. */
int say_err(const struct err *e, int status);
/* Wrong usage: the sentence and a pointer to --help. Returns `status`. */
__attribute__((format(printf, 3, 4))) int say_usage(const char *verb, int status, const char *fmt,
                                                    ...);

/* What a machine's engine counted, on stderr. */
void print_stats(const struct vm_report *r);

/* "64m", "1.5g", "512MiB", "1073741824": bytes. -EINVAL with a sentence. */
int parse_size(const char *text, uint64_t *bytes, struct err *e) MUST_CHECK;
/* A size that --code-cache takes. -EINVAL. */
int parse_code_cache(const char *text, uint64_t *bytes, struct err *e) MUST_CHECK;
/* Decimal, whole text, min..max. -EINVAL with a sentence that names `what`. */
int parse_uint(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *v,
               struct err *e) MUST_CHECK;
/* Seconds, or with units, as Go has them: "30", "1.5s", "1h30m", "250ms": ns. -EINVAL. */
int parse_duration(const char *text, uint64_t *ns, struct err *e) MUST_CHECK;

#endif
