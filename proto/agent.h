/* proto/agent.h - what host and agent say to each other over vsock.
 *
 * Ports: the agent listens on PROTO_PORT in the guest. After boot, and whenever it begins to
 * listen, it connects once to host port PROTO_READY_PORT (the host's `<vsock path>_1025`), sends
 * one byte and closes: "ready", so nobody polls. Each connection to PROTO_PORT is one session:
 * HELLO both ways, then requests.
 *
 * Frames: u32 length of payload, u16 type, u16 stream; little-endian; payload <= PROTO_FRAME_MAX.
 * Payloads of structured frames are fields (u16 id, u32 len, bytes), unknown ids are skipped, so
 * both sides may grow. Strings are bytes without NUL. Both sides treat the other as hostile.
 *
 * Flow control: STDIN is sent only within a window of PROTO_WINDOW bytes; the agent returns credit
 * (STDIN_ACK) as the process takes it, so control frames are never stuck behind data. STDOUT and
 * STDERR rely on the socket. */
#ifndef PROTO_AGENT_H
#define PROTO_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    PROTO_VERSION = 2,
    PROTO_PORT = 1024,
    PROTO_READY_PORT = 1025,
    PROTO_FRAME_MAX = 64 * 1024,
    PROTO_WINDOW = 256 * 1024,
    PROTO_HDR = 8,
    PROTO_START_MAX = 2 * 1024 * 1024, /* arguments and environment: as much as execve(2) takes */
};

/* Ports of the wall clock, 32-bit reads: low half of ns since 1970 (latches the other), high half,
 * and what tells that there is such a clock. */
enum {
    PROTO_WALL_PORT = 0x510,
    PROTO_WALL_LOW = 0,
    PROTO_WALL_HIGH = 4,
    PROTO_WALL_MAGIC = 8,
    PROTO_WALL_IS = 0x4e4c494b, /* "KILN" */
};

enum proto_type {
    PROTO_HELLO = 1, /* both: fields VERSION, (agent) KERNEL release */
    PROTO_SETUP,     /* host: identity, mounts, clock; once per machine, before the first START */
    PROTO_SETUP_OK,
    PROTO_START,     /* host: run a process in this session */
    PROTO_STARTED,   /* agent: field PID */
    PROTO_STDIN,     /* host: bytes; empty = end of file */
    PROTO_STDIN_ACK, /* agent: u32 bytes of credit returned */
    PROTO_STDOUT,    /* agent: bytes; empty = closed. host: empty = nobody reads it any more: the
                      * agent closes its end, so that the process meets SIGPIPE as it would at home */
    PROTO_STDERR,
    PROTO_WINSIZE,  /* host: u16 rows, u16 columns */
    PROTO_SIGNAL,   /* host: u32 Linux signal number, to the session's process (group if tty) */
    PROTO_EXIT,     /* agent: u32 status as from wait(2); last frame, after all output */
    PROTO_ERROR,    /* agent: fields CODE (errno, positive), TEXT; answers SETUP or START */
    PROTO_POWEROFF, /* host: sync and stop the machine */
    PROTO_MORE,     /* host: fields of the START that follows, when one frame does not hold them;
                     * all together at most PROTO_START_MAX bytes */
    PROTO_IDENTITY, /* host: the machine goes on from a saved state, perhaps with others: ENTROPY,
                     * WALL_NS, HOSTNAME, MACHINE_ID, HOSTS, RESOLV, NET; also after SETUP */
    PROTO_IDENTITY_OK, /* agent: they are in force; or ERROR */
    PROTO_HOLD, /* host: no process of the container runs from HOLD_OK until this session ends. In a
                 * machine that goes on from a state saved meanwhile: until its IDENTITY is in
                 * force, so that none runs as somebody else. */
    PROTO_HOLD_OK,  /* agent: they stand still; or ERROR */
    PROTO_WORK,     /* host: WORK, FLAGS, two ARGs: what proto/filework.h says, by a process in the
                     * container in place of a command: STARTED, its streams on STDIN and STDOUT, EXIT
                     */
    PROTO_USAGE,    /* host: what is used? */
    PROTO_USAGE_IS, /* agent: CPU_NS, MEMORY, MEMORY_TOTAL, PIDS, NET_RX, NET_TX, DISK_READ,
                     * DISK_WRITE; what is not known is left out */
    PROTO_LIMIT,    /* host: MEMORY, PIDS, CPU_US: limits of the container from now on; UINT64_MAX =
                     * none. MEMORY is counted from what is used now */
    PROTO_LIMIT_OK, /* agent: they hold; or ERROR. A request of an unknown type gets ERROR */
};

enum proto_field {
    PF_VERSION = 1, /* u32 */
    PF_KERNEL,      /* string */
    PF_HOSTNAME,
    PF_ENTROPY,     /* bytes for the kernel's pool */
    PF_WALL_NS,     /* u64, ns since 1970; the wall clock's port is better where it is */
    PF_ROOT_DEV,    /* string: block device of the image, "/dev/vda" */
    PF_ROOT_FSTYPE, /* "erofs", "squashfs", "ext4" */
    PF_ROOT_RO,     /* u8: 1 = no writable overlay */
    PF_OVERLAY_DEV, /* string: block device for the writable layer; absent = tmpfs */
    PF_MOUNT,       /* string "type\0source\0target\0options"; repeated */
    PF_HOSTS,       /* string: text of /etc/hosts */
    PF_RESOLV,      /* string: text of /etc/resolv.conf */
    PF_ARG,         /* string; repeated */
    PF_ENV,         /* string "K=V"; repeated */
    PF_CWD,         /* string */
    PF_USER,  /* string as in OCI: "user", "uid", "user:group", "uid:gid"; resolved in the image */
    PF_TTY,   /* u8 */
    PF_ROWS,  /* u16 */
    PF_COLS,  /* u16 */
    PF_STDIN, /* u8: 1 = a stdin stream will come; 0 = /dev/null */
    PF_PID,   /* u32 */
    PF_CODE,  /* u32 */
    PF_TEXT,  /* string */
    PF_MACHINE_ID, /* string: 32 hexadecimal digits, for /etc/machine-id */
    PF_DETACH, /* u8: 1 = the process goes on when its session ends; its streams are /dev/null */
    PF_NET,    /* fields of enum proto_net; repeated: eth0, eth1, ... in this order */
    PF_WORK,   /* u32: enum filework_kind */
    PF_FLAGS,  /* u32 */
    PF_CPU_NS, /* u64: used by the container's processes */
    PF_MEMORY, /* u64: bytes */
    PF_MEMORY_TOTAL,
    PF_PIDS,   /* u64 */
    PF_NET_RX, /* u64: bytes, likewise below */
    PF_NET_TX,
    PF_DISK_READ,
    PF_DISK_WRITE,
    PF_CPU_US,        /* u64: of CPU time in 100 ms */
    PF_OVERLAY_BYTES, /* u64: size of a writable layer in memory */
    PF_BESIDE,        /* u8: 1 = not the container's first process, though none was before */
};

/* One network card. What is not named stays as it is, but addresses and routes, which are replaced,
 * if there are any. */
enum proto_net {
    PN_MAC = 1, /* 6 bytes */
    PN_MTU,     /* u32 */
    PN_ADDR,    /* u8 prefix length, 4 or 16 bytes; repeated */
    PN_ROUTE, /* u8 prefix length, destination, gateway (zeroes: on the link): twice 4 or 16 bytes;
               * repeated */
};

struct proto_buf { /* builds one frame; fixed size, no allocation */
    uint8_t b[PROTO_HDR + PROTO_FRAME_MAX];
    size_t len;    /* bytes, header included */
    bool overflow; /* a field did not fit; proto_end() then says -EMSGSIZE */
};
void proto_begin(struct proto_buf *p, enum proto_type type, uint16_t stream);
void proto_put(struct proto_buf *p, enum proto_field id, const void *bytes, size_t len);
void proto_put_str(struct proto_buf *p, enum proto_field id, const char *s);
void proto_put_u32(struct proto_buf *p, enum proto_field id, uint32_t v);
void proto_put_u64(struct proto_buf *p, enum proto_field id, uint64_t v);
void proto_raw(struct proto_buf *p, const void *bytes, size_t len); /* unstructured payload */
int proto_end(struct proto_buf *p) MUST_CHECK;                      /* writes the header */

/* A header alone, for bytes that are sent from where they lie. */
void proto_header(uint8_t h[PROTO_HDR], enum proto_type type, uint16_t stream, uint32_t len);

struct proto_frame { /* borrowed view */
    uint16_t type, stream;
    const uint8_t *p;
    uint32_t len;
};
/* First whole frame in buf. Returns bytes consumed (> 0), 0 = more needed, -EBADMSG = oversize or
 * malformed. */
int proto_next(const uint8_t *buf, size_t len, struct proto_frame *f);

struct proto_field_view {
    uint16_t id;
    const uint8_t *p;
    uint32_t len;
};
/* Walk fields: *pos from 0. 1 = got one, 0 = end, -EBADMSG. */
int proto_field_next(const struct proto_frame *f, size_t *pos, struct proto_field_view *v);
/* Little-endian integer of 1, 2, 4 or 8 bytes; -EBADMSG on another length. */
int proto_field_u64(const struct proto_field_view *v, uint64_t *out) MUST_CHECK;
/* A copy with a NUL behind it, owned by the caller; NULL with errno: EBADMSG (a NUL inside) or
 * ENOMEM. */
char *proto_field_str(const struct proto_field_view *v);

#endif
