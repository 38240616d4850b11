/* base/strv.h - a growing list of strings, ended by a NULL as execve(2) wants it. */
#ifndef BASE_STRV_H
#define BASE_STRV_H

#include <stddef.h>

#include "base/err.h"

struct strv { /* owned strings; {0} = empty, then v is NULL */
    char **v;
    size_t n, cap;
};

/* Takes `str`, also on failure; NULL stands for an allocation that failed, with errno. Errors:
 * -ENOMEM. */
int strv_take(struct strv *s, char *str) MUST_CHECK;
int strv_add(struct strv *s, const char *str) MUST_CHECK; /* a copy */
__attribute__((format(printf, 2, 3))) int strv_addf(struct strv *s, const char *fmt,
                                                    ...) MUST_CHECK;
/* A copy of each of a NULL-terminated list, which may be NULL. */
int strv_add_all(struct strv *s, char *const *v) MUST_CHECK;
void strv_done(struct strv *s);

#endif
