#include "base/strv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int strv_take(struct strv *s, char *str)
{
    if (!str)
        return errno ? -errno : -ENOMEM;
    if (s->n + 1 >= s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 16;
        char **v = reallocarray(s->v, cap, sizeof(*v));

        if (!v) {
            free(str);
            return -ENOMEM;
        }
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = str;
    s->v[s->n] = NULL;
    return 0;
}

int strv_add(struct strv *s, const char *str)
{
    return strv_take(s, strdup(str));
}

int strv_addf(struct strv *s, const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    int n = vasprintf(&text, fmt, ap);
    va_end(ap);
    return n < 0 ? -ENOMEM : strv_take(s, text);
}

int strv_add_all(struct strv *s, char *const *v)
{
    int r = 0;

    for (size_t i = 0; v && v[i] && r == 0; i++)
        r = strv_add(s, v[i]);
    return r;
}

void strv_done(struct strv *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i]);
    free(s->v);
    *s = (struct strv){0};
}
