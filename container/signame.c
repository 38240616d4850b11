#include "container/signame.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int by_name(const char *name)
{
    for (int i = 1; i < SIGRTMIN; i++) {
        const char *n = sigabbrev_np(i);

        if (n && strcasecmp(n, name) == 0)
            return i;
    }
    if (strcasecmp(name, "CLD") == 0)
        return SIGCHLD;
    return strcasecmp(name, "POLL") == 0 ? SIGIO : 0;
}

/* "RTMIN", "RTMIN+n", "RTMAX-n". */
static int real_time(const char *name)
{
    char *end = NULL;
    long n = 0;
    int base;

    if (strncasecmp(name, "RTMIN", 5) == 0)
        base = SIGRTMIN;
    else if (strncasecmp(name, "RTMAX", 5) == 0)
        base = SIGRTMAX;
    else
        return 0;
    if (name[5] == '\0')
        return base;
    if (name[5] != (base == SIGRTMIN ? '+' : '-'))
        return 0;
    n = strtol(name + 5, &end, 10);
    if (*end != '\0' || n < SIGRTMIN - SIGRTMAX || n > SIGRTMAX - SIGRTMIN)
        return 0;
    return base + (int)n;
}

int signame_parse(const char *text, int *sig, struct err *e)
{
    char *end = NULL;
    long n = strtol(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0') {
        const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;

        n = by_name(name);
        if (n == 0)
            n = real_time(name);
    }
    if (n < 1 || n > SIGRTMAX)
        return err_set(e, -EINVAL, "invalid signal: %s", text);
    *sig = (int)n;
    return 0;
}

const char *signame_of(int sig)
{
    const char *n = sigabbrev_np(sig);

    return n ? n : "?";
}
