/* block/block.h - a disk as devices see it: asynchronous requests in iovecs, no guest addresses.
 *
 * Backends: raw.c (files and block devices, by io_uring, or preadv on a worker thread where
 * io_uring is refused), empty.c (no medium), fake for tests. Threads: submit on the I/O loop;
 * done() is called on the I/O loop, never inside submit. */
#ifndef BLOCK_BLOCK_H
#define BLOCK_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

struct loop;
enum { BLOCK_SECTOR = 512, BLOCK_IOV_MAX = 128 };

enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_WRITE_ZEROES };

struct block_req { /* embedded in the caller's request; lives until done() */
    enum block_op op;
    uint64_t offset, len; /* bytes; sums of iov for read and write */
    struct iovec *iov;    /* borrowed until done; the backend may consume it */
    unsigned n_iov;
    bool unmap;                                    /* WRITE_ZEROES: may deallocate */
    void (*done)(struct block_req *r, int result); /* 0 or -errno */
    void *ctx;
    struct { /* private to the backend */
        struct block_req *next;
        uint64_t moved; /* bytes */
        int result;
    } backend;
};

struct block_info {
    uint64_t size; /* bytes */
    bool read_only, can_discard, can_write_zeroes;
    uint32_t block_size; /* preferred, bytes */
};

struct block;
struct block_ops {
    void (*submit)(struct block *b, struct block_req *r);
    void (*commit)(struct block *b); /* after a batch of submits: start them now; may be NULL */
    void (*drain)(struct block *b);  /* returns when nothing is in flight; done()s are called */
    void (*close)(struct block *b);  /* drained; frees b */
};

struct block { /* first member of each backend */
    const struct block_ops *ops;
    struct block_info info;
};

/* A drive without a medium: 0 bytes. What it promises is all a guest will take for granted of the
 * medium that may be put into it, so it says for which kind it is. */
enum empty_kind {
    EMPTY_READ_ONLY,
    EMPTY_WRITABLE, /* a file that knows holes */
    EMPTY_ANY,      /* whatever there is; writing is refused by the medium itself */
};
int empty_open(enum empty_kind kind, struct block **ret, struct err *e) MUST_CHECK;
/* Opens and locks (a second writer gets -EBUSY and a sentence; the caller adds whose disk it is).
 * fd variant: takes the descriptor, also on failure. */
int raw_open(const char *path, bool read_only, struct loop *l, struct block **ret,
             struct err *e) MUST_CHECK;
int raw_open_fd(int fd, bool read_only, struct loop *l, struct block **ret,
                struct err *e) MUST_CHECK;

#endif
