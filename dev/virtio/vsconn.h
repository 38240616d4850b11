/* dev/virtio/vsconn.h - the streams of a socket device; private to it.
 *
 * A stream's two directions end apart (5.10.6.5): `shut_got` is what the guest ended, `shut_sent`
 * what the client ended. vsconn.c keeps states, credit and buffers; it sends nothing itself but
 * notes in `todo` which packets are due and puts the stream on the device's run list. vsock.c moves
 * packets. */
#ifndef DEV_VIRTIO_VSCONN_H
#define DEV_VIRTIO_VSCONN_H

#include "dev/virtio/vsock.h"

enum vs_op { /* 5.10.6 */
             VS_REQUEST = 1,
             VS_RESPONSE,
             VS_RST,
             VS_SHUTDOWN,
             VS_RW,
             VS_CREDIT_UPDATE,
             VS_CREDIT_REQUEST,
};

enum { VS_TYPE_STREAM = 1 }; /* 5.10.6 */
enum {
    VS_SHUT_RECEIVE = 1,
    VS_SHUT_SEND = 2,
    VS_SHUT_BOTH = 3
}; /* 5.10.6.5, in the sender's view */

enum { VS_RX_BURST = 32, VS_BUCKETS = 256 };

enum vs_state {
    VS_FREE,
    VS_CONNECTING, /* the host asked, the guest has not answered */
    VS_OPEN,
    VS_DEAD,   /* only its reset is still to be sent */
    VS_LINGER, /* gone for the guest; the client still gets what was buffered */
};

struct vsock_conn {
    struct vsock *dev;
    struct vsock_sock *sock; /* NULL: the client is gone */
    enum vs_state state;
    uint32_t host_port, guest_port;
    uint32_t peer_alloc, peer_fwd, sent; /* our sending; counters run freely (5.10.6.3) */
    uint32_t fwd, fwd_told;              /* our receiving: forwarded, and last said so */
    uint8_t *buf;                        /* ring of VSOCK_BUF_MAX bytes, made when first needed */
    uint32_t buf_at, buf_len;
    uint8_t todo; /* bit n: a packet with op n is due */
    uint8_t shut_got, shut_sent;
    bool readable; /* the client has bytes, or has ended */
    bool hangup;   /* the client closed both directions, perhaps with bytes still to be read */
    bool eof;      /* ... and they are read */
    bool asked;    /* for credit, since the last that came */
    bool watch_read, watch_write;
    bool queued; /* on the run list */
    struct vsock_conn *run_next, *hash_next;
};

struct vs_addr {
    uint32_t host_port, guest_port;
};

struct vsock {
    struct virtio_port *port;
    struct vsock_host host;
    uint64_t cid;
    uint32_t next_port; /* for streams the host begins */
    bool reset_event;   /* the driver must be told of a transport reset */
    bool resetting;     /* it was told, and has not given the buffer back yet */
    uint16_t reset_idx; /* the event queue's then */
    bool tx_stalled;    /* replies[] is full */
    struct vs_addr replies[VSOCK_REPLIES_MAX]; /* resets for packets of no stream; a ring */
    unsigned r_at, r_len;
    struct vsock_conn conn[VSOCK_CONNS_MAX];
    struct vsock_conn *bucket[VS_BUCKETS];
    struct vsock_conn *run_head, **run_tail;
    struct vq_chain rx[VS_RX_BURST]; /* the chains of one read */
    uint32_t rx_room[VS_RX_BURST];   /* bytes of payload each takes of it */
};

struct vsock_conn *vsconn_find(struct vsock *d, uint32_t host_port, uint32_t guest_port);
/* A stream in `state`; NULL = the table is full. */
struct vsock_conn *vsconn_new(struct vsock *d, enum vs_state state, uint32_t host_port,
                              uint32_t guest_port);
void vsconn_free(struct vsock_conn *c); /* closes the client; sends nothing */
void vsconn_kill(struct vsock_conn *c); /* the same, and a reset for the guest */
void vsconn_clear(struct vsock *d);     /* frees all */

/* Bytes the guest takes now. */
uint32_t vsconn_credit(const struct vsock_conn *c);
/* Puts c on the run list if a packet is due, and asks the host side for the events it waits for.
 * To be called after anything that changed c. */
void vsconn_update(struct vsock_conn *c);
struct vsock_conn *vsconn_next(struct vsock *d); /* takes the first of the run list, or NULL */
void vsconn_requeue(struct vsock_conn *c);       /* puts it back in front */

/* From the guest: `len` bytes for the client, in *iov (consumed). -ENOBUFS: beyond its credit. */
int vsconn_deliver(struct vsock_conn *c, struct iovec *iov, unsigned n, uint32_t len);
void vsconn_shutdown(struct vsock_conn *c, uint32_t flags); /* may free c's client */
void vsconn_reset(struct vsock_conn *c);                    /* frees c, now or when flushed */
void vsconn_accepted(struct vsock_conn *c);
/* From the client. */
void vsconn_ready(struct vsock_conn *c, bool readable, bool writable, bool hangup);
void vsconn_eof(struct vsock_conn *c);

#endif
