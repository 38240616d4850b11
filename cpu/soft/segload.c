#include "cpu/soft/segload.h"

#include "cpu/soft/mmu.h"

enum { /* system descriptor types in long mode: SDM vol 3A, table 3-2 */
       SYS_LDT = 2,
       SYS_TSS_AVAIL_16 = 1,
       SYS_TSS_AVAIL = 9,
       SYS_TSS_BUSY_BIT = 2,
       TYPE_CODE = 8,       /* of code and data descriptors */
       TYPE_CONFORMING = 4, /* code */
       TYPE_DOWN = 4,       /* data: expand-down */
       TYPE_RW = 2,         /* code: readable; data: writable */
       TYPE_ACCESSED = 1,
};

static bool long_code(const struct vcpu *v)
{
    return (v->mode & MODE_CS) == MODE_CS64;
}

void seg_from_descriptor(struct x86_seg *g, uint16_t sel, uint64_t desc)
{
    uint32_t limit = (uint32_t)((desc & 0xffff) | (desc >> 32 & 0xf0000));

    g->sel = sel;
    g->attr = (uint32_t)((desc >> 40 & 0xff) | (desc >> 40 & 0xf000));
    g->base = (desc >> 16 & 0xffffff) | (desc >> 32 & 0xff000000);
    g->limit = g->attr & SEG_G ? limit << 12 | 0xfff : limit;
}

/* Linear address of a descriptor of `len` bytes, or a fault. */
static int locate(struct vcpu *v, uint16_t sel, unsigned len, unsigned vec, gva_t *at)
{
    const struct cpu_state *s = &v->s;
    bool local = sel & 4;
    uint64_t base = local ? s->ldtr.base : s->gdtr.base;
    uint32_t limit = local ? s->ldtr.limit : s->gdtr.limit;
    uint32_t off = sel & 0xfff8u;

    if ((local && (s->ldtr.attr & SEG_UNUSABLE)) || (uint64_t)off + len - 1 > limit)
        return soft_exc_err(v, vec, sel & 0xfffcu);
    *at = base + off;
    if (!(s->efer & EFER_LMA))
        *at = (uint32_t)*at;
    return SOFT_OK;
}

int seg_descriptor(struct vcpu *v, uint16_t sel, unsigned vec, uint64_t *desc)
{
    gva_t at;
    int r = locate(v, sel, 8, vec, &at);

    return r ? r : mmu_read_slow(v, at, desc, 8, MMU_READ | MMU_IMPLICIT);
}

int seg_descriptor16(struct vcpu *v, uint16_t sel, unsigned vec, uint64_t desc[2])
{
    gva_t at;
    int r = locate(v, sel, 16, vec, &at);

    return r ? r : mmu_read_slow(v, at, desc, 16, MMU_READ | MMU_IMPLICIT);
}

/* Set bits in byte 5 (type) of the descriptor. */
static int set_type_bits(struct vcpu *v, uint16_t sel, uint64_t desc, uint8_t bits)
{
    uint8_t byte = (uint8_t)(desc >> 40);
    gva_t at;

    if ((byte & bits) == bits)
        return SOFT_OK;
    byte |= bits;
    int r = locate(v, sel, 8, VEC_GP, &at);
    return r ? r : mmu_write_slow(v, at + 5, &byte, 1, MMU_WRITE | MMU_IMPLICIT);
}

int seg_accessed(struct vcpu *v, uint16_t sel, uint64_t *desc)
{
    int r = set_type_bits(v, sel, *desc, TYPE_ACCESSED);

    if (!r)
        *desc |= (uint64_t)TYPE_ACCESSED << 40;
    return r;
}

static void load_real(struct x86_seg *g, uint16_t sel)
{
    g->sel = sel;
    g->base = (uint64_t)sel << 4;
    if (g->attr & SEG_UNUSABLE) { /* a null selector from protected mode */
        g->attr = SEG_P | SEG_S | 3;
        g->limit = 0xffff;
    }
}

static int load_null(struct vcpu *v, unsigned seg, uint16_t sel)
{
    unsigned cpl = soft_cpl(v);

    if (seg == SEG_SS && !(long_code(v) && cpl < 3 && (sel & 3u) == cpl))
        return soft_exc_err(v, VEC_GP, 0);
    v->s.seg[seg] = (struct x86_seg){
        .sel = sel,
        .attr =
            SEG_UNUSABLE | (seg == SEG_SS ? cpl << SEG_DPL_SHIFT | SEG_S | 3 | SEG_P | SEG_DB : 0),
        .limit = seg == SEG_SS ? UINT32_MAX : 0,
    };
    soft_mode_update(v);
    return SOFT_OK;
}

/* SDM vol 2B, MOV: the checks of a load to SS, or to a data segment register. */
static int check_load(struct vcpu *v, unsigned seg, uint16_t sel, uint64_t desc)
{
    unsigned type = desc >> 40 & 0xf;
    unsigned dpl = desc >> 45 & 3;
    unsigned cpl = soft_cpl(v);
    unsigned rpl = sel & 3;
    bool system = !(desc >> 44 & 1);
    bool code = type & TYPE_CODE;
    uint32_t err = sel & 0xfffcu;

    if (seg == SEG_SS) {
        if (system || code || !(type & TYPE_RW) || rpl != cpl || dpl != cpl)
            return soft_exc_err(v, VEC_GP, err);
        return desc >> 47 & 1 ? SOFT_OK : soft_exc_err(v, VEC_SS, err);
    }
    if (system || (code && !(type & TYPE_RW)))
        return soft_exc_err(v, VEC_GP, err);
    if (!(code && (type & TYPE_CONFORMING)) && (rpl > dpl || cpl > dpl))
        return soft_exc_err(v, VEC_GP, err);
    return desc >> 47 & 1 ? SOFT_OK : soft_exc_err(v, VEC_NP, err);
}

int seg_load(struct vcpu *v, unsigned seg, uint16_t sel)
{
    uint64_t desc;

    if (!(v->mode & MODE_PE)) {
        load_real(&v->s.seg[seg], sel);
        soft_mode_update(v);
        return SOFT_OK;
    }
    if (!(sel & 0xfffc))
        return load_null(v, seg, sel);
    int r = seg_descriptor(v, sel, VEC_GP, &desc);
    if (!r)
        r = check_load(v, seg, sel, desc);
    if (!r)
        r = seg_accessed(v, sel, &desc);
    if (r)
        return r;
    seg_from_descriptor(&v->s.seg[seg], sel, desc);
    soft_mode_update(v);
    return SOFT_OK;
}

/* A system descriptor: in long mode 16 bytes with a 64-bit base. */
static int load_system(struct vcpu *v, uint16_t sel, uint64_t desc[2], struct x86_seg *g)
{
    bool lma = v->mode & MODE_LMA;
    int r;

    desc[1] = 0;
    if (sel & 4)
        return soft_exc_err(v, VEC_GP, sel & 0xfffcu);
    r = lma ? seg_descriptor16(v, sel, VEC_GP, desc) : seg_descriptor(v, sel, VEC_GP, desc);
    if (r)
        return r;
    seg_from_descriptor(g, sel, desc[0]);
    g->base |= desc[1] << 32;
    if (lma && ((desc[1] >> 40 & 0x1f) || (int64_t)(g->base << 16) >> 16 != (int64_t)g->base))
        return soft_exc_err(v, VEC_GP, sel & 0xfffcu);
    return SOFT_OK;
}

int seg_load_ldtr(struct vcpu *v, uint16_t sel)
{
    struct x86_seg g;
    uint64_t desc[2];

    if (!(sel & 0xfffc)) {
        v->s.ldtr = (struct x86_seg){.sel = sel, .attr = SEG_UNUSABLE};
        return SOFT_OK;
    }
    int r = load_system(v, sel, desc, &g);
    if (r)
        return r;
    if ((g.attr & (SEG_S | SEG_TYPE)) != SYS_LDT)
        return soft_exc_err(v, VEC_GP, sel & 0xfffcu);
    if (!(g.attr & SEG_P))
        return soft_exc_err(v, VEC_NP, sel & 0xfffcu);
    v->s.ldtr = g;
    return SOFT_OK;
}

int seg_load_tr(struct vcpu *v, uint16_t sel)
{
    bool lma = v->mode & MODE_LMA;
    struct x86_seg g;
    uint64_t desc[2];

    if (!(sel & 0xfffc))
        return soft_exc_err(v, VEC_GP, 0);
    int r = load_system(v, sel, desc, &g);
    if (r)
        return r;
    unsigned type = g.attr & (SEG_S | SEG_TYPE);
    if (type != SYS_TSS_AVAIL && (lma || type != SYS_TSS_AVAIL_16))
        return soft_exc_err(v, VEC_GP, sel & 0xfffcu);
    if (!(g.attr & SEG_P))
        return soft_exc_err(v, VEC_NP, sel & 0xfffcu);
    r = set_type_bits(v, sel, desc[0], SYS_TSS_BUSY_BIT);
    if (r)
        return r;
    g.attr |= SYS_TSS_BUSY_BIT;
    v->s.tr = g;
    return SOFT_OK;
}

/* --- LAR, LSL, VERR, VERW --- */

static bool system_type_known(bool lma, unsigned type, enum seg_query q)
{
    /* SDM vol 2A, LAR table 3-53, LSL table 3-65 */
    static const uint16_t lar_legacy =
        1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
    static const uint16_t lsl_legacy = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
    static const uint16_t lar_long = 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12;
    static const uint16_t lsl_long = 1 << 2 | 1 << 9 | 1 << 11;
    uint16_t set = q == SEG_LAR ? (lma ? lar_long : lar_legacy) : (lma ? lsl_long : lsl_legacy);

    return set >> type & 1;
}

static bool query_ok(const struct vcpu *v, enum seg_query q, uint16_t sel, uint64_t desc)
{
    unsigned type = desc >> 40 & 0xf;
    unsigned dpl = desc >> 45 & 3;
    bool system = !(desc >> 44 & 1);
    bool code = !system && (type & TYPE_CODE);
    bool conforming = code && (type & TYPE_CONFORMING);

    if (!conforming && (soft_cpl(v) > dpl || (sel & 3u) > dpl))
        return false;
    switch (q) {
    case SEG_VERR:
        return !system && (!code || (type & TYPE_RW));
    case SEG_VERW:
        return !system && !code && (type & TYPE_RW);
    default:
        return !system || system_type_known(v->mode & MODE_LMA, type, q);
    }
}

int seg_query(struct vcpu *v, enum seg_query q, uint16_t sel, bool *ok, uint32_t *out)
{
    struct x86_seg g;
    uint64_t desc;

    *ok = false;
    if (!(sel & 0xfffc))
        return SOFT_OK;
    int r = seg_descriptor(v, sel, VEC_GP, &desc);
    if (r == SOFT_FAULT && v->exc.vector == VEC_GP)
        return SOFT_OK; /* outside the table */
    if (r)
        return r;
    *ok = query_ok(v, q, sel, desc);
    seg_from_descriptor(&g, sel, desc);
    if (*ok && q == SEG_LAR)
        *out = desc >> 32 & 0x00ffff00;
    if (*ok && q == SEG_LSL)
        *out = g.limit;
    return SOFT_OK;
}

/* --- effective to linear address --- */

bool seg_in_limit(const struct x86_seg *g, uint64_t ea, unsigned len)
{
    uint64_t last = ea + len - 1;

    if ((g->attr & (SEG_S | TYPE_CODE | TYPE_DOWN)) == (SEG_S | TYPE_DOWN)) {
        uint64_t top = g->attr & SEG_DB ? UINT32_MAX : UINT16_MAX;

        return ea > g->limit && last <= top;
    }
    return last <= g->limit;
}

static bool canonical(uint64_t a)
{
    return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

static bool type_allows(const struct x86_seg *g, bool write)
{
    if (g->attr & SEG_UNUSABLE)
        return false;
    if (g->attr & TYPE_CODE)
        return !write && (g->attr & TYPE_RW);
    return !write || (g->attr & TYPE_RW);
}

int seg_linear(struct vcpu *v, unsigned seg, uint64_t ea, unsigned len, bool write, gva_t *lin)
{
    const struct x86_seg *g = &v->s.seg[seg];
    unsigned vec = seg == SEG_SS ? VEC_SS : VEC_GP;

    if (long_code(v)) {
        uint64_t a = seg >= SEG_FS ? ea + g->base : ea;

        if (!canonical(a) || !canonical(a + len - 1))
            return soft_exc_err(v, vec, 0);
        *lin = a;
        return SOFT_OK;
    }
    ea = (uint32_t)ea;
    if ((v->mode & MODE_PE) && !type_allows(g, write))
        return soft_exc_err(v, vec, 0);
    if (!seg_in_limit(g, ea, len))
        return soft_exc_err(v, vec, 0);
    *lin = (uint32_t)(g->base + ea);
    return SOFT_OK;
}
