/* cmd/tmplnode.h - a template as parsed: between tmplparse.c, tmpleval.c and tmplfunc.c. All of it
 * lives as long as its struct tmpl. */
#ifndef CMD_TMPLNODE_H
#define CMD_TMPLNODE_H

#include <stdbool.h>

#include "cmd/tmpl.h"

enum tmpl_arg_kind { ARG_DOT, ARG_VAR, ARG_VALUE, ARG_FUNC, ARG_PIPE };

struct tmpl_name { /* .Field of a chain */
    const char *text;
    struct tmpl_name *next;
};

struct tmpl_arg {
    enum tmpl_arg_kind kind;
    const char *name;        /* ARG_VAR without $ ("" = $ itself), ARG_FUNC */
    json_t *value;           /* ARG_VALUE; owned */
    struct tmpl_pipe *pipe;  /* ARG_PIPE */
    struct tmpl_name *chain; /* fields taken of it */
    struct tmpl_arg *next;
};

struct tmpl_cmd { /* a function or a value, and arguments */
    struct tmpl_arg *args;
    struct tmpl_cmd *next;
};

struct tmpl_pipe { /* a | b | c, perhaps into variables */
    const char *var[2];
    unsigned n_vars;
    bool assign; /* = and not := */
    struct tmpl_cmd *cmds;
};

enum tmpl_stmt_kind {
    STMT_TEXT,
    STMT_PRINT,
    STMT_IF,
    STMT_RANGE,
    STMT_WITH,
    STMT_BREAK,
    STMT_CONTINUE,
};

struct tmpl_stmt {
    enum tmpl_stmt_kind kind;
    const char *text; /* STMT_TEXT */
    size_t len;
    struct tmpl_pipe *pipe;
    struct tmpl_stmt *body, *otherwise, *next;
};

struct tmpl_block; /* one allocation */

struct tmpl {
    char *text; /* owned */
    struct tmpl_stmt *body;
    struct tmpl_block *blocks; /* owned */
};

enum { TMPL_ARGS_MAX = 32 };

/* Call the function of this name. Returns a new reference, or NULL with *e. */
json_t *tmplfunc_call(const char *name, json_t *const *args, unsigned n, struct err *e);
bool tmplfunc_exists(const char *name);
/* Go's truth: neither false, 0, empty nor null. */
bool tmplfunc_truth(const json_t *v);
/* Of a label "K=V" among v's Labels, which are an object or "K=V,K=V". A new reference. */
json_t *tmplfunc_label(const json_t *v, const char *name);

#endif
