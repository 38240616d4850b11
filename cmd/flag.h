/* cmd/flag.h - the command line of a verb as a table: parsed, explained by --help and completed by
 * shells from the same entries. Reads words as docker does: flags may stand between operands unless
 * the verb says that its flags end at the first; `--` ends them; -it is -i -t; -m1g, -m=1g, -m 1g,
 * --memory=1g, --memory 1g are one; a switch takes =true or =false. Thread: the caller's.
 *
 *   struct ps_args { bool all; struct strv filter; };
 *   static const struct flag ps_flags[] = {
 *       {"all", 'a', NULL, "those that do not run too", FLAG_BOOL(struct ps_args, all)},
 *       {"filter", 'f', "KEY=VALUE", "only these", FLAG_WORDS(struct ps_args, filter)},
 *       {0}};
 *   static const struct flag_group ps_group = {NULL, ps_flags};
 *   const struct command command_ps = {.name = "ps", .run = cmd_ps, .groups = {{&ps_group}}, ...};
 *
 *   int at = flag_parse(&command_ps, argc, argv, &args, &e);
 *   if (at <= 0)
 *       return flag_stop(&command_ps, at, &e);
 *   ... operands are argv[at] to argv[argc - 1] ... */
#ifndef CMD_FLAG_H
#define CMD_FLAG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/strv.h"

enum flag_type {
    FLAG_CALL,          /* set() does it */
    FLAG_TYPE_BOOL,     /* bool; a switch */
    FLAG_TYPE_TEXT,     /* const char *, borrowed from argv */
    FLAG_TYPE_COPY,     /* char *, owned; what was there is freed */
    FLAG_TYPE_WORDS,    /* struct strv; the flag may be given again */
    FLAG_TYPE_UINT,     /* unsigned, min..max */
    FLAG_TYPE_INT,      /* int64_t, min..max */
    FLAG_TYPE_SIZE,     /* uint64_t or int64_t, bytes, min..max; as parse_size() */
    FLAG_TYPE_DURATION, /* uint64_t or int64_t, ns, min..max; as parse_duration() */
};

/* The value as typed; "true" or "false" for a switch. The message need not name the flag: the
 * parser puts it in front. */
typedef int (*flag_fn)(void *target, const char *value, struct err *e);

struct flag {         /* the last of a table is {0} */
    const char *name; /* without dashes */
    char letter;      /* 0 = none */
    const char *meta; /* what the value is called, such as "SIZE"; NULL = a switch */
    const char *help; /* one line, no full stop; NULL = not shown (another spelling) */
    enum flag_type type;
    size_t offset; /* of the field in the group's target */
    flag_fn set;
    int64_t min, max;   /* of a number; max 0 = no bound */
    const char *values; /* for completion: words, or one of the kinds of cmd/complete.h: "@file" */
};

/* What stands behind the help text in an entry. */
#define FLAG_SET(fn) FLAG_CALL, 0, fn
#define FLAG_AT(s, field, fn) FLAG_CALL, offsetof(s, field), fn /* fn gets the field */
#define FLAG_BOOL(s, field) FLAG_TYPE_BOOL, offsetof(s, field), NULL
#define FLAG_TEXT(s, field) FLAG_TYPE_TEXT, offsetof(s, field), NULL
#define FLAG_COPY(s, field) FLAG_TYPE_COPY, offsetof(s, field), NULL
#define FLAG_WORDS(s, field) FLAG_TYPE_WORDS, offsetof(s, field), NULL
#define FLAG_UINT(s, field, min, max) FLAG_TYPE_UINT, offsetof(s, field), NULL, min, max
#define FLAG_INT(s, field, min, max) FLAG_TYPE_INT, offsetof(s, field), NULL, min, max
#define FLAG_SIZE(s, field) FLAG_TYPE_SIZE, offsetof(s, field), NULL
#define FLAG_DURATION(s, field) FLAG_TYPE_DURATION, offsetof(s, field), NULL

struct flag_group {    /* a table that several verbs may have */
    const char *title; /* heads it in --help; NULL = "Flags" */
    const struct flag *flags;
};

/* A group in a verb: its target lies `offset` bytes into the verb's arguments, or where the pointer
 * there points. */
struct flag_use {
    const struct flag_group *group;
    size_t offset;
    bool indirect;
};

enum { FLAG_GROUPS_MAX = 12, FLAG_MANY = -1 };

struct command {
    const char *name;     /* "run", "volume create" */
    const char *operands; /* as in the usage line: "IMAGE [COMMAND [ARGUMENT...]]" */
    const char *summary;  /* one line, no full stop: kiln --help, and the completion */
    const char *about;    /* a paragraph below the usage line; NULL = the summary */
    const char *after;    /* below the flags, such as exit statuses; NULL = nothing */
    struct flag_use groups[FLAG_GROUPS_MAX];
    int min_operands, max_operands;    /* FLAG_MANY = no limit */
    bool flags_first;                  /* flags end at the first operand */
    const char *values;                /* kinds of operands, for completion: "@image @command"; the
                                        * last one repeats */
    int (*run)(int argc, char **argv); /* argv[0] is the last word of the name */
    const struct command *const *sub;  /* NULL-terminated: this one's verbs; NULL = it has none */
};

/* Fill the targets. Returns the index of the first operand (argv is reordered: operands are
 * argv[index] to argv[argc - 1]), 0 when --help was asked for and printed, -EINVAL with a sentence,
 * or what a set function returned. */
int flag_parse(const struct command *c, int argc, char **argv, void *args,
               struct err *e) MUST_CHECK;
/* How a verb ends that flag_parse() gave `at` <= 0: the sentence on stderr, the exit status. */
int flag_stop(const struct command *c, int at, const struct err *e);
/* A verb of verbs: runs the one named by argv[1]. Returns its exit status. */
int flag_dispatch(const struct command *c, int argc, char **argv);

void flag_help(FILE *out, const struct command *c);
/* The flag of this name (NULL = by letter) in any group of the verb; NULL = it has none. */
const struct flag *flag_find(const struct command *c, const char *name, size_t len, char letter,
                             const struct flag_use **use);

#endif
