/* cmd/filter.h - --filter KEY=VALUE, given any number of times, as docker reads it: values of one
 * key are alternatives, different keys must all hold; labels must all hold. */
#ifndef CMD_FILTER_H
#define CMD_FILTER_H

#include <stdbool.h>

#include "base/err.h"
#include "base/strv.h"

/* Each word must be KEY=VALUE with a KEY of the list (words with spaces between them). -EINVAL with
 * a sentence that names them. */
int filter_check(const struct strv *filters, const char *keys, struct err *e) MUST_CHECK;
/* Whether the filters have a value for the key at all. */
bool filter_has(const struct strv *filters, const char *key);
/* Whether an entry passes those of `key`: there is none, or `match` holds for one of the values. */
bool filter_any(const struct strv *filters, const char *key,
                bool (*match)(void *ctx, const char *value), void *ctx);
/* The same where the entry has one text: equal to it, or part of it. */
bool filter_equal(const struct strv *filters, const char *key, const char *text);
bool filter_part(const struct strv *filters, const char *key, const char *text);
/* Where it begins with the value. */
bool filter_prefix(const struct strv *filters, const char *key, const char *text);
/* label=K and label=K=V, all of them, among "K=V" words. */
bool filter_labels(const struct strv *filters, char *const *labels);

#endif
