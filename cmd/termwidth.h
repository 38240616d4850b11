/* cmd/termwidth.h - what kiln may assume of the terminal it writes to. */
#ifndef CMD_TERMWIDTH_H
#define CMD_TERMWIDTH_H

#include <stdbool.h>

/* Columns of the terminal on `fd`; `otherwise` where it is none or does not tell. */
int termwidth(int fd, int otherwise);
/* Whether colours are wanted there: a terminal that is not dumb, and no NO_COLOR in the environment
 * (https://no-color.org). */
bool termwidth_color(int fd);

#endif
