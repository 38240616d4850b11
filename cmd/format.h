/* cmd/format.h - how list verbs print: --format, -q, --no-trunc, as docker does it.
 *
 *   --format table              the verb's own columns with their headings (the default)
 *   --format json               one JSON object a line
 *   --format 'table TEMPLATE'   columns of one's own, headings included; \t divides them
 *   --format TEMPLATE           one line an entry: cmd/tmpl.h
 *
 * An entry is a JSON object whose members have the names docker's templates use (.ID, .Names); its
 * values are texts as they are shown. What only some ask for and costs something to find out should
 * be put in only if format_wants() says so. */
#ifndef CMD_FORMAT_H
#define CMD_FORMAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

struct format_column { /* the last of a table is {0} */
    const char *field, *heading;
    bool hidden; /* not in the verb's own table, only in templates */
};

struct format; /* owned: format_free() */

/* NULL = table. -EINVAL with a sentence. */
int format_new(const char *text, const struct format_column *columns, struct format **ret,
               struct err *e) MUST_CHECK;
void format_free(struct format *f);
/* Whether this field will be printed. */
bool format_wants(const struct format *f, const char *field);
bool format_is_json(const struct format *f);
/* The entries, an array. -EINVAL: a field that is none. */
int format_print(const struct format *f, const json_t *entries, FILE *out,
                 struct err *e) MUST_CHECK;

/* One value that is no list of entries (inspect, version): NULL and "json": indented JSON; else the
 * template and a newline. */
int format_value(const char *text, json_t *value, FILE *out, struct err *e) MUST_CHECK;

/* All a verb has to do once it has its entries: parse `text`, print on stdout; `quiet`: the field
 * `id` of each, a line each. */
int format_list(const char *text, const struct format_column *columns, bool quiet, const char *id,
                const json_t *entries, struct err *e) MUST_CHECK;

#endif
