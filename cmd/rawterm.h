/* cmd/rawterm.h - a terminal that a program draws on: raw keys, the other screen, no cursor; and
 * back to what it was, however the program ends short of SIGKILL. One at a time in a process, since
 * signals have no other way to find it. */
#ifndef CMD_RAWTERM_H
#define CMD_RAWTERM_H

#include "base/err.h"

/* -ENOTTY: standard input or output is no terminal. */
int rawterm_open(struct err *e) MUST_CHECK;
/* Back to the usual screen, for a program that is run in between; and again. */
void rawterm_leave(void);
void rawterm_enter(void);
void rawterm_close(void);

enum rawterm_key { /* beyond bytes */
                   KEY_NONE = 256,
                   KEY_UP,
                   KEY_DOWN,
                   KEY_PAGE_UP,
                   KEY_PAGE_DOWN,
                   KEY_HOME,
                   KEY_END,
};

/* The key at the front of what was read; *used: its bytes. An escape sequence that is none of them
 * is KEY_NONE. */
int rawterm_key(const char *bytes, unsigned n, unsigned *used);

#endif
