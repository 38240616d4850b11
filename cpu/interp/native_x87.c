/* cpu/interp/native_x87.c - x87 and MMX: the stub runs on the guest's whole FXSAVE image. */
#include "cpu/interp/native_priv.h"

/* Flags that are set and not masked, in an image. */
static unsigned pending(const uint8_t *fx)
{
    return native_get16(fx + FX_FSW) & ~native_get16(fx + FX_FCW) & FPU_EXC;
}

void native_x87_summary(uint8_t *fx)
{
    uint16_t fsw = native_get16(fx + FX_FSW) & (uint16_t) ~(FSW_ES | FSW_B);

    native_put16(fx + FX_FSW, pending(fx) ? fsw | FSW_ES | FSW_B : fsw);
}

void native_x87_top(uint8_t *fx, unsigned top)
{
    uint16_t fsw = native_get16(fx + FX_FSW);
    unsigned old = fsw >> 11 & 7;
    uint8_t st[8 * 16];

    for (unsigned n = 0; n < 8; n++)
        memcpy(st + 16 * n, fx + FX_ST + 16 * ((n + top - old) & 7), 16);
    memcpy(fx + FX_ST, st, sizeof(st));
    native_put16(fx + FX_FSW, (uint16_t)((fsw & ~(7u << 11)) | (top & 7) << 11));
}

void native_mmx_enter(uint8_t *fx)
{
    native_x87_top(fx, 0);
    fx[FX_FTW] = 0xff;
}

int native_x87_check(struct vcpu *v)
{
    if (v->s.cr0 & (CR0_EM | CR0_TS))
        return soft_exc(v, VEC_NM);
    native_live(v);
    return pending(v->s.xsave) ? soft_exc(v, VEC_MF) : SOFT_OK;
}

static void set_flags(struct vcpu *v, const struct insn *i, const struct native_io *io)
{
    if (i->x & NX_FLAGS)
        v->s.rflags = (v->s.rflags & ~(uint64_t)FL_ARITH) | (io->flags & FL_ARITH);
}

/* Last instruction and operand: SDM vol 1, 8.1.8. The selectors read as 0, as CPUID says
 * (CPUID.7.EBX bit 13). */
static void set_pointers(struct vcpu *v, const struct insn *i, gva_t lin)
{
    uint8_t *x = v->s.xsave;

    native_put16(x + FX_FOP, (uint16_t)i->y);
    native_put64(x + FX_FIP, insn_rip(v, i));
    if (i->x & (NX_READ | NX_WRITE))
        native_put64(x + FX_FDP, i->flags & I_LIN ? lin : lin - v->s.seg[i->seg].base);
}

int native_x87(struct vcpu *v, const struct insn *i)
{
    uint8_t *x = v->s.xsave;
    struct native_io io;
    gva_t lin = 0;
    int rc = native_x87_check(v);

    if (!rc && i->x & (NX_READ | NX_WRITE))
        rc = insn_lin(v, i, i->x & NX_WRITE, &lin);
    if (!rc && i->x & (NX_READ | NX_WRITE))
        rc = native_align(v, lin, i->memlen);
    if (!rc && i->x & NX_READ)
        rc = native_ld(v, lin, io.mem, i->memlen);
    if (rc)
        return rc;
    io.flags = (v->s.rflags & FL_ARITH) | FL_FIXED;
    ((native_fn)i->stub)(v, &io);
    if (i->x & NX_WRITE && pending(io.fx) & FPU_STORE_EXC)
        rc = mmu_probe(v, lin, i->memlen, MMU_WRITE);
    else if (i->x & NX_WRITE)
        rc = native_st(v, lin, io.mem, i->memlen);
    if (rc)
        return rc;
    memcpy(x, io.fx, FX_FOP);
    memcpy(x + FX_ST, io.fx + FX_ST, FX_XMM - FX_ST);
    set_pointers(v, i, lin);
    set_flags(v, i, &io);
    return SOFT_OK;
}

/* SDM vol 3A, table 12-1 and, for forms with XMM registers, 13-1. */
static int mmx_check(struct vcpu *v, const struct insn *i)
{
    if (v->s.cr0 & CR0_EM || (i->x & NX_XMM && !(v->s.cr4 & CR4_OSFXSR)))
        return soft_exc(v, VEC_UD);
    return native_x87_check(v);
}

static int mmx_operand(struct vcpu *v, const struct insn *i, gva_t *lin)
{
    int rc = insn_lin(v, i, i->x & NX_WRITE, lin);

    if (rc)
        return rc;
    if (i->x & NX_ALIGN && *lin & (i->memlen - 1))
        return soft_exc_err(v, VEC_GP, 0);
    return SOFT_OK;
}

int native_mmx(struct vcpu *v, const struct insn *i)
{
    uint8_t *x = v->s.xsave;
    uint32_t mxcsr = native_get32(x + FX_MXCSR), news = 0, unmasked = 0;
    struct native_io io;
    gva_t lin = 0;
    int rc = mmx_check(v, i);

    if (!rc && i->x & (NX_READ | NX_WRITE))
        rc = mmx_operand(v, i, &lin);
    if (!rc && i->x & NX_READ)
        rc = native_ld(v, lin, io.mem, i->memlen);
    if (rc)
        return rc;
    io.flags = FL_FIXED;
    native_mxcsr_load(&io, mxcsr);
    ((native_fn)i->stub)(v, &io);
    if (i->x & NX_MXCSR) {
        io.mxcsr_out = native_get32(io.fx + FX_MXCSR);
        unmasked = io.mxcsr_out & io.unmasked;
        news = io.mxcsr_out & (unmasked & MXCSR_PRE ? MXCSR_PRE : MXCSR_FLAGS);
        native_put32(x + FX_MXCSR, mxcsr | news);
        if (unmasked) {
            native_mmx_enter(x);
            return native_xm(v);
        }
    }
    if (i->x & NX_WRITE) {
        rc = native_st(v, lin, io.mem, i->memlen);
        if (rc)
            return rc;
    }
    memcpy(x, io.fx, FX_FOP);
    memcpy(x + FX_ST, io.fx + FX_ST, FX_XMM - FX_ST);
    if (i->x & NX_XMM)
        memcpy(x + FX_XMM, io.fx + FX_XMM, FX_END - FX_XMM);
    return SOFT_OK;
}
