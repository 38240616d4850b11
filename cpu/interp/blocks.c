/* cpu/interp/blocks.c - see blocks.h. */
#include "cpu/interp/blocks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/interp/operand.h"

enum {
    BLOCK_COPY = BLOCK_INSNS_MAX * DECODE_BYTES_MAX, /* bytes a block can have */
    BLOCK_RETRIES = 8,  /* while another vCPU writes the bytes we decode */
    NATIVE_ROOM = 4096, /* bytes of stub memory below which we start afresh */
};

/* A block is made where it will lie, at the end of what the arena holds: at most this long. */
#define BLOCK_SIZE_MAX (sizeof(struct block) + (BLOCK_INSNS_MAX + 1) * sizeof(struct insn))

int blocks_new(struct blocks **ret, struct vcpu *v, struct err *e)
{
    struct blocks *c = calloc(1, sizeof(*c));

    if (!c)
        return err_set(e, -ENOMEM, "out of memory");
    c->gen = v->vm->code_gen;
    c->page = BLOCK_NO_PAGE;
    c->epoch = 1ull << BLOCKS_EPOCH_SHIFT;
    c->none = calloc(1, sizeof(*c->none) + sizeof(struct insn));
    c->arena = mmap(NULL, BLOCKS_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (c->arena == MAP_FAILED)
        c->arena = NULL;
    if (!c->none || !c->arena) {
        blocks_free(c);
        return err_set(e, -ENOMEM, "map %d MiB for decoded code", BLOCKS_BYTES >> 20);
    }
    c->none->n = 1;
    c->none->page = BLOCK_NO_PAGE;
    decode_undefined(&c->none->insn[0]);
    int r = decode_init(&c->decode, v, e);
    if (r < 0) {
        blocks_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

void blocks_free(struct blocks *c)
{
    if (!c)
        return;
    decode_done(&c->decode);
    if (c->arena)
        munmap(c->arena, BLOCKS_BYTES);
    free(c->none);
    free(c);
}

void blocks_unlink(struct blocks *c)
{
    c->epoch += 1ull << BLOCKS_EPOCH_SHIFT;
}

void blocks_written(struct blocks *c, uint32_t page)
{
    if (atomic_load_explicit(&c->page, memory_order_relaxed) == page)
        atomic_store_explicit(&c->written, true, memory_order_relaxed);
}

/* Forget every block. Only between blocks. */
static void flush(struct blocks *c, struct vcpu *v)
{
    c->used = 0;
    memset(c->hash, 0, sizeof(c->hash));
    memset(c->jump, 0, sizeof(c->jump));
    blocks_unlink(c);
    native_reset(c->decode.native);
    v->stats.flushes++;
}

static struct block **bucket(struct blocks *c, gpa_t gpa, uint32_t mode)
{
    uint64_t h = (gpa ^ (uint64_t)mode << 40) * 0x9e3779b97f4a7c15ull;

    return &c->hash[h >> 47];
}
_Static_assert(BLOCKS_HASH == 1 << 17, "bucket() takes 17 bits");

static struct jump *jump_slot(struct blocks *c, uint64_t rip)
{
    return &c->jump[(rip ^ rip >> 12) & (BLOCKS_JUMPS - 1)];
}

/* --- decoding --------------------------------------------------------------------------- */

struct source { /* where the bytes of a block come from */
    gva_t lin;  /* linear address of the first byte */
    gpa_t gpa;  /* physical */
    const uint8_t *hva;
    uint32_t mode;  /* block.mode */
    unsigned limit; /* bytes up to the limit of CS, at most BLOCK_COPY */
};

static uint32_t generation(const struct blocks *c, uint32_t page)
{
    return atomic_load_explicit(&c->gen[page], memory_order_acquire);
}

/* An instruction of which the page holds only `have` bytes: the rest lies in the next. Fills
 * b->insn[0]. */
static int decode_straddling(struct blocks *c, struct vcpu *v, struct block *b,
                             const struct source *src, const uint8_t *bytes, unsigned have)
{
    uint8_t all[DECODE_BYTES_MAX];
    gva_t lin2 = src->lin + have;
    const uint8_t *hva2;
    gpa_t page2;
    int rc;

    if ((v->mode & MODE_CS) != MODE_CS64)
        lin2 = (uint32_t)lin2;
    rc = mmu_fetch_page(v, lin2, &page2, &hva2);
    if (rc)
        return rc;
    memcpy(all, bytes, have);
    memset(all + have, 0xff, sizeof(all) - have); /* outside RAM the bus reads as ones */
    if (hva2) {
        b->page2 = (uint32_t)mem_page(v->vm->c.mem, page2);
        b->gen2 = generation(c, b->page2);
        mmu_mark_code(v, page2 & ~(gpa_t)(MEM_PAGE - 1), (unsigned)sizeof(all) - have);
        memcpy(all + have, (const uint8_t *)((uintptr_t)hva2 & ~(uintptr_t)(MEM_PAGE - 1)),
               sizeof(all) - have);
    } else {
        b->page2 = BLOCK_NO_PAGE - 1; /* never equals a page: decoded anew each time */
    }
    int len = decode_insn(&c->decode, v, all, sizeof(all), 0, &b->insn[0]);
    if (len < 0)
        return len;
    b->n = 1;
    b->bytes = (uint16_t)len;
    return SOFT_OK;
}

/* Fills the block from a copy of the bytes. 0, an enum soft_stop, or -ENOSPC. */
static int decode_run(struct blocks *c, struct vcpu *v, struct block *b, const struct source *src,
                      const uint8_t *bytes, unsigned have)
{
    unsigned max = src->mode & BLOCK_SINGLE ? 1 : BLOCK_INSNS_MAX, pos = 0;

    b->page2 = BLOCK_NO_PAGE;
    for (b->n = 0; b->n < max; b->n++) {
        struct insn *i = &b->insn[b->n];
        int len = pos < have ? decode_insn(&c->decode, v, bytes + pos, have - pos, pos, i) : 0;

        if (len < 0)
            return len;
        if (len == 0 || pos + (unsigned)len > src->limit) {
            if (b->n) /* the block ends before it */
                break;
            if (len == 0 && have < src->limit)
                return decode_straddling(c, v, b, src, bytes, have);
            return soft_exc_err(v, VEC_GP, 0); /* beyond the limit of CS */
        }
        pos += (unsigned)len;
        if (i->flags & I_ENDS) {
            b->n++;
            break;
        }
    }
    b->bytes = (uint16_t)pos;
    return SOFT_OK;
}

/* Decode until the bytes are known to be those in memory when the page was marked as code: other
 * vCPUs may write them meanwhile, unseen until it is marked. */
static int decode_block(struct blocks *c, struct vcpu *v, struct block *b, const struct source *src)
{
    unsigned room = MEM_PAGE - (src->gpa & (MEM_PAGE - 1));
    unsigned have = src->mode & BLOCK_SINGLE ? DECODE_BYTES_MAX : BLOCK_COPY;
    uint8_t bytes[BLOCK_COPY];
    int rc;

    if (have > room)
        have = room;
    if (have > src->limit)
        have = src->limit;
    for (unsigned tries = 0;; tries++) {
        b->gen = generation(c, b->page);
        memcpy(bytes, src->hva, have);
        rc = decode_run(c, v, b, src, bytes, have);
        if (rc)
            return rc;
        unsigned in_page = b->bytes < have ? b->bytes : have;
        mmu_mark_code(v, src->gpa, in_page);
        if (tries >= BLOCK_RETRIES ||
            (!memcmp(bytes, src->hva, in_page) && generation(c, b->page) == b->gen))
            return SOFT_OK;
    }
}

/* The block is whole: give it its place in the table. */
static void keep(struct blocks *c, struct vcpu *v, struct block *b)
{
    unsigned n = b->n;

    if (!(b->insn[n - 1].flags & I_ENDS))
        decode_fall_through(&b->insn[n++], b->bytes);
    v->stats.blocks++;
    if (v->bare) /* another engine writes to memory unseen: nothing may be remembered */
        return;
    c->used += (sizeof(*b) + n * sizeof(struct insn) + 15) & ~(size_t)15;
    struct block **at = bucket(c, b->gpa, b->mode);
    b->next = *at;
    *at = b;
}

static struct block *new_block(struct blocks *c, struct vcpu *v, const struct source *src)
{
    struct block *b = (struct block *)(c->arena + c->used);

    memset(b, 0, sizeof(*b));
    b->gpa = src->gpa;
    b->mode = src->mode;
    b->page = (uint32_t)mem_page(v->vm->c.mem, src->gpa);
    return b;
}

static struct block *build(struct blocks *c, struct vcpu *v, const struct source *src, int *stop)
{
    struct block *b;

    if (c->used + BLOCK_SIZE_MAX > BLOCKS_BYTES || native_room(c->decode.native) < NATIVE_ROOM)
        flush(c, v);
    b = new_block(c, v, src);
    *stop = decode_block(c, v, b, src);
    if (*stop == -ENOSPC) {
        flush(c, v);
        b = new_block(c, v, src);
        *stop = decode_block(c, v, b, src);
    }
    if (*stop < 0)
        BUG("no room for the code of one block in an empty cache");
    if (*stop)
        return NULL;
    keep(c, v, b);
    return b;
}

/* --- finding ---------------------------------------------------------------------------- */

/* Both halves of a straddling block must still be what they were, and mapped as they were. */
static bool second_page_same(struct blocks *c, struct vcpu *v, const struct block *b, gva_t lin)
{
    const uint8_t *hva;
    gpa_t page;
    gva_t lin2 = (lin | (MEM_PAGE - 1)) + 1;

    if (b->page2 == BLOCK_NO_PAGE)
        return true;
    if ((v->mode & MODE_CS) != MODE_CS64)
        lin2 = (uint32_t)lin2;
    /* A fault here is met again, and reported, when the block is built anew. */
    if (mmu_fetch_page(v, lin2, &page, &hva) || !hva)
        return false;
    return mem_page(v->vm->c.mem, page) == b->page2 && generation(c, b->page2) == b->gen2;
}

/* The valid block for the source, unlinking a stale one; NULL if there is none. */
static struct block *lookup(struct blocks *c, struct vcpu *v, const struct source *src)
{
    for (struct block **at = bucket(c, src->gpa, src->mode); *at; at = &(*at)->next) {
        struct block *b = *at;

        if (b->gpa != src->gpa || b->mode != src->mode)
            continue;
        if (blocks_valid(c, b) && second_page_same(c, v, b, src->lin))
            return b;
        *at = b->next;
        return NULL;
    }
    return NULL;
}

/* Where to fetch from: segment, canonical form, paging. 0 or why not. */
static int locate(struct vcpu *v, bool single, struct source *src)
{
    const struct x86_seg *cs = &v->s.seg[SEG_CS];
    uint64_t rip = v->s.rip, left = BLOCK_COPY;
    gpa_t page;

    src->mode = (v->mode & BLOCK_MODE) | (single ? BLOCK_SINGLE : 0);
    if ((v->mode & MODE_CS) == MODE_CS64) {
        if (!operand_canonical(rip))
            return soft_exc_err(v, VEC_GP, 0);
        src->lin = rip;
    } else {
        if (rip > cs->limit)
            return soft_exc_err(v, VEC_GP, 0);
        src->lin = (uint32_t)(cs->base + rip);
        left = cs->limit - rip + 1;
    }
    src->limit = left < BLOCK_COPY ? (unsigned)left : BLOCK_COPY;
    int rc = mmu_fetch_page(v, src->lin, &page, &src->hva);
    if (rc)
        return rc;
    src->gpa = (page & ~(gpa_t)(MEM_PAGE - 1)) | (src->lin & (MEM_PAGE - 1));
    if (src->hva)
        src->hva = (const uint8_t *)(((uintptr_t)src->hva & ~(uintptr_t)(MEM_PAGE - 1)) |
                                     (src->lin & (MEM_PAGE - 1)));
    return SOFT_OK;
}

/* The block that was last entered at `rip`, if it is the one again: after a change of CR3 most are,
 * and this spares the walk of the bucket. */
static struct block *last_there(struct blocks *c, const struct jump *slot, uint64_t rip,
                                const struct source *src)
{
    struct block *b = slot->to == rip ? slot->b : NULL;

    return b && b->gpa == src->gpa && b->mode == src->mode && blocks_valid(c, b) ? b : NULL;
}

static int decode_once(struct blocks *c, struct vcpu *v, struct block *b, const struct source *src)
{
    unsigned room = MEM_PAGE - (src->gpa & (MEM_PAGE - 1));
    unsigned have = room < DECODE_BYTES_MAX ? room : DECODE_BYTES_MAX;
    uint8_t bytes[DECODE_BYTES_MAX];

    b->gen = generation(c, b->page);
    if (have > src->limit)
        have = src->limit;
    memcpy(bytes, src->hva, have);
    int rc = decode_run(c, v, b, src, bytes, have);
    if (rc == SOFT_OK && !(b->insn[0].flags & I_ENDS))
        decode_fall_through(&b->insn[1], b->bytes);
    return rc;
}

struct block *blocks_once(struct blocks *c, struct vcpu *v, int *stop)
{
    struct source src;
    struct block *b;

    *stop = locate(v, true, &src);
    if (*stop)
        return NULL;
    if (!src.hva)
        return c->none;
    if (c->used + BLOCK_SIZE_MAX > BLOCKS_BYTES || native_room(c->decode.native) < NATIVE_ROOM)
        flush(c, v);
    b = new_block(c, v, &src);
    *stop = decode_once(c, v, b, &src);
    BUG_ON(*stop == -ENOSPC); /* there is room for a block's native code, and this is less */
    return *stop ? NULL : b;
}

struct block *blocks_find(struct blocks *c, struct vcpu *v, struct block *from, bool single,
                          int *stop)
{
    uint64_t rip = v->s.rip, key = blocks_key(c, v);
    struct jump *slot = jump_slot(c, rip);
    struct source src;
    struct block *b;

    if (!single && slot->to == rip && slot->key == key && blocks_valid(c, slot->b)) {
        b = slot->b;
    } else {
        *stop = locate(v, single, &src);
        if (*stop)
            return NULL;
        if (!src.hva)
            return c->none;
        b = last_there(c, slot, rip, &src);
        if (!b)
            b = lookup(c, v, &src);
        /* A block that reaches beyond this segment's limit: stop at the limit. */
        if (b && b->bytes > src.limit && !single)
            return blocks_find(c, v, NULL, true, stop);
        if (!b || b->bytes > src.limit) {
            uint64_t epoch = c->epoch;

            b = build(c, v, &src, stop);
            if (!b)
                return NULL;
            if (epoch != c->epoch) /* flushed: `from` is gone, and keys are old */
                return b;
        }
        if (single || b->page2 != BLOCK_NO_PAGE || !(v->mode & MODE_FLAT))
            return b; /* must be looked up the long way each time */
        *slot = (struct jump){.to = rip, .key = key, .b = b};
    }
    if (from && !single) {
        from->link[from->turn] = (struct jump){.to = rip, .key = key, .b = b};
        from->turn = (from->turn + 1) % BLOCK_LINKS;
    }
    return b;
}
