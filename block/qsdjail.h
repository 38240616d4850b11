/* block/qsdjail.h - what a storage daemon's process gives up before it becomes one. Private to
 * block/. Thread: the only one of a forked child. */
#ifndef BLOCK_QSDJAIL_H
#define BLOCK_QSDJAIL_H

#include "block/disktext.h"

/* As much as this kernel and user allow; nothing fails, the daemon runs with what is left. `path`:
 * the image, where it is a file. */
void qsdjail_enter(const struct disktext *d, const char *path);

#endif
