/* cpu/interp/native_mask.c - moves under a mask and gathers, element by element: a masked-out
 * element touches no memory. Source: SDM vol 2, MASKMOVDQU, VMASKMOV, VPMASKMOV, VPGATHER. */
#include "cpu/interp/native_priv.h"

#include <stddef.h>

enum { VEC_MAX = 32 };

struct elems {                /* insn.y */
    uint8_t reg, mask, index; /* register numbers */
    uint8_t esize, isize;     /* bytes of an element, of an index */
    uint8_t count;            /* elements */
    uint8_t unused;
    uint8_t scale;
};
_Static_assert(sizeof(struct elems) == sizeof(uint64_t), "lives in insn.y");

static struct elems elems_of(const struct insn *i)
{
    struct elems e;

    memcpy(&e, &i->y, sizeof(e));
    return e;
}

static void get_vec(const struct vcpu *v, unsigned n, uint8_t out[VEC_MAX])
{
    memcpy(out, v->s.xsave + XSAVE_XMM + 16 * n, 16);
    memcpy(out + 16, v->s.xsave + XSAVE_YMMH + 16 * n, 16);
}

static void put_vec(struct vcpu *v, unsigned n, const uint8_t in[VEC_MAX])
{
    memcpy(v->s.xsave + XSAVE_XMM + 16 * n, in, 16);
    memcpy(v->s.xsave + XSAVE_YMMH + 16 * n, in + 16, 16);
}

static bool chosen(const uint8_t *mask, unsigned n, unsigned esize)
{
    return mask[n * esize + esize - 1] & 0x80;
}

/* Linear address `off` bytes behind the operand's. */
static int elem_lin(struct vcpu *v, const struct insn *i, int64_t off, unsigned len, bool write,
                    gva_t *lin)
{
    struct insn t = *i;

    t.disp += off;
    t.memlen = len;
    return insn_lin(v, &t, write, lin);
}

/* VMASKMOV and its kin report no #AC (SDM vol 2, exceptions type 6); CPL 3 is where it could be. */
static int elem_ld(struct vcpu *v, gva_t lin, uint8_t *dst, unsigned len)
{
    return v->align_check ? mmu_read_slow(v, lin, dst, len, MMU_READ | MMU_USER)
                          : native_ld(v, lin, dst, len);
}

static int elem_st(struct vcpu *v, gva_t lin, const uint8_t *src, unsigned len)
{
    return v->align_check ? mmu_write_slow(v, lin, src, len, MMU_WRITE | MMU_USER)
                          : native_st(v, lin, src, len);
}

/* Write the chosen elements of data[]; all of them may be written before any is. */
static int masked_store(struct vcpu *v, const struct insn *i, const struct elems *e,
                        const uint8_t *mask, const uint8_t *data)
{
    gva_t lin[16];
    int rc = SOFT_OK;

    if (e->esize == 1) /* addressing counts even with a mask of zeros */
        rc = elem_lin(v, i, 0, e->count, true, &lin[0]);

    for (unsigned n = 0; !rc && n < e->count; n++) {
        if (!chosen(mask, n, e->esize))
            continue;
        rc = elem_lin(v, i, n * e->esize, e->esize, true, &lin[n]);
        if (!rc)
            rc = mmu_probe(v, lin[n], e->esize, MMU_WRITE);
    }
    for (unsigned n = 0; !rc && n < e->count; n++)
        if (chosen(mask, n, e->esize))
            rc = elem_st(v, lin[n], data + n * e->esize, e->esize);
    return rc;
}

static int vmask_check(struct vcpu *v)
{
    int rc = native_avx_check(v);

    if (!rc)
        native_live(v);
    return rc;
}

static int vmask_load(struct vcpu *v, const struct insn *i)
{
    uint8_t mask[VEC_MAX], data[VEC_MAX] = {0};
    struct elems e = elems_of(i);
    gva_t lin;
    int rc = vmask_check(v);

    get_vec(v, e.mask, mask);
    for (unsigned n = 0; !rc && n < e.count; n++) {
        if (!chosen(mask, n, e.esize))
            continue;
        rc = elem_lin(v, i, n * e.esize, e.esize, false, &lin);
        if (!rc)
            rc = elem_ld(v, lin, data + n * e.esize, e.esize);
    }
    if (!rc)
        put_vec(v, e.reg, data);
    return rc;
}

static int vmask_store(struct vcpu *v, const struct insn *i)
{
    uint8_t mask[VEC_MAX], data[VEC_MAX];
    struct elems e = elems_of(i);
    int rc = vmask_check(v);

    if (rc)
        return rc;
    get_vec(v, e.mask, mask);
    get_vec(v, e.reg, data);
    return masked_store(v, i, &e, mask, data);
}

/* MASKMOVDQU, VMASKMOVDQU: bytes to DS:RDI */
static int maskmov_xmm(struct vcpu *v, const struct insn *i)
{
    uint8_t mask[VEC_MAX], data[VEC_MAX];
    struct elems e = elems_of(i);
    int rc = i->x & NX_VEX ? native_avx_check(v) : native_sse_check(v);

    if (rc)
        return rc;
    native_live(v);
    get_vec(v, e.mask, mask);
    get_vec(v, e.reg, data);
    return masked_store(v, i, &e, mask, data);
}

/* MASKMOVQ */
static int maskmov_mmx(struct vcpu *v, const struct insn *i)
{
    uint8_t *x = v->s.xsave;
    struct elems e = elems_of(i);
    unsigned top;
    int rc;

    if (v->s.cr0 & CR0_EM)
        return soft_exc(v, VEC_UD);
    rc = native_x87_check(v);
    if (rc)
        return rc;
    top = native_get16(x + FX_FSW) >> 11 & 7;
    rc = masked_store(v, i, &e, x + FX_ST + 16 * ((e.mask - top) & 7),
                      x + FX_ST + 16 * ((e.reg - top) & 7));
    if (rc)
        return rc;
    native_mmx_enter(x);
    return SOFT_OK;
}

static int64_t index_of(const struct elems *e, const uint8_t *vec, unsigned n)
{
    int32_t narrow;
    int64_t wide;

    if (e->isize == 4) {
        memcpy(&narrow, vec + 4 * n, 4);
        return (int64_t)narrow * e->scale;
    }
    memcpy(&wide, vec + 8 * n, 8);
    return (int64_t)((uint64_t)wide * e->scale);
}

/* On a fault the elements already read stay and their mask is cleared; one that waits for a device
 * is run again from the start and so must have changed nothing. */
static int gather(struct vcpu *v, const struct insn *i)
{
    uint8_t mask[VEC_MAX], data[VEC_MAX], index[VEC_MAX];
    struct elems e = elems_of(i);
    unsigned used = e.count * e.esize;
    gva_t lin;
    int rc = vmask_check(v);

    if (rc)
        return rc;
    get_vec(v, e.mask, mask);
    get_vec(v, e.reg, data);
    get_vec(v, e.index, index);
    for (unsigned n = 0; n < e.count; n++) {
        if (chosen(mask, n, e.esize)) {
            rc = elem_lin(v, i, index_of(&e, index, n), e.esize, false, &lin);
            if (!rc)
                rc = native_ld(v, lin, data + n * e.esize, e.esize);
            if (rc)
                break;
        }
        memset(mask + n * e.esize, 0, e.esize);
    }
    if (rc && rc != SOFT_FAULT)
        return rc;
    if (!rc) {
        memset(mask, 0, sizeof(mask));
        memset(data + used, 0, sizeof(data) - used);
    }
    put_vec(v, e.reg, data);
    put_vec(v, e.mask, mask);
    return rc;
}

/* --- decoding ------------------------------------------------------------------------------------
 */

static uint8_t reg_of(const ZydisDecodedOperand *op)
{
    return (uint8_t)ZydisRegisterGetId(op->reg.value);
}

/* The implied operand at DS:RDI. */
static void at_rdi(const struct native_job *j)
{
    struct insn *i = j->i;

    for (unsigned n = 0; n < j->z->operand_count; n++)
        if (j->op[n].type == ZYDIS_OPERAND_TYPE_MEMORY && j->op[n].mem.segment >= ZYDIS_REGISTER_ES)
            i->seg = (uint8_t)(j->op[n].mem.segment - ZYDIS_REGISTER_ES);
    i->base = RDI;
    i->base_at = RDI * 8;
    i->flags |= I_MEM;
    if (j->z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 && i->adsize == 8)
        i->flags |= i->seg == SEG_FS || i->seg == SEG_GS ? I_LINSEG : I_LIN;
}

static insn_fn maskmov(const struct native_job *j, struct elems *e)
{
    bool mmx = j->z->mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;

    *e = (struct elems){
        .reg = reg_of(&j->op[0]), .mask = reg_of(&j->op[1]), .esize = 1, .count = mmx ? 8 : 16};
    at_rdi(j);
    return mmx ? maskmov_mmx : maskmov_xmm;
}

static insn_fn vmask(const struct native_job *j, struct elems *e, unsigned esize)
{
    bool write = j->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;

    *e = (struct elems){.reg = reg_of(&j->op[write ? 2 : 0]),
                        .mask = reg_of(&j->op[1]),
                        .esize = (uint8_t)esize,
                        .count = (uint8_t)(j->z->avx.vector_length / 8 / esize)};
    return write ? vmask_store : vmask_load;
}

static insn_fn gathers(const struct native_job *j, struct elems *e, unsigned isize, unsigned esize)
{
    unsigned big = isize > esize ? isize : esize;

    *e = (struct elems){.reg = reg_of(&j->op[0]),
                        .mask = reg_of(&j->op[2]),
                        .index = (uint8_t)ZydisRegisterGetId(j->op[1].mem.index),
                        .esize = (uint8_t)esize,
                        .isize = (uint8_t)isize,
                        .count = (uint8_t)(j->z->avx.vector_length / 8 / big),
                        .scale = j->op[1].mem.scale ? j->op[1].mem.scale : 1};
    return gather;
}

static insn_fn handler(const struct native_job *j, struct elems *e)
{
    switch (j->z->mnemonic) {
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
        return maskmov(j, e);
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
        return vmask(j, e, 4);
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
        return vmask(j, e, 8);
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VGATHERDPS:
        return gathers(j, e, 4, 4);
    case ZYDIS_MNEMONIC_VPGATHERDQ:
    case ZYDIS_MNEMONIC_VGATHERDPD:
        return gathers(j, e, 4, 8);
    case ZYDIS_MNEMONIC_VPGATHERQD:
    case ZYDIS_MNEMONIC_VGATHERQPS:
        return gathers(j, e, 8, 4);
    case ZYDIS_MNEMONIC_VPGATHERQQ:
    case ZYDIS_MNEMONIC_VGATHERQPD:
        return gathers(j, e, 8, 8);
    default:
        return NULL;
    }
}

bool native_mask_decode(const struct native_job *j)
{
    struct elems e;
    insn_fn fn = handler(j, &e);

    if (!fn)
        return false;
    j->i->fn = fn;
    memcpy(&j->i->y, &e, sizeof(e));
    return true;
}
