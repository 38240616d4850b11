#include "os/hexid.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/random.h>

int hexid(char *id, size_t digits, struct err *e)
{
    uint8_t random[HEXID_MAX / 2];
    size_t n = digits / 2;

    BUG_ON(digits > HEXID_MAX || digits % 2 != 0);
    if (getrandom(random, n, 0) != (ssize_t)n)
        return err_errno(e, -errno, "getrandom");
    for (size_t i = 0; i < n; i++)
        snprintf(id + 2 * i, 3, "%02x", random[i]);
    return 0;
}
