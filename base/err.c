#include "base/err.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Append ": text" to what e->msg holds; what does not fit is cut, on purpose. */
static void append(struct err *e, const char *text)
{
    size_t n = strlen(e->msg);

    snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", text);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    assert(code < 0);
    if (!e)
        return code;
    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    return code;
}

int err_errno(struct err *e, int code, const char *fmt, ...)
{
    va_list ap;

    assert(code < 0);
    if (!e)
        return code;
    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    append(e, strerror(-code));
    return code;
}

int err_wrap(struct err *e, int code, const char *fmt, ...)
{
    char inner[ERR_MSG_MAX];
    va_list ap;

    assert(code < 0);
    if (!e)
        return code;
    memcpy(inner, e->msg, sizeof(inner));
    e->code = code;
    va_start(ap, fmt);
    vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
    va_end(ap);
    append(e, inner);
    return code;
}

void bug_at(const char *file, int line, const char *what)
{
    fprintf(stderr, "kiln: bug at %s:%d: %s\n", file, line, what);
    abort();
}
