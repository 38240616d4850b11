/* cmd/csv.h - a line of values with commas between them, as docker's --mount reads it: a field that
 * holds a comma stands in double quotes, a quote in it is doubled (RFC 4180, section 2). */
#ifndef CMD_CSV_H
#define CMD_CSV_H

#include "base/err.h"

/* Cut the next field off the front of *text, which is changed: the field without its quotes, or
 * NULL at the end (*e untouched) or at a quote out of place (*e says so). Borrowed from *text. */
char *csv_next(char **text, struct err *e);

#endif
