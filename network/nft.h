/* network/nft.h - elements of nftables sets and maps, over nfnetlink: one message an element, one
 * transaction a batch. What a container's coming and going changes is elements only; the rules that
 * look them up stand still (nftrules.h). Source: linux/netfilter/nf_tables.h. Thread: the owner's.
 */
#ifndef NETWORK_NFT_H
#define NETWORK_NFT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "network/ipaddr.h"

#define NFT_TABLE "kiln"

enum nft_family { NFT_IP, NFT_IP6, NFT_BRIDGE };
enum { NFT_KEY_MAX = 64 }; /* bytes; the kernel's own limit of a concatenation */

/* Fields of a key or a value in a row, each at a multiple of four bytes. */
struct nft_key {
    uint8_t bytes[NFT_KEY_MAX];
    unsigned len;
};
void nft_key_ifname(struct nft_key *k, const char *name); /* 16 bytes */
void nft_key_bytes(struct nft_key *k, const void *p, unsigned len);
void nft_key_proto(struct nft_key *k, uint8_t proto);
void nft_key_port(struct nft_key *k, uint16_t port);

struct nft_element { /* plain data */
    enum nft_family family;
    const char *set;           /* static */
    struct nft_key key, value; /* value.len 0: of a set */
    uint32_t flags;            /* NFT_SET_ELEM_INTERVAL_END */
};

enum nft_what { NFT_ADD, NFT_DELETE };
/* All or none of them. Adding what is there is fine unless it has another value: -EEXIST. -ENOENT:
 * no such set, or, of deleting, no such element. -EPERM. */
int nft_apply(enum nft_what what, const struct nft_element *v, size_t n, struct err *e) MUST_CHECK;
/* Delete those that are there. */
void nft_forget(const struct nft_element *v, size_t n);

#endif
