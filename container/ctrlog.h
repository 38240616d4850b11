/* container/ctrlog.h - what a container wrote: a file of entries, appended by its keeper, read by
 * anybody while it grows.
 *
 * An entry, little-endian: u32 magic, u32 length of the bytes, u64 ns since 1970, u32 stream; the
 * bytes; u32 length again, so that it can be read backwards. One entry is one portion as it came
 * from the container: lines are found by the reader, and have the time of the portion in which they
 * begin. An entry cut short by a kill is taken off by the next writer and no reader shows it.
 *
 * `log` is the newest; when it would pass its size it becomes log.1, log.1 becomes log.2, and so on
 * up to the number of files kept in all. Thread: the caller's. */
#ifndef CONTAINER_CTRLOG_H
#define CONTAINER_CTRLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    CTRLOG_HEADER = 20,
    CTRLOG_TRAILER = 4,
    CTRLOG_ENTRY_MAX = 1024 * 1024, /* bytes of one entry that a reader takes */
    CTRLOG_FILES_MAX = 100,
};

struct ctrlog {              /* a writer; owned: ctrlog_close() */
    int dir;                 /* borrowed: of the record */
    int fd;                  /* -1 = nothing written yet */
    uint64_t size, max_size; /* 0 = no limit */
    unsigned max_files;
    bool off;
};

/* max_size, max_files as spec.log_*: SPEC_UNSET or 0 = default. Nothing is made before the first
 * ctrlog_write(). */
void ctrlog_open(struct ctrlog *l, int dir, const char *driver, int64_t max_size,
                 int64_t max_files);
/* stream: enum task_stream. What cannot be written is lost, and later tries begin anew: a full disk
 * must not end a container. */
void ctrlog_write(struct ctrlog *l, unsigned stream, int64_t ns, const void *bytes, size_t len);
void ctrlog_close(struct ctrlog *l);

struct ctrlog_reader;

struct ctrlog_options {
    int64_t since_ns, until_ns; /* 0 = none */
    int64_t tail;               /* lines; -1 = all */
    bool timestamps;            /* in front of every line: RFC 3339, nanoseconds, UTC */
};

/* Of the record's folder `dir` (borrowed). A container that wrote nothing has an empty log. */
int ctrlog_read_open(int dir, const struct ctrlog_options *o, struct ctrlog_reader **ret,
                     struct err *e) MUST_CHECK;
void ctrlog_read_close(struct ctrlog_reader *r); /* may be NULL */
/* Write what there is to out[TASK_STDOUT] and out[TASK_STDERR] (-1 = leave it out); blocks as they
 * do. Returns 0 at the log's present end, 1 when all later entries are past `until`. Errors: those
 * of write(2), read(2); -EBADMSG: not a log. */
int ctrlog_copy(struct ctrlog_reader *r, const int out[2], struct err *e) MUST_CHECK;
/* For poll(2): readable = ctrlog_copy() may find more. Borrowed. */
int ctrlog_read_fd(const struct ctrlog_reader *r);

#endif
