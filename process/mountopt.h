/* process/mountopt.h - mount options as words: of mount(8), and of OCI's mounts[].options
 * (runtime-spec 1.1, config.md, "Linux mount options"). Thread: any. */
#ifndef PROCESS_MOUNTOPT_H
#define PROCESS_MOUNTOPT_H

#include "base/err.h"
#include "process/process.h"

enum { MOUNTOPT_DATA_MAX = 1024 };

struct mountopt { /* plain data; begins as {0}, or with defaults in flags */
    unsigned long flags, clear, rec_flags, rec_clear, propagation; /* as of struct process_mount */
    char data[MOUNTOPT_DATA_MAX]; /* words that are the file system's, with commas */
};

/* "ro,nosuid,size=64m": taken after what *o has; a later word undoes an earlier one. -E2BIG. */
int mountopt_words(const char *text, struct mountopt *o, struct err *e) MUST_CHECK;
/* One of them. */
int mountopt_word(const char *word, struct mountopt *o, struct err *e) MUST_CHECK;

#endif
