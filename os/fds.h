/* os/fds.h - what a forked child keeps open. Thread: the caller's. */
#ifndef OS_FDS_H
#define OS_FDS_H

/* Close every descriptor from 3 up but keep[0..n), which is sorted; negative ones are skipped. */
void fds_close_but(int *keep, unsigned n);

#endif
