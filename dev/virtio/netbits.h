/* dev/virtio/netbits.h - feature bits of a network card, for the one served here and the one that
 * another process serves. Source: VIRTIO 1.2, 5.1.3. */
#ifndef DEV_VIRTIO_NETBITS_H
#define DEV_VIRTIO_NETBITS_H

enum { /* 5.1.3 */
       F_CSUM = 1 << 0,
       F_GUEST_CSUM = 1 << 1,
       F_CTRL_GUEST_OFFLOADS = 1 << 2,
       F_MTU = 1 << 3,
       F_MAC = 1 << 5,
       F_GUEST_TSO4 = 1 << 7,
       F_GUEST_TSO6 = 1 << 8,
       F_GUEST_ECN = 1 << 9,
       F_GUEST_UFO = 1 << 10,
       F_HOST_TSO4 = 1 << 11,
       F_HOST_TSO6 = 1 << 12,
       F_HOST_ECN = 1 << 13,
       F_HOST_UFO = 1 << 14,
       F_MRG_RXBUF = 1 << 15,
       F_STATUS = 1 << 16,
       F_CTRL_VQ = 1 << 17,
       F_CTRL_RX = 1 << 18,
       F_GUEST_ANNOUNCE = 1 << 21,
       F_MQ = 1 << 22,
       F_CTRL_MAC_ADDR = 1 << 23,
       F_GUEST_ALL = F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_GUEST_ECN | F_GUEST_UFO,
};

#endif
