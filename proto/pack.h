/* proto/pack.h - a stream of file tree entries between two processes that do not trust each other:
 * host and agent, host and a helper inside a container.
 *
 * The stream: 4 bytes "kpk1", then records. A record: u8 kind, then
 *   PACK_ENTRY  u8 type, u8 flags, u8 n_xattrs, u32 mode (07777), u32 uid, u32 gid, u32 mtime ns,
 *               i64 mtime s, u64 size, u32 major, u32 minor, u16 path length, u16 link length;
 * path, link; for each xattr u16 name length, u32 value length, name, value PACK_DATA   u32 length,
 * bytes: of the entry before, a regular file; in order PACK_HOLE   u64 length: bytes of zero
 *   PACK_FAIL   u32 errno (positive), u16 length, text: what could not be done; the last record
 *   PACK_END    the last record
 * All little-endian. A path is relative, "" for the root of the tree, without "." and ".."
 * components, folders before what is in them. Everything is bounded by the limits below and nothing
 * is allocated by a length from the stream. Thread: one a stream. */
#ifndef PROTO_PACK_H
#define PROTO_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum {
    PACK_PATH_MAX = 4095, /* bytes, no NUL: of a path, of a link */
    PACK_XATTRS_MAX = 32, /* of one entry */
    PACK_XATTR_NAME_MAX = 255,
    PACK_XATTR_BYTES_MAX = 65536, /* values of one entry together */
    PACK_DATA_MAX = 65536,        /* of one record */
    PACK_TEXT_MAX = 400,          /* of a failure */
};

enum pack_kind { PACK_END, PACK_ENTRY, PACK_DATA, PACK_HOLE, PACK_FAIL };

enum pack_type { /* of an entry */
                 PACK_FILE = 1,
                 PACK_DIR,
                 PACK_SYMLINK,  /* link: its content */
                 PACK_HARDLINK, /* link: the path of an entry before, a regular file */
                 PACK_CHAR,
                 PACK_BLOCK,
                 PACK_FIFO,
                 PACK_ABSENT, /* of a difference: it was there before. All but the path is 0 */
};

struct pack_xattr { /* borrowed */
    const char *name;
    const void *value;
    uint32_t len;
};

enum {                  /* flags of an entry in a difference */
       PACK_NEW = 1,    /* it was not there before */
       PACK_OPAQUE = 2, /* a folder: nothing of what was in it before is left */
};

struct pack_entry {
    enum pack_type type;
    unsigned flags;
    uint32_t mode, uid, gid; /* mode: permissions and set-id bits alone */
    int64_t mtime_s;
    uint32_t mtime_ns;
    uint64_t size; /* of a regular file, when it was looked at: what comes decides */
    uint32_t major, minor;
    const char *path, *link; /* borrowed until the next call; link "" = none */
    struct pack_xattr xattr[PACK_XATTRS_MAX];
    unsigned n_xattrs;
};

/* ---- writing */

struct pack_out {
    int fd;     /* borrowed, blocking */
    int failed; /* -errno of the first write that failed; then nothing more is written */
    size_t len;
    uint8_t buf[PACK_DATA_MAX + 16];
};
void pack_out_init(struct pack_out *o, int fd);
/* Errors: -EINVAL an entry that breaks a limit above; what write(2) says. */
int pack_put_entry(struct pack_out *o, const struct pack_entry *en) MUST_CHECK;
int pack_put_data(struct pack_out *o, const void *p, size_t len) MUST_CHECK;
int pack_put_hole(struct pack_out *o, uint64_t len) MUST_CHECK;
/* The last record, and everything is written. */
int pack_put_end(struct pack_out *o) MUST_CHECK;
int pack_put_fail(struct pack_out *o, int code, const char *text) MUST_CHECK;

/* ---- reading */

struct pack_in {
    /* read(2): more bytes, 0 = end of the stream */
    ssize_t (*fill)(void *ctx, void *buf, size_t len);
    void *ctx;
    bool begun, over;
    bool file; /* data may come */
    size_t at, len;
    uint8_t buf[2 * PACK_DATA_MAX];
    char path[PACK_PATH_MAX + 1], link[PACK_PATH_MAX + 1];
    char names[PACK_XATTRS_MAX][PACK_XATTR_NAME_MAX + 1];
    uint8_t values[PACK_XATTR_BYTES_MAX];
};
void pack_in_init(struct pack_in *i, ssize_t (*fill)(void *ctx, void *buf, size_t len), void *ctx);
/* From a descriptor: the context is a pointer to it. */
ssize_t pack_fill_fd(void *fd, void *buf, size_t len);

struct pack_record {
    enum pack_kind kind; /* PACK_END, _ENTRY, _DATA or _HOLE */
    struct pack_entry entry;
    const uint8_t *data; /* borrowed until the next call */
    uint64_t len;        /* of data, of a hole */
};
/* The next record; after PACK_END not to be called again. Errors: -EBADMSG the stream is damaged or
 * ends early; what a PACK_FAIL says, with its text; what fill says. */
int pack_next(struct pack_in *i, struct pack_record *r, struct err *e) MUST_CHECK;

/* "", or components that are neither empty nor "." nor "..", at most PACK_PATH_MAX bytes. */
bool pack_path_ok(const char *path);

#endif
