/* cmd/client.h - this terminal as a container's: kiln run, start -a, attach. */
#ifndef CMD_CLIENT_H
#define CMD_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "container/keeper.h"

struct client { /* owned: client_close() */
    struct keeper_line line;
    struct session_watch watch;
    int signal; /* the last that came */
    /* How it stays attached; set by the caller. */
    bool tty, in, out, err;  /* which streams are ours */
    const char *detach_keys; /* "ctrl-p,ctrl-q"; NULL = those */
};

/* `proxy`: signals go to the container, else they do here what they always do. For the rest of the
 * process's life. */
int client_open(struct client *c, bool proxy, struct err *e) MUST_CHECK;
void client_close(struct client *c);
/* Rows and columns of the terminal; 0 = there is none. */
void client_size(const struct client *c, uint16_t *rows, uint16_t *cols);
/* The line is open and its start awaited: wait for that (`await`), then stay until the container
 * ends or the keys are typed. Returns the exit status; where kiln chose it, *e says why. `end_it`:
 * asked twice to stop, or before it runs, end it; else let it be. */
int client_stay(struct client *c, bool await, bool end_it, struct err *e) MUST_CHECK;
/* "ctrl-p,ctrl-q", "a,ctrl-@": the bytes. Returns how many; -EINVAL. */
int client_keys(const char *text, uint8_t keys[SESSION_DETACH_MAX], struct err *e) MUST_CHECK;

#endif
