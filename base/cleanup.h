/* base/cleanup.h - release a local when its scope ends.
 *
 *   CLEANUP(fd) int fd = open(...);   closed on every return path
 *   return take_fd(&fd);              ...unless ownership is handed on
 *
 * For locals only. Heap objects have xxx_new()/xxx_free(), embedded objects
 * xxx_init()/xxx_done(); destructors accept NULL and half-built objects. */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(kind) __attribute__((cleanup(cleanup_##kind)))

static inline void cleanup_fd(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

static inline void cleanup_mem(void *pp)
{
    free(*(void **)pp);
}

static inline void cleanup_file(FILE **f)
{
    if (*f)
        (void)fclose(*f);
}

static inline void cleanup_dir(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

/* Hand the descriptor to the caller; the local no longer owns it. */
static inline int take_fd(int *fd)
{
    int v = *fd;

    *fd = -1;
    return v;
}

#define take_ptr(pp)                       \
    ({                                     \
        __typeof__(*(pp)) take_v_ = *(pp); \
        *(pp) = NULL;                      \
        take_v_;                           \
    })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
