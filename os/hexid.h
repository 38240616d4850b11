/* os/hexid.h - an identifier that nobody else has, but for chance: random bits as lower-case
 * hexadecimal digits. */
#ifndef OS_HEXID_H
#define OS_HEXID_H

#include <stddef.h>

#include "base/err.h"

enum { HEXID_MAX = 64 };

/* `digits` of them, even and at most HEXID_MAX, and a NUL into `id`. Errors: what getrandom(2)
 * says.
 */
int hexid(char *id, size_t digits, struct err *e) MUST_CHECK;

#endif
