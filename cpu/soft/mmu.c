#include "cpu/soft/mmu.h"

#include <assert.h>

#include "cpu/soft/overlay.h"

#define PTE_P 1ull
#define PTE_W 2ull
#define PTE_U 4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PS 0x80ull
#define PTE_G 0x100ull
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

enum { /* page-fault error code, SDM vol 3A, 4.7 */
       PF_P = 1,
       PF_W = 2,
       PF_U = 4,
       PF_RSVD = 8,
       PF_I = 16,
};

enum { WALK_NX = 1, WALK_NOFAULT = 2 };

/* What a walk found, or the fault it met. */
struct walk {
    gpa_t gpa;      /* of the byte */
    unsigned shift; /* log2 of the page's size */
    bool user, writable, exec, global;
    uint32_t fault; /* error-code bits when not translated: 0 or PF_P | PF_RSVD */
    struct {
        gpa_t gpa;
        uint64_t val;
    } entry[4]; /* those used, for A and D */
    unsigned n;
    bool wide; /* 8-byte entries */
};

const struct tlb_entry mmu_no_fast_path[TLB_SIZE] = {
    [0 ... TLB_SIZE - 1] = {.rd = TLB_INVALID, .wr = TLB_INVALID, .ex = TLB_INVALID},
};

static bool is_write(unsigned access)
{
    return (access & 3) == MMU_WRITE || (access & 3) == MMU_RMW;
}

static unsigned set_of(const struct vcpu *v, unsigned access)
{
    if ((access & MMU_USER) || (soft_cpl(v) == 3 && !(access & (MMU_IMPLICIT | MMU_SUPER))))
        return TLB_USER;
    if (!(v->s.cr4 & CR4_SMAP) || !(v->s.cr0 & CR0_PG))
        return TLB_KERNEL;
    if (access & MMU_IMPLICIT)
        return TLB_KERNEL_SMAP;
    return v->s.rflags & FL_AC ? TLB_KERNEL : TLB_KERNEL_SMAP;
}

/* A table outside RAM reads as ones, as the bus would: a reserved-bit fault. */
static uint64_t load_entry(const struct vcpu *v, gpa_t gpa, bool wide)
{
    const uint8_t *p = mem_hva(v->vm->c.mem, gpa);
    uint64_t e;

    if (!p)
        return wide ? UINT64_MAX : UINT32_MAX;
    if (wide)
        e = __atomic_load_n((const uint64_t *)(const void *)p, __ATOMIC_RELAXED);
    else
        e = __atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_RELAXED);
    if (v->overlay)
        overlay_load(v->overlay, p, &e, wide ? 8 : 4);
    return e;
}

static uint64_t reserved_bits(const struct vcpu *v)
{
    uint64_t r = PTE_ADDR & ~((1ull << v->vm->c.model->phys_bits) - 1);

    return v->s.efer & EFER_NXE ? r : r | PTE_NX;
}

/* One entry read: false when the walk ends here with w->fault. */
static bool take_entry(const struct vcpu *v, struct walk *w, gpa_t at, uint64_t rsvd, uint64_t *out)
{
    uint64_t e = load_entry(v, at, w->wide);

    if (!(e & PTE_P)) {
        w->fault = 0;
        return false;
    }
    if (e & rsvd) {
        w->fault = PF_P | PF_RSVD;
        return false;
    }
    w->entry[w->n].gpa = at;
    w->entry[w->n++].val = e;
    w->user &= !!(e & PTE_U);
    w->writable &= !!(e & PTE_W);
    w->exec &= !(w->wide && (e & PTE_NX));
    *out = e;
    return true;
}

static void finish(struct walk *w, gva_t gva, uint64_t e, uint64_t base, unsigned shift)
{
    w->shift = shift;
    w->global = e & PTE_G;
    w->gpa = base | (gva & ((1ull << shift) - 1));
}

/* 4-level and PAE paging: SDM vol 3A, 4.4 and 4.5. */
static bool walk_wide(const struct vcpu *v, gva_t gva, struct walk *w)
{
    bool lma = v->s.efer & EFER_LMA;
    uint64_t rsvd = reserved_bits(v);
    gpa_t table = lma ? v->s.cr3 & PTE_ADDR : v->s.cr3 & 0xffffffe0u;
    uint64_t e = 0;

    for (int level = lma ? 3 : 2; level >= 0; level--) {
        unsigned shift = 12 + 9 * (unsigned)level;
        unsigned index = (gva >> shift) & 0x1ff;
        uint64_t bad = rsvd;

        if (!lma && level == 2) { /* PDPTE: no R/W, U/S, A; other bits reserved (table 4-8) */
            e = load_entry(v, table + index * 8, true);
            w->fault = e & PTE_P ? PF_P | PF_RSVD : 0;
            if (!(e & PTE_P) || (e & (reserved_bits(v) | PTE_NX | 0x1e6)))
                return false;
            table = e & PTE_ADDR;
            continue;
        }
        if (level == 3)
            bad |= PTE_PS;
        if (!take_entry(v, w, table + index * 8, bad, &e))
            return false;
        if (level == 0 || (level < 3 && (e & PTE_PS))) {
            uint64_t low = ((1ull << shift) - 1) & PTE_ADDR;

            if (level > 0 && (e & low & ~0x1000ull)) { /* bit 12 is PAT */
                w->fault = PF_P | PF_RSVD;
                return false;
            }
            finish(w, gva, e, e & PTE_ADDR & ~low, shift);
            return true;
        }
        table = e & PTE_ADDR;
    }
    return false; /* not reached: level 0 always ends the walk */
}

/* 32-bit paging: SDM vol 3A, 4.3. 4 MiB pages with PSE-36. */
static bool walk_narrow(const struct vcpu *v, gva_t gva, struct walk *w)
{
    uint64_t e;

    if (!take_entry(v, w, (v->s.cr3 & 0xfffff000u) + (gva >> 22) * 4, 0, &e))
        return false;
    if ((e & PTE_PS) && (v->s.cr4 & CR4_PSE)) {
        if (e & (1u << 21)) { /* with 40 or more physical bits only bit 21 is reserved */
            w->fault = PF_P | PF_RSVD;
            return false;
        }
        finish(w, gva, e, (e & 0xffc00000u) | ((e >> 13 & 0xff) << 32), 22);
        return true;
    }
    if (!take_entry(v, w, (e & 0xfffff000u) + ((gva >> 12) & 0x3ff) * 4, 0, &e))
        return false;
    finish(w, gva, e, e & 0xfffff000u, 12);
    return true;
}

static bool walk(const struct vcpu *v, gva_t gva, struct walk *w)
{
    memset(w, 0, sizeof(*w));
    w->user = w->writable = w->exec = true;
    w->wide = v->s.cr4 & CR4_PAE;
    if (!(v->s.cr0 & CR0_PG)) {
        w->gpa = gva;
        w->shift = MEM_PAGE_SHIFT;
        return true;
    }
    return w->wide ? walk_wide(v, gva, w) : walk_narrow(v, gva, w);
}

/* Rights of the page for a privilege: SDM vol 3A, 4.6.1. */
struct rights {
    bool r, w, x;
};

static struct rights rights_of(const struct vcpu *v, const struct walk *w, unsigned set)
{
    if (!(v->s.cr0 & CR0_PG))
        return (struct rights){true, true, true};
    if (set == TLB_USER)
        return (struct rights){w->user, w->user && w->writable, w->user && w->exec};
    bool data = !(w->user && set == TLB_KERNEL_SMAP);
    return (struct rights){
        .r = data,
        .w = data && (w->writable || !(v->s.cr0 & CR0_WP)),
        .x = w->exec && !(w->user && (v->s.cr4 & CR4_SMEP)),
    };
}

static int fault(struct vcpu *v, gva_t gva, unsigned access, unsigned set, uint32_t bits)
{
    bool nx = (v->s.efer & EFER_NXE) && (v->s.cr4 & CR4_PAE);

    if (is_write(access))
        bits |= PF_W;
    if (set == TLB_USER)
        bits |= PF_U;
    if ((access & 3) == MMU_EXEC && (nx || (v->s.cr4 & CR4_SMEP)))
        bits |= PF_I;
    return soft_exc_pf(v, gva, bits);
}

static void code_hit(struct soft_vm *vm, int64_t page, uint64_t chunks)
{
    struct mem *m = vm->c.mem;

    if (!(atomic_load_explicit(&m->code[page], memory_order_relaxed) & chunks))
        return;
    /* Clear, then bump: who marks after the clear has already seen the new bytes or takes the old
     * generation with it. */
    atomic_fetch_and(&m->code[page], ~chunks);
    atomic_fetch_add(&vm->code_gen[page], 1);
    vm->ops->code_written(vm, page, chunks);
}

/* Bytes [gpa, gpa+len) of one RAM page were stored past the fast path. */
static void stored(struct vcpu *v, gpa_t gpa, size_t len)
{
    struct mem *m = v->vm->c.mem;
    int64_t page = mem_page(m, gpa);

    mem_mark_dirty(m, page);
    atomic_thread_fence(memory_order_seq_cst); /* mem_wrote() says why */
    if (atomic_load_explicit(&m->code[page], memory_order_relaxed))
        code_hit(v->vm, page, mem_chunks(gpa & (MEM_PAGE - 1), len));
}

void mmu_code_written(struct soft_vm *vm, gpa_t gpa, size_t len)
{
    while (len) {
        unsigned off = gpa & (MEM_PAGE - 1);
        size_t n = len < MEM_PAGE - off ? len : MEM_PAGE - off;
        int64_t page = mem_page(vm->c.mem, gpa);

        if (page >= 0)
            code_hit(vm, page, mem_chunks(off, n));
        gpa += n;
        len -= n;
    }
}

/* Set A in all entries and D in the last. False: an entry changed under us, walk again. */
static bool set_ad(struct vcpu *v, struct walk *w, bool dirty)
{
    for (unsigned i = 0; i < w->n; i++) {
        uint64_t old = w->entry[i].val;
        uint64_t want = old | PTE_A | (dirty && i + 1 == w->n ? PTE_D : 0);
        uint8_t *p = mem_hva(v->vm->c.mem, w->entry[i].gpa);
        bool ok;

        if (want == old)
            continue;
        if (v->overlay) {
            (void)overlay_store(v->overlay, p, &want, w->wide ? 8 : 4); /* full: refused later */
            continue;
        }
        if (w->wide) {
            ok = __atomic_compare_exchange_n((uint64_t *)(void *)p, &old, want, false,
                                             __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        } else {
            uint32_t old32 = (uint32_t)old;

            ok = __atomic_compare_exchange_n((uint32_t *)(void *)p, &old32, (uint32_t)want, false,
                                             __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        }
        if (!ok)
            return false;
        stored(v, w->entry[i].gpa, w->wide ? 8 : 4);
    }
    return true;
}

/* `t` now describes the page at gva as `w` found it, for accesses of `set`. */
static void fill(struct vcpu *v, struct tlb_entry *t, gva_t gva, const struct walk *w, unsigned set,
                 struct rights r, bool write)
{
    struct mem *m = v->vm->c.mem;
    gva_t page = gva & ~(gva_t)(MEM_PAGE - 1);
    unsigned slot = (unsigned)(t - v->tlb[set]);
    uint8_t *hva = mem_hva(m, w->gpa & ~(gpa_t)(MEM_PAGE - 1));
    bool pg = v->s.cr0 & CR0_PG;

    t->gpa = w->gpa & ~(gpa_t)(MEM_PAGE - 1);
    t->rd = t->wr = t->ex = TLB_INVALID;
    t->flags = 0;
    t->shift = (uint8_t)w->shift;
    if (w->shift > MEM_PAGE_SHIFT)
        v->tlb_large[gva >> 63] = true;
    if (pg && w->global && (v->s.cr4 & CR4_PGE)) {
        t->flags |= TLBE_GLOBAL;
    } else {
        v->tlb_local[set][slot / 64] |= 1ull << (slot % 64);
    }
    if (!hva)
        return;
    t->addend = (uintptr_t)hva - page;
    t->rd = r.r ? page : TLB_INVALID;
    t->ex = r.x ? page : TLB_INVALID;
    if (!r.w || (pg && !(w->entry[w->n - 1].val & PTE_D)))
        return;
    int64_t n = mem_page(m, t->gpa);
    /* Under the log a page is dirty when it was written, not when it may be. */
    if (atomic_load_explicit(&m->code[n], memory_order_relaxed) || (m->dirty && !write)) {
        t->flags |= TLBE_WOK;
        return;
    }
    mem_mark_dirty(m, n);
    t->wr = page;
}

/* Entry for an access of this kind, checked and filled. For pages outside RAM no tag is set
 * but gpa is good. */
static int lookup(struct vcpu *v, gva_t gva, unsigned access, struct tlb_entry **out)
{
    unsigned set = set_of(v, access);
    gva_t page = gva & ~(gva_t)(MEM_PAGE - 1);
    struct tlb_entry *t = &v->tlb[set][(gva >> MEM_PAGE_SHIFT) & (TLB_SIZE - 1)];
    bool write = is_write(access);
    bool exec = (access & 3) == MMU_EXEC;
    struct walk w;

    *out = t;
    if (write ? t->wr == page : exec ? t->ex == page : t->rd == page)
        return SOFT_OK;
    /* A page that holds code: rights were checked when it was filled. Its last code may be gone. */
    if (write && t->rd == page && (t->flags & TLBE_WOK)) {
        int64_t n = mem_page(v->vm->c.mem, t->gpa);

        if (!atomic_load_explicit(&v->vm->c.mem->code[n], memory_order_relaxed)) {
            mem_mark_dirty(v->vm->c.mem, n);
            t->wr = page;
        }
        return SOFT_OK;
    }
    v->stats.tlb_walks++;
    do {
        if (!walk(v, gva, &w))
            return fault(v, gva, access, set, w.fault);
        struct rights r = rights_of(v, &w, set);
        if (write ? !r.w : exec ? !r.x : !r.r)
            return fault(v, gva, access, set, PF_P);
        if (!set_ad(v, &w, write))
            continue;
        if (v->overlay) {
            *out = &v->overlay->entry;
            v->overlay->entry.gpa = w.gpa & ~(gpa_t)(MEM_PAGE - 1);
            return v->overlay->refused ? SOFT_EXIT : SOFT_OK;
        }
        if (w.n && write)
            w.entry[w.n - 1].val |= PTE_D;
        fill(v, t, gva, &w, set, r, write);
        return SOFT_OK;
    } while (true);
}

/* Guest loads and stores of 1, 2, 4 and 8 bytes are single accesses, as TSO needs. */
static void copy_in(void *dst, const uint8_t *hva, unsigned len)
{
    switch (len) {
    case 1:
        *(uint8_t *)dst = *(const volatile uint8_t *)hva;
        break;
    case 2: {
        uint16_t x = *(const mmu_u16 *)hva;
        memcpy(dst, &x, 2);
        break;
    }
    case 4: {
        uint32_t x = *(const mmu_u32 *)hva;
        memcpy(dst, &x, 4);
        break;
    }
    case 8: {
        uint64_t x = *(const mmu_u64 *)hva;
        memcpy(dst, &x, 8);
        break;
    }
    default:
        memcpy(dst, hva, len);
    }
}

static void copy_out(uint8_t *hva, const void *src, unsigned len)
{
    uint64_t x = 0;

    memcpy(&x, src, len < 8 ? len : 8);
    switch (len) {
    case 1:
        *(volatile uint8_t *)hva = (uint8_t)x;
        break;
    case 2:
        *(mmu_u16 *)hva = (uint16_t)x;
        break;
    case 4:
        *(mmu_u32 *)hva = (uint32_t)x;
        break;
    case 8:
        *(mmu_u64 *)hva = x;
        break;
    default:
        memcpy(hva, src, len);
    }
}

/* Device registers are accessed whole: only operands above 8 bytes and odd tails are split. */
static unsigned mmio_piece(unsigned len)
{
    return len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;
}

static int mmio_read(struct vcpu *v, gpa_t gpa, uint8_t *dst, unsigned len)
{
    while (len) {
        unsigned n = mmio_piece(len);
        uint64_t x = 0;
        int r = soft_mmio(v, gpa, n, false, &x);

        if (r)
            return r;
        memcpy(dst, &x, n);
        dst += n;
        gpa += n;
        len -= n;
    }
    return SOFT_OK;
}

static int mmio_write(struct vcpu *v, gpa_t gpa, const uint8_t *src, unsigned len)
{
    while (len) {
        unsigned n = mmio_piece(len);
        uint64_t x = 0;

        memcpy(&x, src, n);
        int r = soft_mmio(v, gpa, n, true, &x);
        if (r)
            return r;
        src += n;
        gpa += n;
        len -= n;
    }
    return SOFT_OK;
}

/* #AC: SDM vol 3A, 6.15. Operands of other sizes are vectors, which have rules of their own. */
static bool misaligned(const struct vcpu *v, gva_t gva, unsigned len, unsigned access)
{
    return v->align_check && !(access & ~3u) && (len == 2 || len == 4 || len == 8) &&
           (gva & (len - 1));
}

/* Breakpoint registers on data that [gva, gva+len) touches: SDM vol 3B, 17.2.4 and 17.2.5. */
static uint64_t watched(const struct vcpu *v, gva_t gva, unsigned len, bool write)
{
    uint64_t dr7 = v->s.dr[7], hit = 0;

    for (unsigned i = 0; i < 4; i++) {
        static const uint8_t bytes[] = {1, 2, 8, 4}; /* by LEN */
        unsigned rw = dr7 >> (16 + 4 * i) & 3, size = bytes[dr7 >> (18 + 4 * i) & 3];
        gva_t from = v->s.dr[i] & ~(gva_t)(size - 1);

        if ((dr7 & (3ull << (2 * i))) && (write ? rw & 1 : rw == 3) &&
            (gva - from < size || from - gva < len))
            hit |= 1ull << i;
    }
    return hit;
}

static void meet(struct vcpu *v, gva_t gva, unsigned len, unsigned access)
{
    if (v->watch && !(access & MMU_IMPLICIT))
        v->watch_hit |= watched(v, gva, len, is_write(access));
}

static bool crosses(gva_t gva, unsigned len)
{
    return (gva & (MEM_PAGE - 1)) + len > MEM_PAGE;
}

/* Next byte's address: legacy modes wrap at 4 GiB. */
static gva_t advance(const struct vcpu *v, gva_t gva, unsigned n)
{
    gva += n;
    return v->s.efer & EFER_LMA ? gva : (uint32_t)gva;
}

int mmu_read_slow(struct vcpu *v, gva_t gva, void *dst, unsigned len, unsigned access)
{
    struct tlb_entry *t;

    if (misaligned(v, gva, len, access))
        return soft_exc_err(v, VEC_AC, 0);
    if (crosses(gva, len)) {
        unsigned first = MEM_PAGE - (gva & (MEM_PAGE - 1));
        int r = mmu_probe(v, gva, len, access);

        if (!r)
            r = mmu_read_slow(v, gva, dst, first, access);
        if (!r)
            r = mmu_read_slow(v, advance(v, gva, first), (uint8_t *)dst + first, len - first,
                              access);
        return r;
    }
    int r = lookup(v, gva, access, &t);
    if (r)
        return r;
    gpa_t gpa = t->gpa + (gva & (MEM_PAGE - 1));
    const uint8_t *hva = mem_hva(v->vm->c.mem, gpa);
    if (!hva)
        return mmio_read(v, gpa, dst, len);
    copy_in(dst, hva, len);
    if (v->overlay)
        overlay_load(v->overlay, hva, dst, len);
    meet(v, gva, len, access);
    return SOFT_OK;
}

/* A store that is only pretended: not into code, which would have to be decoded anew. */
static int store_beside(struct vcpu *v, gpa_t gpa, uint8_t *hva, const void *src, unsigned len)
{
    struct mem *m = v->vm->c.mem;
    uint64_t code = atomic_load_explicit(&m->code[mem_page(m, gpa)], memory_order_relaxed);

    if (code & mem_chunks(gpa & (MEM_PAGE - 1), len))
        return overlay_refuse(v->overlay);
    return overlay_store(v->overlay, hva, src, len);
}

int mmu_write_slow(struct vcpu *v, gva_t gva, const void *src, unsigned len, unsigned access)
{
    struct tlb_entry *t;

    if (misaligned(v, gva, len, access))
        return soft_exc_err(v, VEC_AC, 0);
    if (crosses(gva, len)) {
        unsigned first = MEM_PAGE - (gva & (MEM_PAGE - 1));
        int r = mmu_probe(v, gva, len, access);

        if (!r)
            r = mmu_write_slow(v, gva, src, first, access);
        if (!r)
            r = mmu_write_slow(v, advance(v, gva, first), (const uint8_t *)src + first, len - first,
                               access);
        return r;
    }
    int r = lookup(v, gva, access, &t);
    if (r)
        return r;
    gpa_t gpa = t->gpa + (gva & (MEM_PAGE - 1));
    uint8_t *hva = mem_hva(v->vm->c.mem, gpa);
    if (!hva)
        return mmio_write(v, gpa, src, len);
    if (v->overlay) {
        meet(v, gva, len, access);
        return store_beside(v, gpa, hva, src, len);
    }
    copy_out(hva, src, len);
    stored(v, gpa, len);
    meet(v, gva, len, access);
    return SOFT_OK;
}

int mmu_probe(struct vcpu *v, gva_t gva, unsigned len, unsigned access)
{
    struct tlb_entry *t;
    int r = lookup(v, gva, access, &t);

    if (!r && crosses(gva, len)) {
        gva_t next = advance(v, gva, MEM_PAGE - (gva & (MEM_PAGE - 1)));
        r = lookup(v, next, access, &t);
    }
    return r;
}

int mmu_rmw_ptr(struct vcpu *v, gva_t gva, unsigned len, uint8_t **hva)
{
    struct tlb_entry *t;

    *hva = NULL;
    if (misaligned(v, gva, len, MMU_RMW))
        return soft_exc_err(v, VEC_AC, 0);
    if (crosses(gva, len))
        return mmu_probe(v, gva, len, MMU_RMW);
    int r = lookup(v, gva, MMU_RMW, &t);
    if (!r && !v->watch && !v->overlay && t->wr == (gva & ~(gva_t)(MEM_PAGE - 1)))
        *hva = (uint8_t *)(gva + t->addend);
    return r;
}

int mmu_span(struct vcpu *v, gva_t gva, unsigned access, uint8_t **hva, unsigned *room)
{
    gva_t page = gva & ~(gva_t)(MEM_PAGE - 1);
    struct tlb_entry *t;
    int r = lookup(v, gva, access, &t);

    *hva = NULL;
    *room = MEM_PAGE - (gva & (MEM_PAGE - 1));
    if (!r && !v->watch && !v->overlay && (is_write(access) ? t->wr == page : t->rd == page))
        *hva = (uint8_t *)(gva + t->addend);
    return r;
}

/* Either who marks new code in the page sees it as mixed, and stops the world until the store is
 * made, or the marks are seen here. */
uint8_t *mmu_write_beside(struct vcpu *v, gva_t gva, unsigned len)
{
    gva_t page = gva & ~(gva_t)(MEM_PAGE - 1);
    const struct mem *m = v->vm->c.mem;
    struct tlb_entry *t = &v->tlb[set_of(v, MMU_WRITE)][(gva >> MEM_PAGE_SHIFT) & (TLB_SIZE - 1)];

    if (t->rd != page || !(t->flags & TLBE_WOK) || crosses(gva, len))
        return NULL;
    int64_t n = mem_page(m, t->gpa);
    atomic_store(&v->vm->mixed[n], 1);
    if (atomic_load(&m->code[n]) & mem_chunks(gva & (MEM_PAGE - 1), len))
        return NULL;
    mem_mark_dirty(v->vm->c.mem, n);
    return (uint8_t *)(gva + t->addend);
}

/* Position of a page in v->fetched. */
static uint64_t *fetched_word(struct vcpu *v, gva_t lin, uint64_t *bit)
{
    uint64_t n = lin >> MEM_PAGE_SHIFT;
    unsigned i = (n ^ n >> 10) & (sizeof(v->fetched[0]) * 8 - 1);

    *bit = 1ull << (i % 64);
    return &v->fetched[lin >> 63][i / 64];
}

/* Global pages are taken to lie in the upper half: what an engine keeps over a CR3 load it must
 * still be told of. */
static void tell_flush(struct vcpu *v, enum soft_flush what)
{
    memset(v->fetched[0], 0, sizeof(v->fetched[0]));
    if (what == FLUSH_ALL || what == FLUSH_CODE)
        memset(v->fetched[1], 0, sizeof(v->fetched[1]));
    v->vm->ops->flush(v, what);
}

int mmu_fetch_page(struct vcpu *v, gva_t lin, gpa_t *page, const uint8_t **hva)
{
    struct tlb_entry *t;
    int r = lookup(v, lin, MMU_EXEC, &t);

    if (r)
        return r;
    uint64_t bit, *word = fetched_word(v, lin, &bit);
    *word |= bit;
    *page = t->gpa;
    *hva = mem_hva(v->vm->c.mem, t->gpa);
    return SOFT_OK;
}

bool mmu_is_global(const struct vcpu *v, gva_t gva, unsigned access)
{
    const struct tlb_entry *t =
        &v->tlb[set_of(v, access)][(gva >> MEM_PAGE_SHIFT) & (TLB_SIZE - 1)];
    gva_t page = gva & ~(gva_t)(MEM_PAGE - 1);

    return (t->rd == page || t->ex == page) && (t->flags & TLBE_GLOBAL) && gva >> 63;
}

int64_t mmu_peek(struct vcpu *v, gva_t gva)
{
    struct walk w;

    return walk(v, gva, &w) ? (int64_t)w.gpa : -1;
}

/* --- code map --- */

static void drop_write(struct vcpu *v, gpa_t page)
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            struct tlb_entry *t = &v->tlb[set][i];

            if (t->wr != TLB_INVALID && t->gpa == page) {
                t->wr = TLB_INVALID;
                t->flags |= TLBE_WOK;
            }
        }
    }
    if (v->vm->ops->drop_write)
        v->vm->ops->drop_write(v, mem_hva(v->vm->c.mem, page));
}

void mmu_mark_code(struct vcpu *v, gpa_t gpa, unsigned len)
{
    mmu_mark_chunks(v, gpa, mem_chunks(gpa & (MEM_PAGE - 1), len));
}

/* Nobody may go on with a marked page before every vCPU has lost its fast writes there, even if
 * another one marked it first and is still at it: hence `marking`. */
void mmu_mark_chunks(struct vcpu *v, gpa_t gpa, uint64_t bits)
{
    struct soft_vm *vm = v->vm;
    int64_t page = mem_page(vm->c.mem, gpa);
    gpa_t base = gpa & ~(gpa_t)(MEM_PAGE - 1);

    if (page < 0)
        return;
    atomic_fetch_add(&vm->marking, 1);
    bool marked = atomic_fetch_or(&vm->c.mem->code[page], bits);
    bool mixed = atomic_load(&vm->mixed[page]);
    if (marked && !mixed && atomic_load(&vm->marking) == 1) {
        atomic_fetch_sub(&vm->marking, 1);
        return;
    }
    if (!marked)
        drop_write(v, base);
    if (vm->n > 1) {
        soft_world_stop(v);
        for (unsigned i = 0; i < CPUS_MAX; i++)
            if (vm->vcpu[i] && vm->vcpu[i] != v)
                drop_write(vm->vcpu[i], base);
        soft_world_start(v);
    }
    atomic_fetch_sub(&vm->marking, 1);
}

/* --- flushes --- */

static void clear(struct tlb_entry *t)
{
    t->rd = t->wr = t->ex = TLB_INVALID;
    t->flags = 0;
    t->shift = 0;
}

void mmu_flush_all(struct vcpu *v)
{
    soft_switches_changed(v);
    for (unsigned set = 0; set < TLB_SETS; set++)
        for (unsigned i = 0; i < TLB_SIZE; i++)
            clear(&v->tlb[set][i]);
    memset(v->tlb_local, 0, sizeof(v->tlb_local));
    v->tlb_large[0] = v->tlb_large[1] = false;
    v->stats.tlb_flushes++;
    tell_flush(v, FLUSH_ALL);
}

void mmu_flush_nonglobal(struct vcpu *v)
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned i = 0; i < TLB_SIZE / 64; i++) {
            uint64_t bits = v->tlb_local[set][i];

            v->tlb_local[set][i] = 0;
            for (; bits; bits &= bits - 1) {
                struct tlb_entry *t = &v->tlb[set][i * 64 + (unsigned)__builtin_ctzll(bits)];

                if (!(t->flags & TLBE_GLOBAL)) /* the slot may have been filled anew */
                    clear(t);
            }
        }
    }
    v->stats.tlb_flushes++;
    tell_flush(v, FLUSH_LOCAL);
}

/* A large page is cached in 4 KiB pieces; INVLPG drops all of them (SDM vol 3A, 4.10.4.1). */
static void flush_large(struct vcpu *v, gva_t gva)
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            struct tlb_entry *t = &v->tlb[set][i];
            gva_t tag = t->rd != TLB_INVALID ? t->rd : t->ex;

            if (t->shift > MEM_PAGE_SHIFT && !((tag ^ gva) >> t->shift))
                clear(t);
        }
    }
}

void mmu_flush_page(struct vcpu *v, gva_t gva)
{
    unsigned slot = (gva >> MEM_PAGE_SHIFT) & (TLB_SIZE - 1);

    for (unsigned set = 0; set < TLB_SETS; set++)
        clear(&v->tlb[set][slot]);
    bool large = v->tlb_large[gva >> 63];
    if (large)
        flush_large(v, gva);
    if (v->vm->ops->flush_page)
        v->vm->ops->flush_page(v, gva, large);
    uint64_t bit, *word = fetched_word(v, gva, &bit);
    if (large || (*word & bit))
        tell_flush(v, gva >> 63 ? FLUSH_CODE : FLUSH_CODE_LOW);
}

void mmu_flush_write(struct vcpu *v)
{
    for (unsigned set = 0; set < TLB_SETS; set++) {
        for (unsigned i = 0; i < TLB_SIZE; i++) {
            struct tlb_entry *t = &v->tlb[set][i];

            t->wr = TLB_INVALID;
            t->flags &= ~(uint32_t)TLBE_WOK;
        }
    }
    if (v->vm->ops->drop_write)
        v->vm->ops->drop_write(v, NULL);
}
