#include "cmd/when.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "cmd/human.h"

enum { SECOND = 1000000000 };

/* Digits behind a point, as ns. Returns what follows them. */
static const char *fraction(const char *p, int64_t *ns)
{
    int64_t unit = SECOND;

    *ns = 0;
    if (*p != '.')
        return p;
    for (p++; *p >= '0' && *p <= '9'; p++) {
        unit /= 10;
        *ns += unit * (*p - '0');
    }
    return p;
}

static int since_1970(const char *text, int64_t *ns)
{
    char *end = NULL;
    int64_t part = 0;

    errno = 0;
    long long s = strtoll(text, &end, 10);
    if (errno || end == text || s < 0 || s > INT64_MAX / SECOND - 1 || *fraction(end, &part))
        return -EINVAL;
    *ns = (int64_t)s * SECOND + part;
    return 0;
}

/* "1h30m", "90s", "250ms". */
static int duration(const char *text, int64_t *ns)
{
    static const struct {
        const char *name;
        double ns;
    } units[] = {{"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"h", 3600e9}, {"m", 60e9}, {"s", 1e9}};
    double sum = 0;
    const char *p = text;

    while (*p) {
        char *end = NULL;
        double v = *p >= '0' && *p <= '9' ? strtod(p, &end) : -1;
        unsigned u = 0;

        if (v < 0 || end == p)
            return -EINVAL;
        while (u < ARRAY_LEN(units) && strncmp(end, units[u].name, strlen(units[u].name)) != 0)
            u++;
        if (u == ARRAY_LEN(units))
            return -EINVAL;
        sum += v * units[u].ns;
        p = end + strlen(units[u].name);
    }
    if (p == text || sum > 9e18)
        return -EINVAL;
    *ns = (int64_t)sum;
    return 0;
}

/* What stands behind the seconds: nothing, Z, or +hh:mm; false: something else. */
static bool zone(const char *p, bool *local, int64_t *offset_s)
{
    int h, m, used = 0;

    *local = *p == '\0';
    *offset_s = 0;
    if (*local || strcmp(p, "Z") == 0)
        return true;
    if ((*p != '+' && *p != '-') || sscanf(p + 1, "%2d:%2d%n", &h, &m, &used) != 2 || p[1 + used])
        return false;
    *offset_s = (*p == '+' ? 1 : -1) * (h * 3600 + m * 60);
    return true;
}

static int date(const char *text, int64_t *ns)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"};

    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        struct tm tm = {.tm_isdst = -1};
        const char *p = strptime(text, forms[i], &tm);
        int64_t part = 0, offset = 0;
        bool local = true;

        if (!p)
            continue;
        if (i == 0)
            p = fraction(p, &part);
        if (!zone(p, &local, &offset))
            continue;
        time_t t = local ? mktime(&tm) : timegm(&tm);
        *ns = ((int64_t)t - offset) * SECOND + part;
        return 0;
    }
    return -EINVAL;
}

int when_parse(const char *text, int64_t now_ns, int64_t *ns, struct err *e)
{
    int64_t ago;

    if (since_1970(text, ns) == 0 || date(text, ns) == 0)
        return 0;
    if (duration(text, &ago) == 0) {
        *ns = now_ns - ago;
        return 0;
    }
    return err_set(e, -EINVAL, "'%s' is no time: 2026-11-21T17:40:11Z, 1732210811, 10m", text);
}
