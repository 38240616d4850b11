#include "cmd/human.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cleanup.h"

static const char *scaled(uint64_t bytes, double unit, const char *const names[], unsigned n,
                          char out[HUMAN_MAX])
{
    double v = (double)bytes;
    unsigned i = 0;

    while (v >= unit && i + 1 < n) {
        v /= unit;
        i++;
    }
    snprintf(out, HUMAN_MAX, "%.4g%s", v, names[i]);
    return out;
}

const char *human_size(uint64_t bytes, char out[HUMAN_MAX])
{
    static const char *const names[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};

    return scaled(bytes, 1000, names, ARRAY_LEN(names), out);
}

const char *human_mem(uint64_t bytes, char out[HUMAN_MAX])
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};

    return scaled(bytes, 1024, names, ARRAY_LEN(names), out);
}

const char *human_duration(int64_t ns, char out[HUMAN_MAX])
{
    enum { MINUTE = 60, HOUR = 3600, DAY = 86400 };
    static const struct {
        int64_t below, unit;
        const char *word;
    } steps[] = {
        {MINUTE, 1, "seconds"},          {HOUR, MINUTE, "minutes"},
        {48 * HOUR, HOUR, "hours"},      {14 * DAY, DAY, "days"},
        {60 * DAY, 7 * DAY, "weeks"},    {730 * DAY, 30 * DAY, "months"},
        {INT64_MAX, 365 * DAY, "years"},
    };
    int64_t s = ns / 1000000000;
    const char *fixed = s < 1                           ? "Less than a second"
                        : s == 1                        ? "1 second"
                        : s >= MINUTE && s < 2 * MINUTE ? "About a minute"
                        : s >= HOUR && s < 2 * HOUR     ? "About an hour"
                                                        : NULL;
    unsigned i = 0;

    if (fixed) {
        snprintf(out, HUMAN_MAX, "%s", fixed);
        return out;
    }
    while (s >= steps[i].below)
        i++;
    snprintf(out, HUMAN_MAX, "%lld %s", (long long)(s / steps[i].unit), steps[i].word);
    return out;
}

const char *human_ago(int64_t when_ns, int64_t now_ns, char out[HUMAN_MAX])
{
    human_duration(now_ns - when_ns, out);
    strncat(out, " ago", HUMAN_MAX - strlen(out) - 1);
    return out;
}

const char *human_time(int64_t when_ns, char out[HUMAN_MAX])
{
    time_t at = (time_t)(when_ns / 1000000000);
    struct tm tm;

    if (!localtime_r(&at, &tm) || !strftime(out, HUMAN_MAX, "%Y-%m-%d %H:%M:%S %z %Z", &tm))
        out[0] = '\0';
    return out;
}

const char *human_id(const char *id, char out[HUMAN_MAX])
{
    const char *colon = strchr(id, ':');

    snprintf(out, HUMAN_MAX, "%.*s", HUMAN_ID, colon ? colon + 1 : id);
    return out;
}

int64_t human_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
