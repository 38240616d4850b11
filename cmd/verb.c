#include "cmd/verb.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cpu/cpu.h"

void say_plain(FILE *out, const char *text)
{
    for (const char *s = text; *s; s++)
        fputc(((unsigned char)*s < ' ' && *s != '\n' && *s != '\t') || *s == 0x7f ? '?' : *s, out);
}

bool confirmed(bool force, const char *what)
{
    char line[16];

    if (force || !isatty(0))
        return true;
    fprintf(stderr, "%s Go on? [y/N] ", what);
    return fgets(line, sizeof(line), stdin) && (line[0] == 'y' || line[0] == 'Y');
}

void say(const char *fmt, ...)
{
    CLEANUP(mem) char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    fputs("kiln: ", stderr);
    say_plain(stderr, text ? text : fmt);
    fputc('\n', stderr);
}

int say_err(const struct err *e, int status)
{
    say("%s", e->msg[0] ? e->msg : strerror(-e->code));
    return status;
}

int say_usage(const char *verb, int status, const char *fmt, ...)
{
    CLEANUP(mem) char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    fprintf(stderr, "kiln %s: ", verb);
    say_plain(stderr, text ? text : fmt);
    fprintf(stderr, "\nSee 'kiln %s --help'.\n", verb);
    return status;
}

/* As docker reads sizes: digits, perhaps a fraction, perhaps k, m, g, t, p in powers of 1024,
 * perhaps i, perhaps b. */
int parse_size(const char *text, uint64_t *bytes, struct err *e)
{
    static const char units[] = "kmgtp";
    char *end;

    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    bool good = isdigit((unsigned char)text[0]) && !errno;
    double fraction = 0;
    if (good && *end == '.' && isdigit((unsigned char)end[1]))
        fraction = strtod(end, &end);
    const char *u = good && *end ? strchr(units, tolower((unsigned char)*end)) : NULL;
    unsigned shift = u ? 10 * (unsigned)(u - units + 1) : 0;
    end += u != NULL;
    if (good && u && tolower((unsigned char)*end) == 'i')
        end++;
    if (good && tolower((unsigned char)*end) == 'b')
        end++;
    if (!good || *end || fraction >= 1 || v > (UINT64_MAX >> shift) - 1)
        return err_set(e, -EINVAL, "'%s' is not a size: give bytes, or a number with k, m or g",
                       text);
    *bytes = (v << shift) + (uint64_t)(fraction * (double)(1ULL << shift));
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

/* One number and its unit; *text is moved behind it. */
static bool duration_part(const char **text, bool first, double *ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = {{"ns", 1},   {"us", 1e3}, {"\u00b5s", 1e3}, {"\u03bcs", 1e3},
                 {"ms", 1e6}, {"s", 1e9},  {"m", 60e9},      {"h", 3600e9}};
    char *end;
    double v = strtod(*text, &end);

    if (!isdigit((unsigned char)(*text)[0]) || strpbrk(*text, "xXpP"))
        return false;
    if (first && !*end) { /* kiln's own: seconds */
        *ns += v * 1e9;
        *text = end;
        return true;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        size_t n = strlen(units[i].unit);

        if (strncmp(end, units[i].unit, n) == 0 && (!end[n] || isdigit((unsigned char)end[n]))) {
            *ns += v * units[i].ns;
            *text = end + n;
            return true;
        }
    }
    return false;
}

int parse_duration(const char *text, uint64_t *ns, struct err *e)
{
    const char *s = text;
    double sum = 0;
    bool good = true;

    do
        good = duration_part(&s, s == text, &sum);
    while (good && *s);
    if (!good || !(sum < 9e18)) /* NaN fails too */
        return err_set(e, -EINVAL,
                       "'%s' is not a duration: give seconds, or numbers with ms, s, m, h", text);
    *ns = (uint64_t)sum;
    return 0;
}
