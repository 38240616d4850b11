/* cmd/columns.h - text with tabs between its cells, printed with its columns aligned. */
#ifndef CMD_COLUMNS_H
#define CMD_COLUMNS_H

#include <stdio.h>

/* Each column is as wide as its widest cell, at least 10, with three spaces behind it, as docker's
 * tables; the last cell of a line is not filled up. */
void columns_print(FILE *out, const char *text);
/* Characters that UTF-8 text takes on a terminal: its code points. */
int columns_width(const char *text, size_t bytes);

#endif
