#include "cpu/soft/xfer.h"

#include "cpu/soft/event.h"
#include "cpu/soft/frame.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segload.h"

enum { GATE_CALL16 = 4, GATE_CALL32 = 12 }; /* SDM vol 3A, table 3-2; 12 is 64-bit in long mode */

static uint64_t mask_ip(uint64_t off, unsigned opsize)
{
    return opsize == 2 ? (uint16_t)off : opsize == 4 ? (uint32_t)off : off;
}

/* A code segment as the direct target of JMP or CALL: SDM vol 3A, 5.8.1. */
static int direct_code(struct vcpu *v, uint16_t sel, uint64_t *desc)
{
    uint32_t err = sel & 0xfffcu;
    unsigned cpl = soft_cpl(v);

    if (frame_conforming(*desc) ? frame_dpl(*desc) > cpl
                                : (sel & 3u) > cpl || frame_dpl(*desc) != cpl)
        return soft_exc_err(v, VEC_GP, err);
    if (!frame_present(*desc))
        return soft_exc_err(v, VEC_NP, err);
    if ((v->mode & MODE_LMA) && frame_long(*desc) && frame_big(*desc))
        return soft_exc_err(v, VEC_GP, err);
    return seg_accessed(v, sel, desc);
}

static void set_cs(struct vcpu *v, const struct x86_seg *cs, uint64_t rip)
{
    v->s.seg[SEG_CS] = *cs;
    v->s.rip = rip;
    soft_mode_update(v);
}

static void real_cs(struct vcpu *v, uint16_t sel, uint64_t rip)
{
    v->s.seg[SEG_CS].sel = sel;
    v->s.seg[SEG_CS].base = (uint64_t)sel << 4;
    v->s.rip = rip;
}

/* --- call gates: SDM vol 3A, 5.8.3 to 5.8.5 --- */

struct call_gate {
    uint16_t sel;
    uint64_t offset;
    unsigned params; /* elements to copy */
    unsigned size;   /* bytes of an element */
    uint64_t desc;   /* of the target code segment */
    bool inner;      /* CALL through it goes to a more privileged ring */
    unsigned cpl;
};

static int read_call_gate(struct vcpu *v, uint16_t sel, uint64_t lo, bool call, struct call_gate *g)
{
    uint32_t err = sel & 0xfffcu;
    unsigned type = lo >> 40 & 0x1f;
    bool lma = v->mode & MODE_LMA;
    unsigned cpl = soft_cpl(v);
    uint64_t q[2] = {lo, 0};

    /* TSS and task gates land here too: hardware task switches are not offered. */
    if (type != GATE_CALL32 && (lma || type != GATE_CALL16))
        return soft_exc_err(v, VEC_GP, err);
    if (frame_dpl(lo) < cpl || frame_dpl(lo) < (sel & 3u))
        return soft_exc_err(v, VEC_GP, err);
    if (!frame_present(lo))
        return soft_exc_err(v, VEC_NP, err);
    if (lma) {
        int r = seg_descriptor16(v, sel, VEC_GP, q);

        if (r)
            return r;
        if (q[1] >> 40 & 0x1f)
            return soft_exc_err(v, VEC_GP, err);
    }
    g->sel = (uint16_t)(lo >> 16);
    g->offset = (lo & 0xffff) | (lo >> 32 & 0xffff0000) | q[1] << 32;
    g->params = lma ? 0 : lo >> 32 & 0x1f;
    g->size = lma ? 8 : type == GATE_CALL32 ? 4 : 2;
    if (g->size == 2)
        g->offset &= 0xffff;
    if (!(g->sel & 0xfffc))
        return soft_exc_err(v, VEC_GP, 0);
    int r = seg_descriptor(v, g->sel, VEC_GP, &g->desc);
    if (r)
        return r;
    err = g->sel & 0xfffcu;
    unsigned dpl = frame_dpl(g->desc);
    bool same = frame_conforming(g->desc) || dpl == cpl;
    if (!frame_is_code(g->desc) || dpl > cpl || (!call && !same))
        return soft_exc_err(v, VEC_GP, err);
    if (lma && (!frame_long(g->desc) || frame_big(g->desc)))
        return soft_exc_err(v, VEC_GP, err);
    if (!frame_present(g->desc))
        return soft_exc_err(v, VEC_NP, err);
    g->inner = !same;
    g->cpl = same ? cpl : dpl;
    return seg_accessed(v, g->sel, &g->desc);
}

/* Copy the parameters from the old stack, then push the return address. */
static int call_frame(struct vcpu *v, const struct call_gate *g, struct frame *f, uint64_t next_rip)
{
    uint64_t param[32];
    struct frame old;
    int r = SOFT_OK;

    if (g->inner) {
        frame_current(v, &old, g->size);
        for (unsigned i = 0; i < g->params && !r; i++)
            r = frame_pop(v, &old, &param[i]);
        if (!r)
            r = frame_push(v, f, v->s.seg[SEG_SS].sel);
        if (!r)
            r = frame_push(v, f, v->s.gpr[RSP]);
        for (unsigned i = g->params; i-- > 0 && !r;)
            r = frame_push(v, f, param[i]);
    }
    if (!r)
        r = frame_push(v, f, v->s.seg[SEG_CS].sel);
    if (!r)
        r = frame_push(v, f, next_rip);
    return r;
}

static int through_gate(struct vcpu *v, uint16_t sel, uint64_t lo, bool call, uint64_t next_rip)
{
    struct call_gate g;
    struct x86_seg cs;
    struct frame f;
    uint64_t rsp;
    bool lma = v->mode & MODE_LMA;

    int r = read_call_gate(v, sel, lo, call, &g);
    if (r)
        return r;
    seg_from_descriptor(&cs, (uint16_t)((g.sel & 0xfffcu) | g.cpl), g.desc);
    frame_current(v, &f, g.size);
    if (lma && call) { /* SDM vol 2A, CALL: a 64-bit gate makes 8-byte pushes */
        rsp = v->s.gpr[RSP];
        if (g.inner)
            r = frame_tss_rsp(v, 4 + 8 * g.cpl, 0, &rsp);
        frame_flat(&f, rsp, g.cpl, 8);
        if (!g.inner)
            f.ss = v->s.seg[SEG_SS];
    } else if (call && g.inner) {
        r = frame_tss_stack(v, g.cpl, 0, g.size, &f);
    }
    if (!r)
        r = frame_check_rip(v, &cs, g.offset);
    if (!r && call)
        r = call_frame(v, &g, &f, next_rip);
    if (r)
        return r;
    v->s.gpr[RSP] = frame_rsp(v, &f);
    if (g.inner)
        v->s.seg[SEG_SS] = f.ss;
    set_cs(v, &cs, g.offset);
    return SOFT_OK;
}

/* --- far JMP, CALL, RET --- */

int xfer_far_jmp(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize)
{
    uint64_t desc;
    struct x86_seg cs;

    off = mask_ip(off, opsize);
    if (!(v->mode & MODE_PE)) {
        if (off > v->s.seg[SEG_CS].limit)
            return soft_exc_err(v, VEC_GP, 0);
        real_cs(v, sel, off);
        return SOFT_OK;
    }
    if (!(sel & 0xfffc))
        return soft_exc_err(v, VEC_GP, 0);
    int r = seg_descriptor(v, sel, VEC_GP, &desc);
    if (r)
        return r;
    if (!(desc >> 44 & 1))
        return through_gate(v, sel, desc, false, 0);
    if (!frame_is_code(desc))
        return soft_exc_err(v, VEC_GP, sel & 0xfffcu);
    r = direct_code(v, sel, &desc);
    if (r)
        return r;
    seg_from_descriptor(&cs, (uint16_t)((sel & 0xfffcu) | soft_cpl(v)), desc);
    r = frame_check_rip(v, &cs, off);
    if (!r)
        set_cs(v, &cs, off);
    return r;
}

int xfer_far_call(struct vcpu *v, uint16_t sel, uint64_t off, unsigned opsize, uint64_t next_rip)
{
    uint64_t desc = 0;
    struct x86_seg cs;
    struct frame f;
    bool real = !(v->mode & MODE_PE);
    int r = SOFT_OK;

    off = mask_ip(off, opsize);
    if (!real && !(sel & 0xfffc))
        return soft_exc_err(v, VEC_GP, 0);
    if (!real)
        r = seg_descriptor(v, sel, VEC_GP, &desc);
    if (r)
        return r;
    if (!real && !(desc >> 44 & 1))
        return through_gate(v, sel, desc, true, next_rip);
    if (real) {
        cs = v->s.seg[SEG_CS];
        cs.sel = sel;
        cs.base = (uint64_t)sel << 4;
    } else {
        if (!frame_is_code(desc))
            return soft_exc_err(v, VEC_GP, sel & 0xfffcu);
        r = direct_code(v, sel, &desc);
        seg_from_descriptor(&cs, (uint16_t)((sel & 0xfffcu) | soft_cpl(v)), desc);
    }
    frame_current(v, &f, opsize);
    if (!r)
        r = frame_check_rip(v, &cs, off);
    if (!r)
        r = frame_push(v, &f, v->s.seg[SEG_CS].sel);
    if (!r)
        r = frame_push(v, &f, next_rip);
    if (r)
        return r;
    v->s.gpr[RSP] = frame_rsp(v, &f);
    set_cs(v, &cs, off);
    return SOFT_OK;
}

/* Release `bytes` of parameters on a stack. */
static uint64_t add_sp(uint64_t rsp, uint64_t mask, unsigned bytes)
{
    if (mask == UINT16_MAX)
        return (rsp & ~mask) | ((rsp + bytes) & mask);
    return (rsp + bytes) & mask;
}

static int far_ret_real(struct vcpu *v, unsigned opsize, uint16_t pop_bytes)
{
    uint64_t rip, sel;
    struct frame f;

    frame_current(v, &f, opsize);
    int r = frame_pop(v, &f, &rip);
    if (!r)
        r = frame_pop(v, &f, &sel);
    if (!r && rip > v->s.seg[SEG_CS].limit)
        r = soft_exc_err(v, VEC_GP, 0);
    if (r)
        return r;
    v->s.gpr[RSP] = add_sp(frame_rsp(v, &f), f.mask, pop_bytes);
    real_cs(v, (uint16_t)sel, rip);
    return SOFT_OK;
}

int xfer_far_ret(struct vcpu *v, unsigned opsize, uint16_t pop_bytes)
{
    struct x86_seg cs, ss = v->s.seg[SEG_SS];
    uint64_t rip, sel, rsp, ss_sel;
    struct frame f;

    if (!(v->mode & MODE_PE))
        return far_ret_real(v, opsize, pop_bytes);
    frame_current(v, &f, opsize);
    int r = frame_pop(v, &f, &rip);
    if (!r)
        r = frame_pop(v, &f, &sel);
    if (!r)
        r = event_return_cs(v, (uint16_t)sel, &cs);
    if (r)
        return r;
    unsigned cpl = sel & 3;
    bool outer = cpl > soft_cpl(v);
    bool to_long = (v->mode & MODE_LMA) && (cs.attr & SEG_L);
    f.sp = (f.sp + pop_bytes) & f.mask;
    rsp = frame_rsp(v, &f);
    if (outer) {
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
    if (outer) {
        uint64_t mask = to_long ? UINT64_MAX : ss.attr & SEG_DB ? UINT32_MAX : UINT16_MAX;

        if (mask == UINT16_MAX)
            rsp = (v->s.gpr[RSP] & ~mask) | (rsp & mask);
        rsp = add_sp(rsp, mask, pop_bytes);
        v->s.seg[SEG_SS] = ss;
        event_drop_inner_segments(v, cpl);
    }
    v->s.gpr[RSP] = rsp;
    set_cs(v, &cs, rip);
    return SOFT_OK;
}

/* --- SYSCALL and SYSENTER --- */

static void flat_cs(struct vcpu *v, uint16_t sel, unsigned dpl, bool long_mode)
{
    v->s.seg[SEG_CS] = (struct x86_seg){
        .sel = sel,
        .limit = UINT32_MAX,
        .attr = SEG_G | SEG_P | SEG_S | 0xb | dpl << SEG_DPL_SHIFT | (long_mode ? SEG_L : SEG_DB),
    };
}

static void flat_ss(struct vcpu *v, uint16_t sel, unsigned dpl)
{
    v->s.seg[SEG_SS] = (struct x86_seg){
        .sel = sel,
        .limit = UINT32_MAX,
        .attr = SEG_G | SEG_P | SEG_S | 3 | SEG_DB | dpl << SEG_DPL_SHIFT,
    };
}

/* As Intel: only from 64-bit mode. */
int xfer_syscall(struct vcpu *v, uint64_t next_rip)
{
    struct cpu_state *s = &v->s;
    uint16_t sel = (uint16_t)(s->star >> 32) & 0xfffc;

    if ((v->mode & MODE_CS) != MODE_CS64 || !(s->efer & EFER_SCE))
        return soft_exc(v, VEC_UD);
    s->gpr[RCX] = next_rip;
    s->gpr[R11] = s->rflags & ~(uint64_t)FL_RF;
    s->rflags = (s->rflags & ~s->sfmask & ~(uint64_t)FL_RF) | FL_FIXED;
    flat_cs(v, sel, 0, true);
    flat_ss(v, (uint16_t)(sel + 8), 0);
    s->rip = s->lstar;
    v->tf_after = true;
    soft_mode_update(v);
    return SOFT_OK;
}

int xfer_sysret(struct vcpu *v, unsigned opsize)
{
    struct cpu_state *s = &v->s;
    uint16_t base = (uint16_t)(s->star >> 48);

    if ((v->mode & MODE_CS) != MODE_CS64 || !(s->efer & EFER_SCE))
        return soft_exc(v, VEC_UD);
    if (soft_cpl(v) || (opsize == 8 && !frame_canonical(s->gpr[RCX])))
        return soft_exc_err(v, VEC_GP, 0);
    uint64_t keep =
        FL_ARITH | FL_TF | FL_IF | FL_DF | FL_IOPL | FL_NT | FL_AC | FL_VIF | FL_VIP | FL_ID;
    s->rflags = (s->gpr[R11] & keep) | FL_FIXED;
    s->rip = opsize == 8 ? s->gpr[RCX] : (uint32_t)s->gpr[RCX];
    flat_cs(v, (uint16_t)((base + (opsize == 8 ? 16 : 0)) | 3), 3, opsize == 8);
    flat_ss(v, (uint16_t)((base + 8) | 3), 3);
    soft_mode_update(v);
    soft_irq_window(v);
    return SOFT_OK;
}

int xfer_sysenter(struct vcpu *v)
{
    struct cpu_state *s = &v->s;
    uint16_t sel = (uint16_t)s->sysenter_cs & 0xfffc;
    bool lma = v->mode & MODE_LMA;

    if (!(v->mode & MODE_PE) || !sel)
        return soft_exc_err(v, VEC_GP, 0);
    s->rflags &= ~(uint64_t)(FL_VM | FL_IF | FL_RF);
    s->gpr[RSP] = lma ? s->sysenter_esp : (uint32_t)s->sysenter_esp;
    s->rip = lma ? s->sysenter_eip : (uint32_t)s->sysenter_eip;
    flat_cs(v, sel, 0, lma);
    flat_ss(v, (uint16_t)(sel + 8), 0);
    soft_mode_update(v);
    return SOFT_OK;
}

int xfer_sysexit(struct vcpu *v, unsigned opsize)
{
    struct cpu_state *s = &v->s;
    uint16_t base = (uint16_t)s->sysenter_cs & 0xfffc;
    bool wide = opsize == 8;

    if (!(v->mode & MODE_PE) || !base || soft_cpl(v))
        return soft_exc_err(v, VEC_GP, 0);
    if (wide && (!frame_canonical(s->gpr[RCX]) || !frame_canonical(s->gpr[RDX])))
        return soft_exc_err(v, VEC_GP, 0);
    s->gpr[RSP] = wide ? s->gpr[RCX] : (uint32_t)s->gpr[RCX];
    s->rip = wide ? s->gpr[RDX] : (uint32_t)s->gpr[RDX];
    flat_cs(v, (uint16_t)((base + (wide ? 32 : 16)) | 3), 3, wide);
    flat_ss(v, (uint16_t)((base + (wide ? 40 : 24)) | 3), 3);
    soft_mode_update(v);
    return SOFT_OK;
}
