/* cpu/interp/native_xsave.c - FXSAVE, the XSAVE family (standard form), MXCSR.
 * Source: SDM vol 1, 10.5 and chapter 13. */
#include "cpu/interp/native_priv.h"

#include "base/cleanup.h"

enum { HDR_COMP = 8, HDR_ZERO_END = 24, XMM_BYTES = 256, XMM_BYTES_32 = 128 };

static bool long64(const struct vcpu *v)
{
    return (v->mode & MODE_CS) == MODE_CS64;
}

static int fpu_nm(struct vcpu *v)
{
    if (v->s.cr0 & (CR0_EM | CR0_TS))
        return soft_exc(v, VEC_NM);
    native_live(v);
    return SOFT_OK;
}

static int xsave_check(struct vcpu *v)
{
    if (!(v->s.cr4 & CR4_OSXSAVE))
        return soft_exc(v, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        return soft_exc(v, VEC_NM);
    native_live(v);
    return SOFT_OK;
}

/* Linear address of the area: aligned and, for writing, writable as a whole. */
static int area(struct vcpu *v, const struct insn *i, unsigned len, unsigned align, bool write,
                gva_t *lin)
{
    struct insn t = *i;
    int rc;

    t.memlen = len;
    rc = insn_lin(v, &t, write, lin);
    if (!rc && *lin & (align - 1))
        rc = soft_exc_err(v, VEC_GP, 0);
    return rc ? rc : mmu_probe(v, *lin, len, write ? MMU_WRITE : MMU_READ);
}

static int load(struct vcpu *v, gva_t lin, uint8_t *dst, unsigned len)
{
    int rc = SOFT_OK;

    for (unsigned at = 0; !rc && at < len; at += 64)
        rc = native_ld(v, lin + at, dst + at, len - at < 64 ? len - at : 64);
    return rc;
}

static int store(struct vcpu *v, gva_t lin, const uint8_t *src, unsigned len)
{
    int rc = SOFT_OK;

    for (unsigned at = 0; !rc && at < len; at += 64)
        rc = native_st(v, lin + at, src + at, len - at < 64 ? len - at : 64);
    return rc;
}

/* Bytes [0, 24): the pointers are 64 bits with REX.W, else 32 and a selector that reads as 0. */
static void x87_head(const struct vcpu *v, bool wide, uint8_t *p)
{
    memcpy(p, v->s.xsave, FX_MXCSR);
    p[FX_FTW + 1] = 0;
    if (!wide) {
        memset(p + FX_FIP + 4, 0, 4);
        memset(p + FX_FDP + 4, 0, 4);
    }
}

/* What a guest's image may set in [0, 24). */
static void x87_head_take(struct vcpu *v, bool wide, const uint8_t *p)
{
    uint8_t *x = v->s.xsave;

    memcpy(x, p, FX_MXCSR);
    native_put16(x + FX_FCW, (native_get16(p + FX_FCW) & 0x1f7f) | 0x40);
    native_put16(x + FX_FOP, native_get16(p + FX_FOP) & 0x7ff);
    x[FX_FTW + 1] = 0;
    if (!wide) {
        memset(x + FX_FIP + 4, 0, 4);
        memset(x + FX_FDP + 4, 0, 4);
    }
    native_x87_summary(x);
}

static void x87_regs_take(struct vcpu *v, const uint8_t *p)
{
    for (unsigned n = 0; n < 8; n++) /* 80 bits each, the rest is reserved */
        memcpy(v->s.xsave + FX_ST + 16 * n, p + FX_ST + 16 * n, 10);
}

/* --- FXSAVE, FXRSTOR
 * ------------------------------------------------------------------------------ */

static bool wide_form(const struct insn *i)
{
    switch (i->op) {
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
    case ZYDIS_MNEMONIC_XRSTOR64:
        return true;
    default:
        return false;
    }
}

static int fxsave(struct vcpu *v, const struct insn *i)
{
    unsigned end = long64(v) ? FX_END : FX_XMM + XMM_BYTES_32;
    uint8_t buf[FX_END];
    gva_t lin;
    int rc = fpu_nm(v);

    if (!rc)
        rc = area(v, i, FX_BYTES, 16, true, &lin);
    if (rc)
        return rc;
    memcpy(buf, v->s.xsave, FX_END);
    x87_head(v, wide_form(i), buf);
    native_put32(buf + FX_MXCSR_MASK, MXCSR_VALID);
    return store(v, lin, buf, end);
}

static int fxrstor(struct vcpu *v, const struct insn *i)
{
    uint8_t buf[FX_BYTES];
    gva_t lin;
    int rc = fpu_nm(v);

    if (!rc)
        rc = area(v, i, FX_BYTES, 16, false, &lin);
    if (!rc)
        rc = load(v, lin, buf, FX_BYTES);
    if (rc)
        return rc;
    if (native_get32(buf + FX_MXCSR) & ~(uint32_t)MXCSR_VALID)
        return soft_exc_err(v, VEC_GP, 0);
    x87_head_take(v, wide_form(i), buf);
    x87_regs_take(v, buf);
    memcpy(v->s.xsave + FX_MXCSR, buf + FX_MXCSR, 4);
    memcpy(v->s.xsave + FX_XMM, buf + FX_XMM, long64(v) ? XMM_BYTES : XMM_BYTES_32);
    return SOFT_OK;
}

/* --- XSAVE, XSAVEOPT, XRSTOR ---------------------------------------------------------------------
 */

static uint64_t rfbm_of(const struct vcpu *v)
{
    return v->s.xcr0 & ((v->s.gpr[RDX] << 32) | (uint32_t)v->s.gpr[RAX]);
}

static unsigned area_bytes(const struct vcpu *v)
{
    return v->s.xcr0 & XCR0_AVX ? XSAVE_BYTES : XSAVE_YMMH;
}

/* Components that are not in their initial state: SDM vol 1, 13.6. */
static uint64_t in_use(const struct vcpu *v)
{
    static const uint8_t zero[XMM_BYTES];
    const uint8_t *x = v->s.xsave;
    uint64_t bv = 0;

    if (native_get16(x + FX_FCW) != 0x37f || native_get32(x + FX_FSW) || x[FX_FOP] ||
        x[FX_FOP + 1] || memcmp(x + FX_FIP, zero, 16) != 0 || memcmp(x + FX_ST, zero, 128) != 0)
        bv |= XCR0_X87;
    if (memcmp(x + FX_XMM, zero, XMM_BYTES) != 0)
        bv |= XCR0_SSE;
    if (memcmp(x + XSAVE_YMMH, zero, XMM_BYTES) != 0)
        bv |= XCR0_AVX;
    return bv;
}

/* `what`: components to write. MXCSR goes with SSE and with AVX. */
static int xsave_parts(struct vcpu *v, const struct insn *i, gva_t lin, uint64_t rfbm,
                       uint64_t what)
{
    unsigned bytes = long64(v) ? XMM_BYTES : XMM_BYTES_32;
    uint8_t *x = v->s.xsave, buf[FX_MXCSR], mx[8];
    int rc = SOFT_OK;

    if (what & XCR0_X87) {
        x87_head(v, wide_form(i), buf);
        rc = store(v, lin, buf, FX_MXCSR);
        if (!rc)
            rc = store(v, lin + FX_ST, x + FX_ST, FX_XMM - FX_ST);
    }
    if (!rc && rfbm & (XCR0_SSE | XCR0_AVX)) {
        memcpy(mx, x + FX_MXCSR, 4);
        native_put32(mx + 4, MXCSR_VALID);
        rc = store(v, lin + FX_MXCSR, mx, 8);
    }
    if (!rc && what & XCR0_SSE)
        rc = store(v, lin + FX_XMM, x + FX_XMM, bytes);
    if (!rc && what & XCR0_AVX)
        rc = store(v, lin + XSAVE_YMMH, x + XSAVE_YMMH, bytes);
    return rc;
}

static int save(struct vcpu *v, const struct insn *i, bool opt)
{
    uint64_t rfbm, used, bv = 0;
    gva_t lin;
    int rc = xsave_check(v);

    if (!rc)
        rc = area(v, i, area_bytes(v), 64, true, &lin);
    if (!rc)
        rc = mmu_read_slow(v, lin + XSAVE_HDR, &bv, 8, MMU_READ);
    if (rc)
        return rc;
    rfbm = rfbm_of(v);
    used = in_use(v);
    rc = xsave_parts(v, i, lin, rfbm, opt ? rfbm & used : rfbm);
    if (rc)
        return rc;
    bv = (bv & ~rfbm) | (used & rfbm);
    return mmu_write_slow(v, lin + XSAVE_HDR, &bv, 8, MMU_WRITE);
}

static int xsave(struct vcpu *v, const struct insn *i)
{
    return save(v, i, false);
}

static int xsaveopt(struct vcpu *v, const struct insn *i)
{
    return save(v, i, true);
}

/* SDM vol 1, 13.8.1: header and MXCSR of a standard area. */
static bool area_legal(const struct vcpu *v, const uint8_t *buf, uint64_t rfbm)
{
    if (native_get64(buf + XSAVE_HDR) & ~v->s.xcr0)
        return false;
    for (unsigned n = HDR_COMP; n < HDR_ZERO_END; n++)
        if (buf[XSAVE_HDR + n])
            return false;
    return !(rfbm & (XCR0_SSE | XCR0_AVX)) ||
           !(native_get32(buf + FX_MXCSR) & ~(uint32_t)MXCSR_VALID);
}

static int xrstor(struct vcpu *v, const struct insn *i)
{
    static const uint8_t zero[XMM_BYTES];
    uint8_t buf[XSAVE_BYTES], *x = v->s.xsave;
    uint64_t rfbm, bv;
    gva_t lin;
    int rc = xsave_check(v);

    if (!rc)
        rc = area(v, i, area_bytes(v), 64, false, &lin);
    if (!rc)
        rc = load(v, lin, buf, area_bytes(v));
    if (rc)
        return rc;
    rfbm = rfbm_of(v);
    if (!area_legal(v, buf, rfbm))
        return soft_exc_err(v, VEC_GP, 0);
    bv = native_get64(buf + XSAVE_HDR);
    unsigned bytes = long64(v) ? XMM_BYTES : XMM_BYTES_32;
    if (rfbm & bv & XCR0_X87) {
        x87_head_take(v, wide_form(i), buf);
        x87_regs_take(v, buf);
    } else if (rfbm & XCR0_X87) {
        memset(x, 0, FX_MXCSR);
        native_put16(x + FX_FCW, 0x37f);
        memset(x + FX_ST, 0, FX_XMM - FX_ST);
    }
    if (rfbm & (XCR0_SSE | XCR0_AVX))
        memcpy(x + FX_MXCSR, buf + FX_MXCSR, 4);
    if (rfbm & XCR0_SSE)
        memcpy(x + FX_XMM, bv & XCR0_SSE ? buf + FX_XMM : zero, bytes);
    if (rfbm & XCR0_AVX)
        memcpy(x + XSAVE_YMMH, bv & XCR0_AVX ? buf + XSAVE_YMMH : zero, bytes);
    return SOFT_OK;
}

/* --- MXCSR --------------------------------------------------------------------------------------
 */

static int mxcsr_check(struct vcpu *v, const struct insn *i)
{
    bool vex = i->op == ZYDIS_MNEMONIC_VLDMXCSR || i->op == ZYDIS_MNEMONIC_VSTMXCSR;
    int rc = vex ? native_avx_check(v) : native_sse_check(v);

    if (!rc)
        native_live(v);
    return rc;
}

static int ldmxcsr(struct vcpu *v, const struct insn *i)
{
    uint8_t buf[4];
    gva_t lin;
    int rc = mxcsr_check(v, i);

    if (!rc)
        rc = insn_lin(v, i, false, &lin);
    if (!rc)
        rc = native_ld(v, lin, buf, 4);
    if (rc)
        return rc;
    if (native_get32(buf) & ~(uint32_t)MXCSR_VALID)
        return soft_exc_err(v, VEC_GP, 0);
    memcpy(v->s.xsave + FX_MXCSR, buf, 4);
    return SOFT_OK;
}

static int stmxcsr(struct vcpu *v, const struct insn *i)
{
    gva_t lin;
    int rc = mxcsr_check(v, i);

    if (!rc)
        rc = insn_lin(v, i, true, &lin);
    return rc ? rc : native_st(v, lin, v->s.xsave + FX_MXCSR, 4);
}

insn_fn native_xsave_handler(ZydisMnemonic m)
{
    static const struct {
        ZydisMnemonic m;
        insn_fn fn;
    } table[] = {
        {ZYDIS_MNEMONIC_FXSAVE, fxsave},     {ZYDIS_MNEMONIC_FXSAVE64, fxsave},
        {ZYDIS_MNEMONIC_FXRSTOR, fxrstor},   {ZYDIS_MNEMONIC_FXRSTOR64, fxrstor},
        {ZYDIS_MNEMONIC_XSAVE, xsave},       {ZYDIS_MNEMONIC_XSAVE64, xsave},
        {ZYDIS_MNEMONIC_XSAVEOPT, xsaveopt}, {ZYDIS_MNEMONIC_XSAVEOPT64, xsaveopt},
        {ZYDIS_MNEMONIC_XRSTOR, xrstor},     {ZYDIS_MNEMONIC_XRSTOR64, xrstor},
        {ZYDIS_MNEMONIC_LDMXCSR, ldmxcsr},   {ZYDIS_MNEMONIC_VLDMXCSR, ldmxcsr},
        {ZYDIS_MNEMONIC_STMXCSR, stmxcsr},   {ZYDIS_MNEMONIC_VSTMXCSR, stmxcsr},
    };

    for (unsigned n = 0; n < ARRAY_LEN(table); n++)
        if (table[n].m == m)
            return table[n].fn;
    return NULL;
}
