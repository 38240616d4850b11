/* cpu/interp/native_priv.h - what the files of native.h share.
 *
 * native.c        stub memory; which handler an instruction gets
 * native_isa.c    which instructions the CPU model offers
 * native_stub.c   generated code
 * native_vec.c    SSE and AVX          native_mask.c   masked moves and gathers
 * native_x87.c    x87 and MMX          native_env.c    x87 control, FNSTENV, FNSAVE
 * native_xsave.c  FXSAVE, XSAVE, MXCSR */
#ifndef CPU_INTERP_NATIVE_PRIV_H
#define CPU_INTERP_NATIVE_PRIV_H

#include <string.h>

#include "cpu/interp/native.h"
#include "cpu/soft/mmu.h"

enum { /* layout of the legacy region: SDM vol 1, 10.5.1 */
       FX_FCW = 0,
       FX_FSW = 2,
       FX_FTW = 4, /* abridged: bit n = physical register n is in use */
       FX_FOP = 6,
       FX_FIP = 8,
       FX_FDP = 16,
       FX_MXCSR = 24,
       FX_MXCSR_MASK = 28,
       FX_ST = 32,
       FX_XMM = XSAVE_XMM,
       FX_END = 416, /* the processor writes nothing behind it */
       FX_BYTES = 512,
};

enum {
    MXCSR_FLAGS = 0x3f,
    MXCSR_MASKS = 0x1f80,
    MXCSR_VALID = 0xffff, /* MXCSR_MASK of the CPU model: no misaligned SSE (bit 17) */
    MXCSR_UE = 0x10,
    MXCSR_FTZ = 0x8000,
    MXCSR_PRE = 7, /* IE, DE, ZE: found before computing; SDM vol 1, 11.5.2 */
    FPU_EXC = 0x3f,
    FPU_STORE_EXC = 0x19, /* IE, OE, UE: unmasked, they keep a store from happening */
    FSW_ES = 0x80,
    FSW_B = 0x8000,
};

enum { /* insn.x: what a handler has to do around the stub */
       NX_READ = 1 << 0,
       NX_WRITE = 1 << 1,
       NX_ALIGN = 1 << 2, /* the memory operand must be aligned to its size */
       NX_MXCSR = 1 << 3,
       NX_FLAGS = 1 << 4,   /* writes the arithmetic flags */
       NX_XMM = 1 << 5,     /* x87 or MMX form that also touches XMM registers */
       NX_FX_STUB = 1 << 6, /* the stub loads and saves all of the FXSAVE image */
       NX_VEX = 1 << 7,
};

/* insn.y of x87 instructions is what FOP becomes: SDM vol 1, 8.1.9. */

/* Second argument of a stub. */
struct native_io {
    _Alignas(64) uint8_t mem[64]; /* the memory operand */
    uint32_t mxcsr_in;            /* guest's, exceptions masked, flags clear */
    uint32_t mxcsr_out;
    uint32_t unmasked; /* flags which the guest does not mask: then nothing is stored */
    uint32_t mxcsr_host;
    uint64_t flags;                    /* x87: in and out; else out */
    _Alignas(64) uint8_t fx[FX_BYTES]; /* x87 and MMX: the image after the instruction */
};
typedef void (*native_fn)(struct vcpu *v, struct native_io *io);

struct native {
    int fd;
    uint8_t *rw;
    const uint8_t *rx;
    unsigned used; /* bytes */
};

/* One instruction on its way to a stub. */
struct native_job {
    const ZydisDecodedInstruction *z;
    const ZydisDecodedOperand *op;
    const uint8_t *raw;
    struct insn *i;
};

/* native_isa.c: */
enum native_kind { NATIVE_NONE, NATIVE_X87, NATIVE_MMX, NATIVE_SSE, NATIVE_AVX, NATIVE_STATE };
/* NATIVE_NONE: not ours, or the model does not offer it. */
enum native_kind native_isa_kind(const struct vcpu *v, const struct native_job *j);
/* Alignment rules and use of MXCSR. */
bool native_isa_aligned(const struct native_job *j);
bool native_isa_mxcsr(const ZydisDecodedInstruction *z);
bool native_isa_has(const struct native_job *j, ZydisRegisterClass c);

/* native_stub.c: emit code at n->rw + n->used; 0 or -ENOSPC. i->x is filled already. */
int native_stub(struct native *n, const struct native_job *j);

/* Handlers. */
int native_vec(struct vcpu *v, const struct insn *i);
int native_vec_reg(struct vcpu *v,
                   const struct insn *i); /* SSE: registers only, no MXCSR, no flags */
int native_x87(struct vcpu *v, const struct insn *i);
int native_mmx(struct vcpu *v, const struct insn *i);
int native_zeroupper(struct vcpu *v, const struct insn *i);
int native_zeroall(struct vcpu *v, const struct insn *i);

/* native_mask.c: true = it is one; i->fn and i->y are filled. */
bool native_mask_decode(const struct native_job *j);
/* native_env.c, native_xsave.c: handler of the mnemonic, or NULL. */
insn_fn native_env_handler(ZydisMnemonic m);
insn_fn native_xsave_handler(ZydisMnemonic m);

/* native_vec.c: #UD or #NM if CR0, CR4, XCR0 say so. SDM vol 3A, tables 13-1, 2-18 of vol 2. */
int native_sse_check(struct vcpu *v);
int native_avx_check(struct vcpu *v);
/* What the stub needs of the guest's MXCSR; and #XM, or #UD when CR4 does not allow it. */
void native_mxcsr_load(struct native_io *io, uint32_t mxcsr);
int native_xm(struct vcpu *v);
/* native_x87.c: #NM, then #MF. With CR0.NE = 0 the processor would raise FERR# instead and a PC's
 * board turn it into IRQ 13; here it is #MF in both cases. */
int native_x87_check(struct vcpu *v);
/* Make `top` the register that is ST0. The image holds registers by stack position, so they move.
 */
void native_x87_top(uint8_t *fx, unsigned top);
/* What every MMX instruction does: TOP 0, no register empty (SDM vol 3A, 12.2). */
void native_mmx_enter(uint8_t *fx);
/* Set what follows from FCW and the flags: ES and B. */
void native_x87_summary(uint8_t *fx);

/* Every component is in use from the first instruction on; bring those XSTATE_BV leaves out to
 * their initial values (SDM vol 1, 13.6). MXCSR counts whatever XSTATE_BV says. */
void native_live_slow(struct vcpu *v);
static inline void native_live(struct vcpu *v)
{
    if (__builtin_expect(v->s.xsave[XSAVE_HDR] != XCR0_ALL, 0))
        native_live_slow(v);
}

static inline uint32_t native_get32(const uint8_t *p)
{
    uint32_t x;

    memcpy(&x, p, sizeof(x));
    return x;
}

static inline uint16_t native_get16(const uint8_t *p)
{
    uint16_t x;

    memcpy(&x, p, sizeof(x));
    return x;
}

static inline uint64_t native_get64(const uint8_t *p)
{
    uint64_t x;

    memcpy(&x, p, sizeof(x));
    return x;
}

static inline void native_put16(uint8_t *p, uint16_t x)
{
    memcpy(p, &x, sizeof(x));
}

static inline void native_put32(uint8_t *p, uint32_t x)
{
    memcpy(p, &x, sizeof(x));
}

static inline void native_put64(uint8_t *p, uint64_t x)
{
    memcpy(p, &x, sizeof(x));
}

/* Host address of [lin, lin+len) if the TLB has it, else NULL. */
static inline uint8_t *native_fast(const struct vcpu *v, gva_t lin, unsigned len, bool write)
{
    const struct tlb_entry *t = mmu_slot(v, lin);
    uint64_t tag = write ? t->wr : t->rd;

    if (__builtin_expect(
            tag == (lin & ~(gva_t)(MEM_PAGE - 1)) && (lin & (MEM_PAGE - 1)) <= MEM_PAGE - len, 1))
        return (uint8_t *)(uintptr_t)(lin + t->addend);
    return NULL;
}

static inline void native_copy(uint8_t *dst, const uint8_t *src, unsigned len)
{
    switch (len) {
    case 4:
        memcpy(dst, src, 4);
        break;
    case 8:
        memcpy(dst, src, 8);
        break;
    case 16:
        memcpy(dst, src, 16);
        break;
    case 32:
        memcpy(dst, src, 32);
        break;
    default:
        memcpy(dst, src, len);
    }
}

/* #AC of operands the MMU does not check: vectors (of 256 bits the halves count), and 80-bit
 * reals as quadwords. SDM vol 3A, table 6-7. */
static inline int native_align(struct vcpu *v, gva_t lin, unsigned len)
{
    unsigned align = len == 10 ? 8 : len > 16 ? 16 : len;

    if (__builtin_expect(!v->align_check, 1) || align & (align - 1) || !(lin & (align - 1)))
        return SOFT_OK;
    return soft_exc_err(v, VEC_AC, 0);
}

/* Memory operand to or from a copy, len <= 64. */
static inline int native_ld(struct vcpu *v, gva_t lin, uint8_t *dst, unsigned len)
{
    const uint8_t *p = native_fast(v, lin, len, false);

    if (!p)
        return mmu_read_slow(v, lin, dst, len, MMU_READ);
    native_copy(dst, p, len);
    return SOFT_OK;
}

static inline int native_st(struct vcpu *v, gva_t lin, const uint8_t *src, unsigned len)
{
    uint8_t *p = native_fast(v, lin, len, true);

    if (!p)
        return mmu_write_slow(v, lin, src, len, MMU_WRITE);
    native_copy(p, src, len);
    return SOFT_OK;
}

#endif
