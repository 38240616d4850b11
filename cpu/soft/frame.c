#include "cpu/soft/frame.h"

#include "cpu/soft/mmu.h"
#include "cpu/soft/segload.h"

static unsigned access_for(unsigned cpl)
{
    return cpl == 3 ? MMU_USER : MMU_SUPER;
}

void frame_current(const struct vcpu *v, struct frame *f, unsigned size)
{
    bool flat = (v->mode & MODE_CS) == MODE_CS64;

    *f = (struct frame){
        .ss = v->s.seg[SEG_SS],
        .sp = v->s.gpr[RSP],
        .mask = flat                  ? UINT64_MAX
                : v->mode & MODE_SS32 ? UINT32_MAX
                                      : UINT16_MAX,
        .size = size,
        .access = access_for(soft_cpl(v)),
        .flat = flat,
    };
}

void frame_flat(struct frame *f, uint64_t sp, unsigned cpl, unsigned size)
{
    *f = (struct frame){
        .ss = {.sel = (uint16_t)cpl,
               .limit = UINT32_MAX,
               .attr = SEG_UNUSABLE | SEG_P | SEG_S | SEG_DB | 3 | cpl << SEG_DPL_SHIFT},
        .sp = sp,
        .mask = UINT64_MAX,
        .size = size,
        .access = access_for(cpl),
        .flat = true,
    };
}

void frame_segment(struct frame *f, const struct x86_seg *ss, uint64_t sp, unsigned cpl,
                   unsigned size)
{
    *f = (struct frame){
        .ss = *ss,
        .sp = sp,
        .mask = ss->attr & SEG_DB ? UINT32_MAX : UINT16_MAX,
        .size = size,
        .access = access_for(cpl),
    };
}

/* Linear address of an element at `sp`, or #SS. */
static int locate(struct vcpu *v, const struct frame *f, uint64_t sp, gva_t *lin)
{
    if (f->flat) {
        *lin = sp;
        return frame_canonical(sp) && frame_canonical(sp + f->size - 1)
                   ? SOFT_OK
                   : soft_exc_err(v, VEC_SS, f->error);
    }
    if (!seg_in_limit(&f->ss, sp, f->size))
        return soft_exc_err(v, VEC_SS, f->error);
    *lin = (uint32_t)(f->ss.base + sp);
    return SOFT_OK;
}

int frame_push(struct vcpu *v, struct frame *f, uint64_t val)
{
    uint64_t sp = (f->sp - f->size) & f->mask;
    gva_t lin;
    int r = locate(v, f, sp, &lin);

    if (!r)
        r = mmu_write_slow(v, lin, &val, f->size, MMU_WRITE | f->access);
    if (!r)
        f->sp = sp;
    return r;
}

int frame_pop(struct vcpu *v, struct frame *f, uint64_t *val)
{
    uint64_t sp = f->sp & f->mask;
    gva_t lin;
    int r = locate(v, f, sp, &lin);

    *val = 0;
    if (!r)
        r = mmu_read_slow(v, lin, val, f->size, MMU_READ | f->access);
    if (!r)
        f->sp = (sp + f->size) & f->mask;
    return r;
}

uint64_t frame_rsp(const struct vcpu *v, const struct frame *f)
{
    if (f->mask == UINT16_MAX)
        return (v->s.gpr[RSP] & ~f->mask) | (f->sp & f->mask);
    return f->sp & f->mask;
}

/* SDM vol 3A, 5.8.5: the new stack segment's checks. All #TS but a segment not present. */
static int check_ss(struct vcpu *v, uint16_t sel, unsigned cpl, uint32_t ext, struct x86_seg *ss)
{
    uint32_t err = (sel & 0xfffcu) | ext;
    uint64_t desc;

    if (!(sel & 0xfffc))
        return soft_exc_err(v, VEC_TS, ext);
    int r = seg_descriptor(v, sel, VEC_TS, &desc);
    if (r == SOFT_FAULT && v->exc.vector == VEC_TS)
        v->exc.error |= ext;
    if (r)
        return r;
    unsigned type = desc >> 40 & 0x1f; /* S and type */
    if ((sel & 3u) != cpl || frame_dpl(desc) != cpl || (type & 0x1a) != 0x12)
        return soft_exc_err(v, VEC_TS, err);
    if (!frame_present(desc))
        return soft_exc_err(v, VEC_SS, err);
    r = seg_accessed(v, sel, &desc);
    if (!r)
        seg_from_descriptor(ss, sel, desc);
    return r;
}

int frame_tss_stack(struct vcpu *v, unsigned cpl, uint32_t ext, unsigned size, struct frame *f)
{
    const struct x86_seg *tr = &v->s.tr;
    bool wide = tr->attr & 8;
    unsigned off = wide ? 4 + 8 * cpl : 2 + 4 * cpl;
    unsigned len = wide ? 6 : 4;
    uint8_t b[8] = {0};
    struct x86_seg ss;

    if ((tr->attr & SEG_UNUSABLE) || off + len - 1 > tr->limit)
        return soft_exc_err(v, VEC_TS, (tr->sel & 0xfffcu) | ext);
    int r = mmu_read_slow(v, (uint32_t)(tr->base + off), b, len, MMU_READ | MMU_IMPLICIT);
    if (r)
        return r;
    uint32_t sp = (uint32_t)b[0] | (uint32_t)b[1] << 8;
    uint16_t sel = (uint16_t)(b[2] | b[3] << 8);
    if (wide) {
        sp |= (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        sel = (uint16_t)(b[4] | b[5] << 8);
    }
    r = check_ss(v, sel, cpl, ext, &ss);
    if (r)
        return r;
    frame_segment(f, &ss, sp, cpl, size);
    f->error = (sel & 0xfffcu) | ext;
    return SOFT_OK;
}

int frame_tss_rsp(struct vcpu *v, unsigned off, uint32_t ext, uint64_t *rsp)
{
    const struct x86_seg *tr = &v->s.tr;

    if ((tr->attr & SEG_UNUSABLE) || off + 7 > tr->limit)
        return soft_exc_err(v, VEC_TS, (tr->sel & 0xfffcu) | ext);
    int r = mmu_read_slow(v, tr->base + off, rsp, 8, MMU_READ | MMU_IMPLICIT);
    if (!r && !frame_canonical(*rsp))
        return soft_exc_err(v, VEC_SS, ext);
    return r;
}

int frame_check_rip(struct vcpu *v, const struct x86_seg *cs, uint64_t rip)
{
    bool ok = (v->s.efer & EFER_LMA) && (cs->attr & SEG_L)
                  ? frame_canonical(rip)
                  : (uint32_t)rip == rip && rip <= cs->limit;

    return ok ? SOFT_OK : soft_exc_err(v, VEC_GP, 0);
}
