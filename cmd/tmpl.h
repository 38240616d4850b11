/* cmd/tmpl.h - the part of Go's text/template that people give to docker's --format, over JSON
 * values: fields, pipelines, if, range, with, variables, comparison, and docker's functions json,
 * join, split, upper, lower, title, pad, truncate. Sources: pkg.go.dev/text/template;
 * docs.docker.com "Format command and log output". Templates are bounded in size, depth and steps.
 * Thread: the caller's. */
#ifndef CMD_TMPL_H
#define CMD_TMPL_H

#include <jansson.h>
#include <stdio.h>

#include "base/err.h"

enum {
    TMPL_TEXT_MAX = 64 * 1024, /* bytes of a template */
    TMPL_DEPTH_MAX = 48,       /* blocks and parentheses in one another */
    TMPL_STEPS_MAX = 2000000,  /* evaluations of one execution */
    TMPL_OUTPUT_MAX = 64 << 20 /* bytes of one execution */
};

struct tmpl;

/* -EINVAL: the sentence says what is wrong and where. */
int tmpl_new(const char *text, struct tmpl **ret, struct err *e) MUST_CHECK;
void tmpl_free(struct tmpl *t);
/* A field of `dot` that it has not is an error (somebody mistyped it); one of a value inside it is
 * "<no value>". -EINVAL, -E2BIG; what was written so far stays written. */
int tmpl_run(const struct tmpl *t, json_t *dot, FILE *out, struct err *e) MUST_CHECK;

/* As {{.}} prints it. */
void tmpl_print(FILE *out, const json_t *v);

#endif
