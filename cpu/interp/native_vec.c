/* cpu/interp/native_vec.c - SSE and AVX instructions: around their stubs. */
#include "cpu/interp/native_priv.h"

int native_sse_check(struct vcpu *v)
{
    if (v->s.cr0 & CR0_EM || !(v->s.cr4 & CR4_OSFXSR))
        return soft_exc(v, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        return soft_exc(v, VEC_NM);
    return SOFT_OK;
}

int native_avx_check(struct vcpu *v)
{
    uint64_t need = XCR0_SSE | XCR0_AVX;

    if (!(v->s.cr4 & CR4_OSXSAVE) || (v->s.xcr0 & need) != need)
        return soft_exc(v, VEC_UD);
    if (v->s.cr0 & CR0_TS)
        return soft_exc(v, VEC_NM);
    return SOFT_OK;
}

static inline int check(struct vcpu *v, const struct insn *i)
{
    uint32_t bad = i->x & NX_VEX ? MODE_AVX_BAD : MODE_SSE_BAD;
    int rc = SOFT_OK;

    if (__builtin_expect(v->mode & bad, 0))
        rc = i->x & NX_VEX ? native_avx_check(v) : native_sse_check(v);
    if (!rc)
        native_live(v);
    return rc;
}

int native_vec_reg(struct vcpu *v, const struct insn *i)
{
    struct native_io io;
    int rc = check(v, i);

    if (rc)
        return rc;
    ((native_fn)i->stub)(v, &io);
    return SOFT_OK;
}

static int operand(struct vcpu *v, const struct insn *i, gva_t *lin)
{
    int rc = insn_lin(v, i, i->x & NX_WRITE, lin);

    if (rc)
        return rc;
    if (i->x & NX_ALIGN && *lin & (i->memlen - 1))
        return soft_exc_err(v, VEC_GP, 0);
    return native_align(v, *lin, i->memlen);
}

static void take_flags(struct vcpu *v, const struct native_io *io)
{
    v->s.rflags = (v->s.rflags & ~(uint64_t)FL_ARITH) | (io->flags & FL_ARITH);
}

int native_vec(struct vcpu *v, const struct insn *i)
{
    uint32_t mxcsr = native_get32(v->s.xsave + FX_MXCSR), news = 0, unmasked = 0;
    struct native_io io;
    gva_t lin = 0;
    int rc = check(v, i);

    if (!rc && i->x & (NX_READ | NX_WRITE))
        rc = operand(v, i, &lin);
    if (!rc && i->x & NX_READ)
        rc = native_ld(v, lin, io.mem, i->memlen);
    if (rc)
        return rc;
    if (i->x & NX_MXCSR)
        native_mxcsr_load(&io, mxcsr);
    ((native_fn)i->stub)(v, &io);
    if (i->x & NX_MXCSR) {
        unmasked = io.mxcsr_out & io.unmasked;
        news = io.mxcsr_out & (unmasked & MXCSR_PRE ? MXCSR_PRE : MXCSR_FLAGS);
    }
    if (i->x & NX_WRITE) { /* its faults come before #XM */
        rc = unmasked ? mmu_probe(v, lin, i->memlen, MMU_WRITE)
                      : native_st(v, lin, io.mem, i->memlen);
        if (rc)
            return rc;
    }
    if (news)
        native_put32(v->s.xsave + FX_MXCSR, mxcsr | news);
    if (unmasked)
        return native_xm(v);
    if (i->x & NX_FLAGS)
        take_flags(v, &io);
    return SOFT_OK;
}

void native_mxcsr_load(struct native_io *io, uint32_t mxcsr)
{
    io->mxcsr_in = (mxcsr & MXCSR_VALID & ~(uint32_t)MXCSR_FLAGS) | MXCSR_MASKS;
    io->unmasked = ~(mxcsr >> 7) & MXCSR_FLAGS;
    /* Unmasked, underflow is any tiny result, masked only an inexact one (SDM vol 1, 11.5.2.5):
     * flushing to zero reports all of them, and a result that was flushed is not stored. */
    if (io->unmasked & MXCSR_UE)
        io->mxcsr_in |= MXCSR_FTZ;
}

int native_xm(struct vcpu *v)
{
    return soft_exc(v, v->s.cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
}

/* VZEROUPPER, VZEROALL: eight registers outside 64-bit mode. */
static int zero(struct vcpu *v, bool all)
{
    unsigned bytes = (v->mode & MODE_CS) == MODE_CS64 ? 256 : 128;
    int rc = native_avx_check(v);

    if (rc)
        return rc;
    native_live(v);
    memset(v->s.xsave + XSAVE_YMMH, 0, bytes);
    if (all)
        memset(v->s.xsave + XSAVE_XMM, 0, bytes);
    return SOFT_OK;
}

int native_zeroupper(struct vcpu *v, const struct insn *i)
{
    return zero(v, false);
}

int native_zeroall(struct vcpu *v, const struct insn *i)
{
    return zero(v, true);
}

void native_live_slow(struct vcpu *v)
{
    uint8_t *x = v->s.xsave, missing = (uint8_t)(XCR0_ALL & ~x[XSAVE_HDR]);

    if (missing & XCR0_X87) {
        memset(x, 0, FX_MXCSR);
        memset(x + FX_ST, 0, XSAVE_XMM - FX_ST);
        native_put16(x + FX_FCW, 0x37f);
    }
    if (missing & XCR0_SSE)
        memset(x + XSAVE_XMM, 0, 256);
    if (missing & XCR0_AVX)
        memset(x + XSAVE_YMMH, 0, 256);
    x[XSAVE_HDR] = XCR0_ALL;
}
