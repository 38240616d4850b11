/* cpu/interp/blocks.h - a vCPU's cache of decoded blocks.
 *
 * A block is a run of instructions within one page, keyed by the physical address of its first byte
 * and what of v->mode decoding depends on; it says nothing of linear addresses (insn.h), so all
 * processes share the blocks of a library. It is valid while vm->code_gen of its page is what it
 * was when the bytes were read. An instruction that straddles two pages is a block of its own with
 * two generations.
 *
 * How the next block is found, fastest first: two links in the block just run, a table by RIP, both
 * holding (RIP, mode, epoch) to compare with; then fetch through the MMU and the table by physical
 * address. The epoch changes when translations may have changed.
 *
 * Memory is one arena of BLOCKS_BYTES; when it is full everything is forgotten. One owner: the
 * vCPU's thread; only blocks_written() may be called by any. */
#ifndef CPU_INTERP_BLOCKS_H
#define CPU_INTERP_BLOCKS_H

#include "cpu/interp/decode.h"

enum {
    BLOCK_INSNS_MAX = 32,
    BLOCKS_BYTES = 32 << 20,
    BLOCKS_HASH = 1 << 17,
    BLOCKS_JUMPS = 1 << 14,
    BLOCK_LINKS = 2,
};

/* Parts of v->mode that decoding depends on. */
#define BLOCK_MODE                                                                   \
    ((uint32_t)(MODE_CS | MODE_SS32 | MODE_FLAT | MODE_PE | MODE_LMA | MODE_FPU_NM | \
                MODE_SSE_BAD | MODE_AVX_BAD))
/* And those that decide whether a fetch is allowed, besides. */
#define BLOCK_FETCH_MODE (BLOCK_MODE | MODE_CPL | MODE_PG)
#define BLOCK_SINGLE (1u << 31) /* in block.mode: one instruction only, for stepping */
#define BLOCK_NO_PAGE UINT32_MAX

struct block;

struct jump { /* "RIP `to` in the situation `key` is block b" */
    uint64_t to, key;
    struct block *b;
};

struct block {
    struct jump link[BLOCK_LINKS];
    uint32_t page, gen; /* of the first byte: mem_page index and its generation */
    uint16_t n;         /* guest instructions; insn[] may hold a fall-through besides */
    uint16_t bytes;
    uint8_t turn; /* which link is replaced next */
    uint32_t mode;
    uint32_t page2, gen2; /* BLOCK_NO_PAGE: all within one page */
    gpa_t gpa;
    struct block *next; /* same hash */
    struct insn insn[];
};

struct blocks {
    uint64_t epoch;        /* already shifted into place for a key */
    _Atomic bool written;  /* bytes of the page of the running block changed */
    _Atomic uint32_t page; /* of the running block */
    _Atomic uint32_t *gen; /* vm->code_gen */
    struct decode decode;
    uint8_t *arena;
    size_t used;
    struct block *none; /* outside RAM: #UD */
    struct jump jump[BLOCKS_JUMPS];
    struct block *hash[BLOCKS_HASH];
};

int blocks_new(struct blocks **ret, struct vcpu *v, struct err *e) MUST_CHECK;
void blocks_free(struct blocks *c); /* may be NULL */

/* Translations may have changed: links and the table by RIP no longer hold. */
void blocks_unlink(struct blocks *c);
/* Any thread: bytes of a page with code were written. */
void blocks_written(struct blocks *c, uint32_t page);

/* The block at v->s.rip, fetched and decoded anew if need be. NULL: *stop says why (SOFT_FAULT,
 * ...), with s.rip as it was. `single`: a block of one instruction. `from`: the block just run, to
 * be linked, or NULL. */
struct block *blocks_find(struct blocks *c, struct vcpu *v, struct block *from, bool single,
                          int *stop);

#define BLOCKS_EPOCH_SHIFT 16
static inline uint64_t blocks_key(const struct blocks *c, const struct vcpu *v)
{
    return c->epoch | (v->mode & BLOCK_FETCH_MODE);
}

static inline bool blocks_valid(const struct blocks *c, const struct block *b)
{
    return atomic_load_explicit(&c->gen[b->page], memory_order_relaxed) == b->gen;
}

/* The instruction at v->s.rip, decoded anew and good until the next call; nothing is remembered of
 * it. NULL: as blocks_find(). */
struct block *blocks_once(struct blocks *c, struct vcpu *v, int *stop);

/* As blocks_find(), when it is quick; else NULL. */
static inline struct block *blocks_quick(struct blocks *c, const struct vcpu *v, struct block *from)
{
    uint64_t to = v->s.rip, key = blocks_key(c, v);

    for (unsigned n = 0; n < BLOCK_LINKS; n++) {
        const struct jump *j = &from->link[n];

        if (j->to == to && j->key == key && __builtin_expect(blocks_valid(c, j->b), 1))
            return j->b;
    }
    return NULL;
}

#endif
