/* cpu/interp/i_seg.c - segment registers and bases, descriptor table registers, LAR LSL VERR VERW
 * ARPL. Source: SDM vol 2. What touches ES, CS, SS or DS may change the mode, so it ends its block.
 */
#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"
#include "cpu/soft/segload.h"

static int general_protection(struct vcpu *v)
{
    return soft_exc_err(v, VEC_GP, 0);
}

static bool is64(const struct vcpu *v)
{
    return (v->mode & MODE_CS) == MODE_CS64;
}

/* Operand 0 or 1 as a 16-bit selector. */
static int selector(struct vcpu *v, const struct insn *i, unsigned n, uint16_t *sel)
{
    uint64_t val;

    if (operand_is_mem(i, n)) {
        int rc = operand_load(v, i, 2, &val);

        if (rc)
            return rc;
        *sel = (uint16_t)val;
    } else {
        *sel = REG(16, v, n ? i->rb : i->ra);
    }
    return SOFT_OK;
}

static int mov_from_seg(struct vcpu *v, const struct insn *i)
{
    uint16_t sel = v->s.seg[i->b].sel;

    if (i->flags & I_MEM)
        return operand_store(v, i, 2, sel);
    operand_reg_put(v, i->ra, i->opsize, sel);
    return SOFT_OK;
}

static int mov_to_seg(struct vcpu *v, const struct insn *i)
{
    uint16_t sel;
    int rc = selector(v, i, 1, &sel);

    if (!rc)
        rc = seg_load(v, i->a, sel);
    if (rc)
        return rc;
    v->s.rip = insn_next(v, i);
    if (i->a != SEG_SS)
        return SOFT_OK;
    v->s.ss_shadow = true;
    return SOFT_BREAK;
}

/* LDS LES LFS LGS LSS: x = the segment. */
static int load_pointer(struct vcpu *v, const struct insn *i)
{
    uint8_t raw[10];
    uint64_t off = 0;
    uint16_t sel;
    gva_t lin;
    int rc = operand_lin(v, i, i->opsize + 2u, false, &lin);

    if (!rc)
        rc = operand_ld_slow(v, i, lin, raw, i->opsize + 2u, MMU_READ);
    if (rc)
        return rc;
    memcpy(&off, raw, i->opsize);
    memcpy(&sel, raw + i->opsize, 2);
    rc = seg_load(v, i->x, sel);
    if (rc)
        return rc;
    operand_reg_put(v, i->ra, i->opsize, off);
    v->s.rip = insn_next(v, i);
    return SOFT_OK;
}

/* Without protection these do not exist: #UD. */
static bool is_protected(const struct vcpu *v)
{
    return v->mode & MODE_PE;
}

static int load_system(struct vcpu *v, const struct insn *i)
{
    uint16_t sel;
    int rc;

    if (!is_protected(v))
        return soft_exc(v, VEC_UD);
    if (soft_cpl(v))
        return general_protection(v);
    rc = selector(v, i, 0, &sel);
    if (rc)
        return rc;
    return i->op == ZYDIS_MNEMONIC_LLDT ? seg_load_ldtr(v, sel) : seg_load_tr(v, sel);
}

/* User-mode instruction prevention: SDM vol 3A, 2.5, CR4.UMIP. */
static bool umip_bars(const struct vcpu *v)
{
    return v->s.cr4 & CR4_UMIP && soft_cpl(v);
}

static int store_system(struct vcpu *v, const struct insn *i)
{
    uint16_t sel = i->op == ZYDIS_MNEMONIC_SLDT ? v->s.ldtr.sel : v->s.tr.sel;

    if (!is_protected(v))
        return soft_exc(v, VEC_UD);
    if (umip_bars(v))
        return general_protection(v);
    if (i->flags & I_MEM)
        return operand_store(v, i, 2, sel);
    operand_reg_put(v, i->ra, i->opsize, sel);
    return SOFT_OK;
}

static int store_table(struct vcpu *v, const struct insn *i)
{
    const struct x86_table *t = i->op == ZYDIS_MNEMONIC_SGDT ? &v->s.gdtr : &v->s.idtr;
    unsigned len = is64(v) ? 10 : 6;
    uint8_t raw[10];
    gva_t lin;
    int rc;

    if (umip_bars(v))
        return general_protection(v);
    memcpy(raw, &t->limit, 2);
    memcpy(raw + 2, &t->base, 8);
    rc = operand_lin(v, i, len, true, &lin);
    return rc ? rc : operand_st_slow(v, i, lin, raw, len);
}

/* With a 16-bit operand size the base has 24 bits. */
static int load_table(struct vcpu *v, const struct insn *i)
{
    struct x86_table *t = i->op == ZYDIS_MNEMONIC_LGDT ? &v->s.gdtr : &v->s.idtr;
    unsigned len = is64(v) ? 10 : 6;
    uint64_t base = 0;
    uint8_t raw[10];
    gva_t lin;
    int rc;

    if (soft_cpl(v))
        return general_protection(v);
    rc = operand_lin(v, i, len, false, &lin);
    if (!rc)
        rc = operand_ld_slow(v, i, lin, raw, len, MMU_READ);
    if (rc)
        return rc;
    memcpy(&base, raw + 2, len - 2);
    if (!is64(v) && i->opsize == 2)
        base &= 0xffffff;
    if (is64(v) && !operand_canonical(base))
        return general_protection(v);
    memcpy(&t->limit, raw, 2);
    t->base = base;
    return SOFT_OK;
}

static int query(struct vcpu *v, const struct insn *i)
{
    unsigned n = i->x == SEG_LAR || i->x == SEG_LSL;
    uint32_t out = 0;
    uint16_t sel;
    bool ok;
    int rc;

    if (!is_protected(v))
        return soft_exc(v, VEC_UD);
    rc = selector(v, i, n, &sel);
    if (!rc)
        rc = seg_query(v, (enum seg_query)i->x, sel, &ok, &out);
    if (rc)
        return rc;
    operand_flag_put(v, FL_ZF, ok);
    if (ok && n)
        operand_reg_put(v, i->ra, i->opsize, out);
    return SOFT_OK;
}

static int arpl(struct vcpu *v, const struct insn *i)
{
    uint16_t src = REG(16, v, i->rb);
    uint64_t dst;
    gva_t lin = 0;
    int rc = SOFT_OK;

    if (!is_protected(v))
        return soft_exc(v, VEC_UD);
    if (i->flags & I_MEM)
        rc = operand_load_rmw(v, i, 2, &lin, &dst);
    else
        dst = REG(16, v, i->ra);
    if (rc)
        return rc;
    bool raise = (dst & 3) < (src & 3u);
    if (raise) {
        dst = (dst & ~3ull) | (src & 3);
        if (i->flags & I_MEM)
            rc = operand_store_at(v, i, lin, 2, dst);
        else
            REG_PUT16(v, i->ra, dst);
    }
    if (!rc)
        operand_flag_put(v, FL_ZF, raise);
    return rc;
}

/* RDFSBASE WRFSBASE RDGSBASE WRGSBASE: 64-bit mode only. */
static int segment_base(struct vcpu *v, const struct insn *i)
{
    bool gs = i->op == ZYDIS_MNEMONIC_RDGSBASE || i->op == ZYDIS_MNEMONIC_WRGSBASE;
    bool write = i->op == ZYDIS_MNEMONIC_WRFSBASE || i->op == ZYDIS_MNEMONIC_WRGSBASE;
    uint64_t *base = &v->s.seg[gs ? SEG_GS : SEG_FS].base;

    if (!is64(v) || !(v->s.cr4 & CR4_FSGSBASE))
        return soft_exc(v, VEC_UD);
    if (!write) {
        operand_reg_put(v, i->ra, i->opsize, *base);
        return SOFT_OK;
    }
    uint64_t val = operand_reg(v, i->ra, i->opsize);
    if (!operand_canonical(val))
        return general_protection(v);
    *base = val;
    return SOFT_OK;
}

static int swapgs(struct vcpu *v, const struct insn *i)
{
    uint64_t base = v->s.seg[SEG_GS].base;

    if (!is64(v))
        return soft_exc(v, VEC_UD);
    if (soft_cpl(v))
        return general_protection(v);
    v->s.seg[SEG_GS].base = v->s.kernel_gs_base;
    v->s.kernel_gs_base = base;
    return SOFT_OK;
}

/* MOV with a segment register on either side. */
static int pick_mov(struct pick *p)
{
    struct insn *i = p->i;

    if (p->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER && p->op[0].reg.value >= ZYDIS_REGISTER_ES &&
        p->op[0].reg.value <= ZYDIS_REGISTER_GS) {
        if (i->a == SEG_CS)
            return 0;
        i->flags |= I_ENDS;
        i->fn = mov_to_seg;
        return 1;
    }
    i->opsize = (uint8_t)(p->op[0].size / 8);
    i->fn = mov_from_seg;
    return 1;
}

static int pick_load_pointer(struct pick *p, unsigned seg)
{
    struct insn *i = p->i;

    if (!(i->flags & I_MEM))
        return 0;
    i->opsize = (uint8_t)(p->op[0].size / 8);
    i->x = (uint16_t)seg;
    i->flags |= I_ENDS;
    i->fn = load_pointer;
    return 1;
}

static int pick_query(struct pick *p, enum seg_query q)
{
    p->i->opsize = (uint8_t)(p->op[0].size / 8);
    p->i->x = (uint16_t)q;
    p->i->fn = query;
    return 1;
}

int seg_pick(struct pick *p)
{
    struct insn *i = p->i;

    switch (p->z->mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
        return pick_mov(p);
    case ZYDIS_MNEMONIC_LDS:
        return pick_load_pointer(p, SEG_DS);
    case ZYDIS_MNEMONIC_LES:
        return pick_load_pointer(p, SEG_ES);
    case ZYDIS_MNEMONIC_LFS:
        return pick_load_pointer(p, SEG_FS);
    case ZYDIS_MNEMONIC_LGS:
        return pick_load_pointer(p, SEG_GS);
    case ZYDIS_MNEMONIC_LSS:
        return pick_load_pointer(p, SEG_SS);
    case ZYDIS_MNEMONIC_LLDT:
    case ZYDIS_MNEMONIC_LTR:
        i->fn = load_system;
        return 1;
    case ZYDIS_MNEMONIC_SLDT:
    case ZYDIS_MNEMONIC_STR:
        i->opsize = (uint8_t)(p->op[0].size / 8);
        i->fn = store_system;
        return 1;
    case ZYDIS_MNEMONIC_SGDT:
    case ZYDIS_MNEMONIC_SIDT:
        i->fn = store_table;
        return 1;
    case ZYDIS_MNEMONIC_LGDT:
    case ZYDIS_MNEMONIC_LIDT:
        i->opsize = p->z->operand_width / 8;
        i->fn = load_table;
        return 1;
    case ZYDIS_MNEMONIC_LAR:
        return pick_query(p, SEG_LAR);
    case ZYDIS_MNEMONIC_LSL:
        return pick_query(p, SEG_LSL);
    case ZYDIS_MNEMONIC_VERR:
        return pick_query(p, SEG_VERR);
    case ZYDIS_MNEMONIC_VERW:
        return pick_query(p, SEG_VERW);
    case ZYDIS_MNEMONIC_ARPL:
        i->fn = arpl;
        return 1;
    case ZYDIS_MNEMONIC_SWAPGS:
        i->fn = swapgs;
        return 1;
    default: /* RDFSBASE and relatives */
        i->opsize = (uint8_t)(p->op[0].size / 8);
        i->fn = segment_base;
        return 1;
    }
}
