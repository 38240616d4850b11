#include "cpu/bt/bt.h"

#include "cpu/soft/mmu.h"

/* The look-up: index from the page number, XOR with the tag leaves the offset into the page when
 * the tag is the page's, and something larger when not; one compare catches both a wrong tag and an
 * access that crosses the page's end. */
void btmem_lookup(struct emit *e, struct lookup *l, unsigned set, bool write, unsigned bytes,
                  unsigned align)
{
    uint32_t base = (uint32_t)offsetof(struct bt_cpu, tlb) +
                    set * (uint32_t)sizeof(((struct bt_cpu *)0)->tlb[0]);
    uint32_t tag = base + (uint32_t)(write ? offsetof(struct btlb_entry, wtag)
                                           : offsetof(struct btlb_entry, rtag));

    l->retry = emit_here(e);
    l->n_cold = 0;
    emit_mov32_rr(e, T1, T0);
    emit_shr_imm(e, false, T1, MEM_PAGE_SHIFT - BTLB_SHIFT);
    emit_alu_imm(e, false, 4, T1, (BTLB_SIZE - 1) << BTLB_SHIFT);
    emit_gs_base(e, true, 0x33, T0, T1, tag);       /* xor T0, tag */
    emit_alu_imm(e, true, 7, T0, MEM_PAGE - bytes); /* cmp T0, last offset that fits */
    l->to_cold[l->n_cold++] = emit_jcc_fwd(e, CC_A);
    if (align > 1) {
        emit_rex(e, false, 0, 0, T0); /* test T0b, align - 1 */
        emit_1(e, 0xf6);
        emit_1(e, 0xc0 | (T0 & 7));
        emit_1(e, (uint8_t)(align - 1));
        l->to_cold[l->n_cold++] = emit_jcc_fwd(e, CC_NE);
    }
    emit_gs_base(e, true, 0x03, T0, T1, base + (uint32_t)offsetof(struct btlb_entry, page));
    l->site = (l->site & (SITE_OFF | SITE_ENDS)) | (write ? SITE_WRITE : 0) | set << SITE_SET_SHIFT;
}

/* T1 is still the index: XOR again gives the address back. The stub returns here to look up again,
 * or 5 bytes further when it has executed the instruction. */
void btmem_cold(struct emit *e, const struct bt_vm *b, const struct lookup *l)
{
    unsigned set = l->site >> SITE_SET_SHIFT & 3;
    uint32_t base = (uint32_t)offsetof(struct bt_cpu, tlb) +
                    set * (uint32_t)sizeof(((struct bt_cpu *)0)->tlb[0]);
    uint32_t tag = base + (uint32_t)(l->site & SITE_WRITE ? offsetof(struct btlb_entry, wtag)
                                                          : offsetof(struct btlb_entry, rtag));

    for (unsigned i = 0; i < l->n_cold; i++)
        emit_patch(e, l->to_cold[i]);
    emit_gs_base(e, true, 0x33, T0, T1, tag);
    emit_mov_imm32(e, T1, l->site);
    emit_call(e, b->stub_miss);
    emit_jmp(e, l->retry);
    emit_jmp(e, l->after);
}

bool btmem_fill(struct bt_cpu *c, unsigned set, uint64_t lin, bool write)
{
    struct vcpu *v = c->v;
    unsigned i = (unsigned)(lin >> MEM_PAGE_SHIFT) & (BTLB_SIZE - 1);
    struct btlb_entry *t = &c->tlb[set][i];
    uint64_t page = lin & ~(uint64_t)(MEM_PAGE - 1);
    uint8_t *hva = NULL;
    unsigned room;

    v->stats.tlb_misses++;
    if ((int64_t)(lin << 16) >> 16 != (int64_t)lin)
        return false; /* not canonical: #GP or #SS, by the interpreter */
    if (mmu_span(v, lin, write ? MMU_WRITE : MMU_READ, &hva, &room) != SOFT_OK || !hva)
        return false;
    uint64_t host = (uint64_t)(uintptr_t)hva & ~(uint64_t)(MEM_PAGE - 1);
    if (t->rtag == btlb_invalid(i) && t->wtag == btlb_invalid(i))
        c->touched[set][c->n_touched[set]++] = (uint16_t)i;
    if (t->page != host || (t->rtag != page && t->wtag != page))
        t->rtag = t->wtag = btlb_invalid(i);
    t->page = host;
    if (write)
        t->wtag = page;
    else
        t->rtag = page;
    return true;
}

void btmem_flush(struct bt_cpu *c)
{
    for (unsigned s = 0; s < TLB_SETS; s++) {
        for (unsigned k = 0; k < c->n_touched[s]; k++) {
            unsigned i = c->touched[s][k];

            c->tlb[s][i].rtag = c->tlb[s][i].wtag = btlb_invalid(i);
        }
        c->n_touched[s] = 0;
    }
}

void btmem_flush_page(struct bt_cpu *c, uint64_t lin)
{
    unsigned i = (unsigned)(lin >> MEM_PAGE_SHIFT) & (BTLB_SIZE - 1);

    for (unsigned s = 0; s < TLB_SETS; s++) {
        struct btlb_entry *t = &c->tlb[s][i];

        if (t->rtag != btlb_invalid(i) || t->wtag != btlb_invalid(i))
            t->rtag = t->wtag = btlb_gone(i);
    }
}
