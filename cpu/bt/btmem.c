#include "cpu/bt/bt.h"

#include "cpu/soft/mmu.h"

/* The look-up: index from the page number, XOR with the tag leaves the offset into the page when
 * the tag is the page's, and something larger when not; one compare catches both a wrong tag and an
 * access that crosses the page's end. */
void btmem_lookup(struct emit *e, struct lookup *l, unsigned set, bool write, unsigned bytes,
                  unsigned align)
{
    uint32_t page = btmem_tag(set, false) - (uint32_t)offsetof(struct btlb_entry, rtag) +
                    (uint32_t)offsetof(struct btlb_entry, page);

    l->retry = emit_here(e);
    l->n_cold = 0;
    emit_mov32_rr(e, T1, T0);
    emit_shr_imm(e, false, T1, MEM_PAGE_SHIFT - BTLB_SHIFT);
    emit_alu_imm(e, false, 4, T1, (BTLB_SIZE - 1) << BTLB_SHIFT);
    emit_gs_base(e, true, 0x33, T0, T1, btmem_tag(set, write)); /* xor T0, tag */
    emit_alu_imm(e, true, 7, T0, MEM_PAGE - bytes);             /* cmp T0, last offset that fits */
    l->to_cold[l->n_cold++] = emit_jcc_fwd(e, CC_A);
    if (align > 1) {
        emit_rex(e, false, 0, 0, T0); /* test T0b, align - 1 */
        emit_1(e, 0xf6);
        emit_1(e, 0xc0 | (T0 & 7));
        emit_1(e, (uint8_t)(align - 1));
        l->to_cold[l->n_cold++] = emit_jcc_fwd(e, CC_NE);
    }
    emit_gs_base(e, true, 0x03, T0, T1, page);
    l->found = emit_here(e);
    l->bytes = (uint8_t)bytes;
    l->align = (uint8_t)align;
    l->site = (l->site & (SITE_OFF | SITE_ENDS)) | (write ? SITE_WRITE : 0) | set << SITE_SET_SHIFT;
}

/* T1 is still the index: the stub makes T0 the linear address again. */
void btmem_cold(struct emit *e, const struct bt_vm *b, bool vec, const struct lookup *l)
{
    for (unsigned i = 0; i < l->n_cold; i++)
        emit_patch(e, l->to_cold[i]);
    emit_call(e, b->stub_miss[l->site >> SITE_SET_SHIFT & 3][!!(l->site & SITE_WRITE)][vec]);
    const uint8_t *here = emit_here(e);
    struct miss_site m = {
        .site = (uint16_t)l->site,
        .retry = (int16_t)(l->retry - here),
        .found = (int16_t)(l->found - here),
        .after = (int16_t)(l->after - here),
        .bytes = l->bytes,
        .align = l->align,
        .leads = l->leads,
    };
    emit_bytes(e, &m, sizeof(m));
}

/* Note that entry i of the set was filled: who flushes looks only at those. */
static void touch(struct bt_cpu *c, unsigned set, unsigned i, bool global)
{
    struct btlb_entry *t = &c->tlb[set][i];
    uint64_t in = global ? BTLB_IN_GLOBAL : BTLB_IN_LOCAL;

    t->in = (t->in & ~(uint64_t)BTLB_GLOBAL) | (global ? BTLB_GLOBAL : 0);
    if (t->in & in)
        return;
    t->in |= in;
    c->touched[set][global][c->n_touched[set][global]++] = (uint16_t)i;
}

bool btmem_fill(struct bt_cpu *c, unsigned set, uint64_t lin, bool write)
{
    struct vcpu *v = &c->v;
    unsigned i = (unsigned)(lin >> MEM_PAGE_SHIFT) & (BTLB_SIZE - 1);
    struct btlb_entry *t = &c->tlb[set][i];
    uint64_t page = lin & ~(uint64_t)(MEM_PAGE - 1);
    unsigned access = write ? MMU_WRITE : MMU_READ;
    uint8_t *hva = NULL;
    unsigned room;

    v->stats.tlb_misses++;
    if ((int64_t)(lin << 16) >> 16 != (int64_t)lin)
        return false; /* not canonical: #GP or #SS, by the interpreter */
    if (mmu_span(v, lin, access, &hva, &room) != SOFT_OK || !hva)
        return false;
    uint64_t host = (uint64_t)(uintptr_t)hva & ~(uint64_t)(MEM_PAGE - 1);
    if (t->page != host || (t->rtag != page && t->wtag != page))
        t->rtag = t->wtag = btlb_invalid(i);
    touch(c, set, i, mmu_is_global(v, lin, access));
    t->page = host;
    if (write)
        t->wtag = page;
    else
        t->rtag = page;
    return true;
}

/* Empties one list of a set; an entry that was filled anew for the other kind of page stays. */
static void flush_list(struct bt_cpu *c, unsigned set, bool global, bool all)
{
    uint64_t in = global ? BTLB_IN_GLOBAL : BTLB_IN_LOCAL;

    for (unsigned k = 0; k < c->n_touched[set][global]; k++) {
        unsigned i = c->touched[set][global][k];
        struct btlb_entry *t = &c->tlb[set][i];

        t->in &= ~in;
        if (all || !(t->in & BTLB_GLOBAL))
            t->rtag = t->wtag = btlb_invalid(i);
    }
    c->n_touched[set][global] = 0;
}

void btmem_flush(struct bt_cpu *c)
{
    for (unsigned s = 0; s < TLB_SETS; s++) {
        flush_list(c, s, false, true);
        flush_list(c, s, true, true);
    }
}

void btmem_flush_local(struct bt_cpu *c)
{
    for (unsigned s = 0; s < TLB_SETS; s++)
        flush_list(c, s, false, false);
}

void btmem_flush_page(struct bt_cpu *c, uint64_t lin)
{
    unsigned i = (unsigned)(lin >> MEM_PAGE_SHIFT) & (BTLB_SIZE - 1);

    for (unsigned s = 0; s < TLB_SETS; s++)
        c->tlb[s][i].rtag = c->tlb[s][i].wtag = btlb_invalid(i);
}

void btmem_drop_write(struct bt_cpu *c, uint64_t page)
{
    for (unsigned s = 0; s < TLB_SETS; s++) {
        for (unsigned global = 0; global < 2; global++) {
            for (unsigned k = 0; k < c->n_touched[s][global]; k++) {
                unsigned i = c->touched[s][global][k];

                if (!page || c->tlb[s][i].page == page)
                    c->tlb[s][i].wtag = btlb_invalid(i);
            }
        }
    }
}
