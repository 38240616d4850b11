/* cmd/liveview.h - kiln top without a container: what all of them use, on a terminal, until a key
 * ends it. */
#ifndef CMD_LIVEVIEW_H
#define CMD_LIVEVIEW_H

/* Returns the exit status. */
int liveview(void);

#endif
