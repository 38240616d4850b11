#include "cpu/soft/event.h"

#include "cpu/soft/frame.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segload.h"

enum { /* gate types: SDM vol 3A, table 3-2 */
       GATE_TASK = 5,
       GATE_INT16 = 6,
       GATE_TRAP16 = 7,
       GATE_INT32 = 14,
       GATE_TRAP32 = 15,
};

enum { TSS64_RSP0 = 4, TSS64_IST1 = 0x24 }; /* SDM vol 3A, figure 7-11 */

struct gate {
    uint16_t sel;
    uint64_t offset;
    unsigned type, dpl, ist;
    unsigned size; /* bytes of a frame element */
    bool present;
};

struct delivery {
    unsigned vector;
    bool soft;    /* INT n, INT3, INTO: gate DPL is checked, EXT is 0 */
    uint32_t ext; /* 1: the event came from outside the program */
    bool has_error;
    uint32_t error;
    uint64_t rip, rflags; /* for the frame */
};

/* --- real mode: SDM vol 3A, 20.1.4 --- */

static int deliver_real(struct vcpu *v, const struct delivery *d)
{
    struct cpu_state *s = &v->s;
    uint32_t entry;
    struct frame f;
    int r;

    if (d->vector * 4 + 3 > s->idtr.limit)
        return soft_exc_err(v, VEC_GP, d->vector * 8 + 2 + d->ext);
    r = mmu_read_slow(v, (uint32_t)(s->idtr.base + d->vector * 4), &entry, 4,
                      MMU_READ | MMU_IMPLICIT);
    frame_current(v, &f, 2);
    if (!r)
        r = frame_push(v, &f, d->rflags);
    if (!r)
        r = frame_push(v, &f, s->seg[SEG_CS].sel);
    if (!r)
        r = frame_push(v, &f, d->rip);
    if (r)
        return r;
    s->gpr[RSP] = frame_rsp(v, &f);
    s->seg[SEG_CS].sel = (uint16_t)(entry >> 16);
    s->seg[SEG_CS].base = (entry >> 16) << 4;
    s->rip = entry & 0xffff;
    s->rflags &= ~(uint64_t)(FL_IF | FL_TF | FL_AC | FL_RF);
    soft_mode_update(v);
    return SOFT_OK;
}

/* --- protected and long mode: SDM vol 3A, 6.12 and 6.14 --- */

static int read_gate(struct vcpu *v, const struct delivery *d, struct gate *g)
{
    bool lma = v->mode & MODE_LMA;
    unsigned size = lma ? 16 : 8;
    uint32_t err = d->vector * 8 + 2 + d->ext;
    uint64_t q[2] = {0, 0};
    gva_t at = v->s.idtr.base + (uint64_t)d->vector * size;

    if (d->vector * size + size - 1 > v->s.idtr.limit)
        return soft_exc_err(v, VEC_GP, err);
    if (!lma)
        at = (uint32_t)at;
    int r = mmu_read_slow(v, at, q, size, MMU_READ | MMU_IMPLICIT);
    if (r)
        return r;
    g->type = q[0] >> 40 & 0x1f; /* S must be 0 */
    g->dpl = frame_dpl(q[0]);
    g->present = frame_present(q[0]);
    g->sel = (uint16_t)(q[0] >> 16);
    g->offset = (q[0] & 0xffff) | (q[0] >> 32 & 0xffff0000);
    g->ist = lma ? q[0] >> 32 & 7 : 0;
    g->size = lma ? 8 : g->type & 8 ? 4 : 2;
    if (lma)
        g->offset |= q[1] << 32;
    else if (g->size == 2)
        g->offset &= 0xffff;
    bool known = g->type == GATE_INT32 || g->type == GATE_TRAP32 ||
                 (!lma && (g->type == GATE_INT16 || g->type == GATE_TRAP16));
    /* A task gate lands here too: hardware task switches are not offered. */
    if (!known || (d->soft && g->dpl < soft_cpl(v)))
        return soft_exc_err(v, VEC_GP, err);
    return g->present ? SOFT_OK : soft_exc_err(v, VEC_NP, err);
}

static int read_code(struct vcpu *v, const struct delivery *d, const struct gate *g, uint64_t *desc)
{
    uint32_t err = (g->sel & 0xfffcu) | d->ext;
    bool lma = v->mode & MODE_LMA;

    if (!(g->sel & 0xfffc))
        return soft_exc_err(v, VEC_GP, d->ext);
    int r = seg_descriptor(v, g->sel, VEC_GP, desc);
    if (r == SOFT_FAULT && v->exc.vector == VEC_GP)
        v->exc.error |= d->ext;
    if (r)
        return r;
    if (!frame_is_code(*desc) || frame_dpl(*desc) > soft_cpl(v))
        return soft_exc_err(v, VEC_GP, err);
    if (!frame_present(*desc))
        return soft_exc_err(v, VEC_NP, err);
    if (lma && (!frame_long(*desc) || frame_big(*desc)))
        return soft_exc_err(v, VEC_GP, err);
    return seg_accessed(v, g->sel, desc);
}

/* The stack of the handler, which runs at `cpl`. */
static int pick_stack(struct vcpu *v, const struct delivery *d, const struct gate *g, unsigned cpl,
                      struct frame *f)
{
    bool inner = cpl < soft_cpl(v);
    uint64_t rsp = v->s.gpr[RSP];
    int r = SOFT_OK;

    if (!(v->mode & MODE_LMA)) {
        if (inner)
            return frame_tss_stack(v, cpl, d->ext, g->size, f);
        frame_current(v, f, g->size);
        f->error = d->ext;
        return SOFT_OK;
    }
    if (g->ist)
        r = frame_tss_rsp(v, TSS64_IST1 + 8 * (g->ist - 1), d->ext, &rsp);
    else if (inner)
        r = frame_tss_rsp(v, TSS64_RSP0 + 8 * cpl, d->ext, &rsp);
    if (r)
        return r;
    frame_flat(f, rsp & ~15ull, cpl, 8);
    if (!inner)
        f->ss = v->s.seg[SEG_SS];
    f->error = d->ext;
    return SOFT_OK;
}

static int push_frame(struct vcpu *v, const struct delivery *d, struct frame *f, bool with_ss)
{
    struct cpu_state *s = &v->s;
    int r = SOFT_OK;

    if (with_ss) {
        r = frame_push(v, f, s->seg[SEG_SS].sel);
        if (!r)
            r = frame_push(v, f, s->gpr[RSP]);
    }
    if (!r)
        r = frame_push(v, f, d->rflags);
    if (!r)
        r = frame_push(v, f, s->seg[SEG_CS].sel);
    if (!r)
        r = frame_push(v, f, d->rip);
    if (!r && d->has_error)
        r = frame_push(v, f, d->error);
    return r;
}

static int deliver_protected(struct vcpu *v, const struct delivery *d)
{
    struct cpu_state *s = &v->s;
    unsigned cpl = soft_cpl(v);
    struct x86_seg cs;
    struct gate g;
    struct frame f;
    uint64_t desc;

    int r = read_gate(v, d, &g);
    if (!r)
        r = read_code(v, d, &g, &desc);
    if (r)
        return r;
    if (!frame_conforming(desc))
        cpl = frame_dpl(desc);
    bool inner = cpl < soft_cpl(v);
    r = pick_stack(v, d, &g, cpl, &f);
    if (r)
        return r;
    seg_from_descriptor(&cs, (uint16_t)((g.sel & 0xfffcu) | cpl), desc);
    r = frame_check_rip(v, &cs, g.offset);
    if (r) {
        v->exc.error = d->ext;
        return r;
    }
    r = push_frame(v, d, &f, inner || (v->mode & MODE_LMA));
    if (r)
        return r;
    s->gpr[RSP] = frame_rsp(v, &f);
    if (inner)
        s->seg[SEG_SS] = f.ss;
    s->seg[SEG_CS] = cs;
    s->rip = g.offset;
    s->rflags &= ~(uint64_t)(FL_TF | FL_NT | FL_RF | FL_VM);
    if (!(g.type & 1)) /* interrupt gates have even types */
        s->rflags &= ~(uint64_t)FL_IF;
    soft_mode_update(v);
    return SOFT_OK;
}

static int deliver_once(struct vcpu *v, const struct delivery *d)
{
    return v->mode & MODE_PE ? deliver_protected(v, d) : deliver_real(v, d);
}

/* --- escalation: SDM vol 3A, table 6-5 --- */

static bool contributory(unsigned vector)
{
    return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

/* Does `second`, met while delivering `first`, make a double fault? */
static bool doubles(unsigned first, unsigned second)
{
    if (first == VEC_PF)
        return second == VEC_PF || contributory(second);
    return contributory(first) && contributory(second);
}

static int deliver(struct vcpu *v, struct delivery d, bool exception)
{
    /* Each round is another fault: at most a few until #DF and shutdown, or success. */
    for (;;) {
        int r = deliver_once(v, &d);

        if (r != SOFT_FAULT)
            return r;
        unsigned second = v->exc.vector;
        if (second == VEC_PF)
            v->s.cr2 = v->exc.cr2;
        if (exception && d.vector == VEC_DF)
            return SOFT_SHUTDOWN;
        bool df = exception && doubles(d.vector, second);
        d.vector = df ? VEC_DF : second;
        d.has_error = true;
        d.error = df ? 0 : v->exc.error;
        d.soft = false;
        d.ext = 1;
        d.rflags |= FL_RF;
        exception = true;
    }
}

int event_deliver(struct vcpu *v, enum event_kind kind, unsigned vector, bool has_error,
                  uint32_t error)
{
    return deliver(v,
                   (struct delivery){
                       .vector = vector,
                       .ext = 1,
                       .has_error = has_error,
                       .error = error,
                       .rip = v->s.rip,
                       .rflags = v->s.rflags | FL_FIXED,
                   },
                   kind == EVENT_EXC);
}

int event_deliver_exc(struct vcpu *v)
{
    const struct soft_exc *x = &v->exc;
    uint64_t rf = x->trap ? 0 : FL_RF;

    if (x->vector == VEC_PF)
        v->s.cr2 = x->cr2;
    if (x->vector == VEC_DB) {
        v->s.dr[6] |= x->dr6;
        v->s.dr[7] &= ~(uint64_t)(1u << 13); /* GD: SDM vol 3A, 17.2.4 */
    }
    return deliver(v,
                   (struct delivery){
                       .vector = x->vector,
                       .ext = 1,
                       .has_error = x->has_error,
                       .error = x->error,
                       .rip = v->s.rip,
                       .rflags = v->s.rflags | FL_FIXED | rf,
                   },
                   true);
}

int event_int_n(struct vcpu *v, unsigned vector, uint64_t next_rip, enum event_kind kind)
{
    bool soft = kind != EVENT_INT1;
    int r = deliver_once(v, &(struct delivery){
                                .vector = vector,
                                .soft = soft,
                                .ext = !soft,
                                .rip = next_rip,
                                .rflags = v->s.rflags | FL_FIXED,
                            });

    v->tf_after = true;
    return r;
}

/* --- IRET: SDM vol 2A --- */

static uint64_t iret_flags_mask(const struct vcpu *v, unsigned opsize)
{
    unsigned cpl = soft_cpl(v);
    uint64_t m = FL_ARITH | FL_TF | FL_DF | FL_NT;

    if (opsize > 2)
        m |= FL_AC | FL_ID | (v->step ? FL_RF : 0); /* RF matters to breakpoints alone */
    if (cpl <= (v->s.rflags & FL_IOPL) >> 12)
        m |= FL_IF;
    if (cpl == 0)
        m |= FL_IOPL | (opsize > 2 ? FL_VIF | FL_VIP : 0);
    return m;
}

static void iret_done(struct vcpu *v, uint64_t rip, uint64_t flags, uint64_t mask)
{
    struct cpu_state *s = &v->s;

    s->rip = rip;
    s->rflags = (s->rflags & ~(mask | FL_RF)) | (flags & mask) | FL_FIXED;
    s->nmi_masked = false;
    soft_mode_update(v);
    soft_irq_window(v);
    if (s->nmi_pending)
        atomic_fetch_or(&v->requests, REQ_NMI);
}

static int iret_real(struct vcpu *v, unsigned opsize)
{
    struct cpu_state *s = &v->s;
    uint64_t rip, cs, flags;
    struct frame f;

    frame_current(v, &f, opsize);
    int r = frame_pop(v, &f, &rip);
    if (!r)
        r = frame_pop(v, &f, &cs);
    if (!r)
        r = frame_pop(v, &f, &flags);
    if (!r && rip > s->seg[SEG_CS].limit)
        r = soft_exc_err(v, VEC_GP, 0);
    if (r)
        return r;
    s->gpr[RSP] = frame_rsp(v, &f);
    s->seg[SEG_CS].sel = (uint16_t)cs;
    s->seg[SEG_CS].base = (cs & 0xffff) << 4;
    iret_done(v, rip, flags, iret_flags_mask(v, opsize));
    return SOFT_OK;
}

/* A data segment that the outer ring may not use becomes null: SDM vol 3A, 5.8.6. */
void event_drop_inner_segments(struct vcpu *v, unsigned cpl)
{
    static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

    for (unsigned i = 0; i < sizeof(data); i++) {
        struct x86_seg *g = &v->s.seg[data[i]];
        bool conforming = (g->attr & (SEG_S | 0xc)) == (SEG_S | 0xc);

        if (!(g->attr & SEG_UNUSABLE) && !conforming && (g->attr >> SEG_DPL_SHIFT & 3) < cpl)
            *g = (struct x86_seg){.attr = SEG_UNUSABLE};
    }
}

/* CS popped by IRET or far RET: not to an inner ring. */
int event_return_cs(struct vcpu *v, uint16_t sel, struct x86_seg *cs)
{
    uint32_t err = sel & 0xfffcu;
    unsigned rpl = sel & 3;
    uint64_t desc;

    if (!err)
        return soft_exc_err(v, VEC_GP, 0);
    int r = seg_descriptor(v, sel, VEC_GP, &desc);
    if (r)
        return r;
    if (!frame_is_code(desc) || rpl < soft_cpl(v))
        return soft_exc_err(v, VEC_GP, err);
    if (frame_conforming(desc) ? frame_dpl(desc) > rpl : frame_dpl(desc) != rpl)
        return soft_exc_err(v, VEC_GP, err);
    if ((v->mode & MODE_LMA) && frame_long(desc) && frame_big(desc))
        return soft_exc_err(v, VEC_GP, err);
    if (!frame_present(desc))
        return soft_exc_err(v, VEC_NP, err);
    r = seg_accessed(v, sel, &desc);
    if (!r)
        seg_from_descriptor(cs, sel, desc);
    return r;
}

/* SS popped with an outer (or, from 64-bit code, any) ring. */
int event_return_ss(struct vcpu *v, uint16_t sel, unsigned rpl, bool to_long, struct x86_seg *ss)
{
    uint32_t err = sel & 0xfffcu;
    uint64_t desc;

    if (!err) {
        if (!to_long || rpl == 3)
            return soft_exc_err(v, VEC_GP, 0);
        struct frame f;
        frame_flat(&f, 0, rpl, 8);
        *ss = f.ss;
        ss->sel = sel;
        return SOFT_OK;
    }
    int r = seg_descriptor(v, sel, VEC_GP, &desc);
    if (r)
        return r;
    if ((sel & 3u) != rpl || frame_dpl(desc) != rpl || (desc >> 40 & 0x1a) != 0x12)
        return soft_exc_err(v, VEC_GP, err);
    if (!frame_present(desc))
        return soft_exc_err(v, VEC_SS, err);
    r = seg_accessed(v, sel, &desc);
    if (!r)
        seg_from_descriptor(ss, sel, desc);
    return r;
}

int event_iret(struct vcpu *v, unsigned opsize)
{
    struct cpu_state *s = &v->s;
    uint64_t rip, cs_sel, flags, rsp, ss_sel = 0;
    bool long_mode = (v->mode & MODE_CS) == MODE_CS64;
    struct x86_seg cs, ss = s->seg[SEG_SS];
    struct frame f;

    if (!(v->mode & MODE_PE))
        return iret_real(v, opsize);
    if (s->rflags & FL_NT) /* task return */
        return soft_exc_err(v, VEC_GP, 0);
    frame_current(v, &f, opsize);
    int r = frame_pop(v, &f, &rip);
    if (!r)
        r = frame_pop(v, &f, &cs_sel);
    if (!r)
        r = frame_pop(v, &f, &flags);
    if (!r && (flags & FL_VM) && opsize > 2 && !(v->mode & MODE_LMA) && soft_cpl(v) == 0)
        r = soft_exc_err(v, VEC_GP, 0);
    if (!r)
        r = event_return_cs(v, (uint16_t)cs_sel, &cs);
    if (r)
        return r;
    unsigned cpl = cs_sel & 3;
    bool outer = cpl > soft_cpl(v);
    bool to_long = (v->mode & MODE_LMA) && (cs.attr & SEG_L);
    rsp = frame_rsp(v, &f);
    if (outer || long_mode) {
        r = frame_pop(v, &f, &rsp);
        if (!r)
            r = frame_pop(v, &f, &ss_sel);
        if (!r)
            r = event_return_ss(v, (uint16_t)ss_sel, cpl, to_long, &ss);
    }
    if (!r)
        r = frame_check_rip(v, &cs, rip);
    if (r)
        return r;
    uint64_t mask = iret_flags_mask(v, opsize);
    if ((outer || long_mode) && !to_long && !(ss.attr & SEG_DB))
        rsp = (s->gpr[RSP] & ~0xffffull) | (rsp & 0xffff);
    s->gpr[RSP] = rsp;
    s->seg[SEG_CS] = cs;
    s->seg[SEG_SS] = ss;
    if (outer)
        event_drop_inner_segments(v, cpl);
    iret_done(v, rip, flags, mask);
    return SOFT_OK;
}
