#include "cmd/csv.h"

#include <errno.h>
#include <string.h>

/* A quoted field; `s` stands behind its first quote. */
static char *quoted(char *s, char **rest, struct err *e)
{
    char *field = s, *to = s;

    for (; *s && (*s != '"' || s[1] == '"'); s++) {
        if (*s == '"')
            s++;
        *to++ = *s;
    }
    if (*s != '"' || (s[1] && s[1] != ',')) {
        err_set(e, -EINVAL, "a quote is out of place");
        return NULL;
    }
    *rest = s[1] ? s + 2 : NULL;
    *to = '\0';
    return field;
}

char *csv_next(char **text, struct err *e)
{
    char *s = *text;

    if (!s)
        return NULL;
    if (*s == '"')
        return quoted(s + 1, text, e);
    char *comma = strchr(s, ',');
    *text = comma ? comma + 1 : NULL;
    if (comma)
        *comma = '\0';
    if (strchr(s, '"')) {
        err_set(e, -EINVAL, "a quote is out of place");
        return NULL;
    }
    return s;
}
