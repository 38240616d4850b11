/* os/jsonfile.h - JSON from a descriptor, in blocks: json_loadfd(3) makes a system call for each
 * byte. Thread: any. */
#ifndef OS_JSONFILE_H
#define OS_JSONFILE_H

#include <jansson.h>

/* As json_loadfd(). `fd` is borrowed. */
json_t *jsonfile_load(int fd, size_t flags, json_error_t *why);

#endif
