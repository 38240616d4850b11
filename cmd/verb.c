#include "cmd/verb.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cpu/cpu.h"

void say(const char *fmt, ...)
{
    va_list ap;

    fputs("kiln: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

int say_err(const struct err *e, int status)
{
    say("%s", e->msg[0] ? e->msg : strerror(-e->code));
    return status;
}

int say_usage(const char *verb, int status, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "kiln %s: ", verb);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\nSee 'kiln %s --help'.\n", verb);
    return status;
}

int parse_size(const char *text, uint64_t *bytes, struct err *e)
{
    static const char units[] = "kmgt";
    char *end;

    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || errno)
        return err_set(e, -EINVAL, "'%s' is not a size: give bytes, or a number with k, m or g",
                       text);
    unsigned shift = 0;
    const char *u = *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
    if (u) {
        shift = 10 * (unsigned)(u - units + 1);
        end++;
        if (strcasecmp(end, "b") == 0 || strcasecmp(end, "ib") == 0)
            end += strlen(end);
    } else if (strcasecmp(end, "b") == 0) {
        end++;
    }
    if (*end || (shift && v > UINT64_MAX >> shift))
        return err_set(e, -EINVAL, "'%s' is not a size: give bytes, or a number with k, m or g",
                       text);
    *bytes = v << shift;
    return 0;
}

int parse_code_cache(const char *text, uint64_t *bytes, struct err *e)
{
    uint64_t n;
    int r = parse_size(text, &n, e);

    if (r < 0)
        return r;
    if (n < CPU_CODE_CACHE_MIN || n > CPU_CODE_CACHE_MAX)
        return err_set(e, -EINVAL, "'%s' is out of range: %d MiB to %d MiB", text,
                       CPU_CODE_CACHE_MIN >> 20, CPU_CODE_CACHE_MAX >> 20);
    *bytes = n;
    return 0;
}

int parse_uint(const char *what, const char *text, uint64_t min, uint64_t max, uint64_t *v,
               struct err *e)
{
    char *end;

    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)text[0]) || *end || errno || n < min || n > max)
        return err_set(e, -EINVAL, "%s '%s' is not a number from %llu to %llu", what, text,
                       (unsigned long long)min, (unsigned long long)max);
    *v = n;
    return 0;
}

int parse_duration(const char *text, uint64_t *ns, struct err *e)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"", 1e9}, {"s", 1e9}, {"ms", 1e6}, {"m", 60e9}, {"h", 3600e9}};
    char *end;
    double v = strtod(text, &end);

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        /* Written so that NaN fails too. */
        if (isdigit((unsigned char)text[0]) && strcmp(end, units[i].unit) == 0 && v >= 0 &&
            v * units[i].ns < 9e18) {
            *ns = (uint64_t)(v * units[i].ns);
            return 0;
        }
    }
    return err_set(e, -EINVAL, "'%s' is not a duration: give seconds, or a number with ms, s, m, h",
                   text);
}
