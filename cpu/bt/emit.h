/* cpu/bt/emit.h - writing x86-64 instructions into the code cache.
 *
 * A cursor over the writable mapping; `rx` - `rw` is constant, so a relative branch is computed
 * between executable addresses. Running out of room sets `full` and drops bytes: the caller checks
 * once per block. Encodings: SDM vol 2. */
#ifndef CPU_BT_EMIT_H
#define CPU_BT_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct emit {
    uint8_t *p, *end; /* in the writable mapping */
    intptr_t to_rx;   /* executable address = p + to_rx */
    bool full;
};

/* Host registers by number; guest registers have the same numbers but for those in reg.h. */
enum {
    H_AX,
    H_CX,
    H_DX,
    H_BX,
    H_SP,
    H_BP,
    H_SI,
    H_DI,
    H_R8,
    H_R9,
    H_R10,
    H_R11,
    H_R12,
    H_R13,
    H_R14,
    H_R15
};
enum { T0 = H_R10, T1 = H_R11, HOST_GUEST_RSP = H_R9 };

enum cc {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G
};

static inline void emit_bytes(struct emit *e, const void *b, unsigned n)
{
    if ((uintptr_t)(e->end - e->p) < n) {
        e->full = true;
        return;
    }
    memcpy(e->p, b, n);
    e->p += n;
}

static inline void emit_1(struct emit *e, uint8_t b)
{
    emit_bytes(e, &b, 1);
}

static inline void emit_4(struct emit *e, uint32_t v)
{
    emit_bytes(e, &v, 4);
}

static inline void emit_8(struct emit *e, uint64_t v)
{
    emit_bytes(e, &v, 8);
}

static inline const uint8_t *emit_here(const struct emit *e)
{
    return e->p + e->to_rx;
}

/* REX for (reg, index, base); `w`: 64-bit. Emitted only if needed. */
static inline void emit_rex(struct emit *e, bool w, unsigned reg, unsigned index, unsigned base)
{
    uint8_t rex = (uint8_t)(0x40 | w << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | base >> 3);

    if (rex != 0x40)
        emit_1(e, rex);
}

/* One-byte opcode with register operands: op reg, rm (or rm, reg as the opcode says). */
static inline void emit_rr(struct emit *e, bool w, uint8_t op, unsigned reg, unsigned rm)
{
    emit_rex(e, w, reg, 0, rm);
    emit_1(e, op);
    emit_1(e, (uint8_t)(0xc0 | (reg & 7) << 3 | (rm & 7)));
}

/* ModRM and displacement of [base + disp]; base not RSP, RBP, R12 or R13. */
static inline void emit_modrm_disp(struct emit *e, unsigned reg, unsigned base, int32_t disp)
{
    uint8_t modrm = (uint8_t)((reg & 7) << 3 | (base & 7));

    if (!disp) {
        emit_1(e, modrm);
    } else if (disp == (int8_t)disp) {
        emit_1(e, 0x40 | modrm);
        emit_1(e, (uint8_t)disp);
    } else {
        emit_1(e, 0x80 | modrm);
        emit_4(e, (uint32_t)disp);
    }
}

/* op reg, gs:[disp32] (no base). */
static inline void emit_gs(struct emit *e, bool w, uint8_t op, unsigned reg, uint32_t disp)
{
    emit_1(e, 0x65);
    emit_rex(e, w, reg, 0, 0);
    emit_1(e, op);
    emit_1(e, (uint8_t)(0x04 | (reg & 7) << 3));
    emit_1(e, 0x25);
    emit_4(e, disp);
}

/* op reg, gs:[base + disp32]; base not RSP or R12. */
static inline void emit_gs_base(struct emit *e, bool w, uint8_t op, unsigned reg, unsigned base,
                                uint32_t disp)
{
    emit_1(e, 0x65);
    emit_rex(e, w, reg, 0, base);
    emit_1(e, op);
    emit_1(e, (uint8_t)(0x80 | (reg & 7) << 3 | (base & 7)));
    emit_4(e, disp);
}

static inline void emit_mov_rr(struct emit *e, unsigned dst, unsigned src)
{
    emit_rr(e, true, 0x8b, dst, src);
}
static inline void emit_mov32_rr(struct emit *e, unsigned dst, unsigned src)
{
    emit_rr(e, false, 0x8b, dst, src);
}
static inline void emit_load_gs(struct emit *e, unsigned reg, uint32_t disp)
{
    emit_gs(e, true, 0x8b, reg, disp);
}
static inline void emit_store_gs(struct emit *e, unsigned reg, uint32_t disp)
{
    emit_gs(e, true, 0x89, reg, disp);
}

static inline void emit_mov_imm64(struct emit *e, unsigned reg, uint64_t v)
{
    emit_rex(e, true, 0, 0, reg);
    emit_1(e, (uint8_t)(0xb8 | (reg & 7)));
    emit_8(e, v);
}
static inline void emit_mov_imm32(struct emit *e, unsigned reg, uint32_t v)
{
    emit_rex(e, false, 0, 0, reg);
    emit_1(e, (uint8_t)(0xb8 | (reg & 7)));
    emit_4(e, v);
}

/* Group 1 with imm32: /0 add, /1 or, /4 and, /5 sub, /6 xor, /7 cmp. */
static inline void emit_alu_imm(struct emit *e, bool w, unsigned ext, unsigned reg, uint32_t imm)
{
    emit_rex(e, w, 0, 0, reg);
    emit_1(e, 0x81);
    emit_1(e, (uint8_t)(0xc0 | ext << 3 | (reg & 7)));
    emit_4(e, imm);
}

static inline void emit_shr_imm(struct emit *e, bool w, unsigned reg, uint8_t n)
{
    emit_rex(e, w, 0, 0, reg);
    emit_1(e, 0xc1);
    emit_1(e, (uint8_t)(0xe8 | (reg & 7)));
    emit_1(e, n);
}

/* lea dst, [base + index * scale + disp]; base or index may be 0xff = none. index is not RSP. */
static inline void emit_lea(struct emit *e, bool w, unsigned dst, unsigned base, unsigned index,
                            unsigned scale, int32_t disp)
{
    unsigned ss = scale == 8 ? 3 : scale == 4 ? 2 : scale == 2 ? 1 : 0;
    unsigned b = base == 0xff ? 0 : base, x = index == 0xff ? 0 : index;
    bool small = base != 0xff && disp == (int8_t)disp;
    uint8_t mod = base == 0xff ? 0 : small ? 0x40 : 0x80, reg = (uint8_t)((dst & 7) << 3);
    uint8_t sib_index = (uint8_t)((index == 0xff ? 4 : (index & 7)) << 3);

    emit_rex(e, w, dst, x, b);
    emit_1(e, 0x8d);
    if (index == 0xff && base != 0xff && (base & 7) != 4) {
        emit_1(e, (uint8_t)(mod | reg | (base & 7)));
    } else {
        emit_1(e, mod | reg | 4);
        emit_1(e, (uint8_t)(ss << 6 | sib_index | (base == 0xff ? 5 : base & 7)));
    }
    if (small)
        emit_1(e, (uint8_t)disp);
    else
        emit_4(e, (uint32_t)disp);
}

/* cmp dword gs:[disp32], imm8 */
static inline void emit_cmp_gs(struct emit *e, uint32_t disp, uint8_t imm)
{
    static const uint8_t op[] = {0x65, 0x83, 0x3c, 0x25};

    emit_bytes(e, op, sizeof(op));
    emit_4(e, disp);
    emit_1(e, imm);
}

/* op dword gs:[disp32], imm32; ext as emit_alu_imm() */
static inline void emit_gs_imm(struct emit *e, unsigned ext, uint32_t disp, uint32_t imm)
{
    emit_1(e, 0x65);
    emit_1(e, 0x81);
    emit_1(e, (uint8_t)(0x04 | ext << 3));
    emit_1(e, 0x25);
    emit_4(e, disp);
    emit_4(e, imm);
}

/* cmp byte gs:[disp32], 0 */
static inline void emit_cmp8_gs(struct emit *e, uint32_t disp)
{
    static const uint8_t op[] = {0x65, 0x80, 0x3c, 0x25};

    emit_bytes(e, op, sizeof(op));
    emit_4(e, disp);
    emit_1(e, 0);
}

/* test byte gs:[disp32], imm8 */
static inline void emit_test8_gs(struct emit *e, uint32_t disp, uint8_t imm)
{
    static const uint8_t op[] = {0x65, 0xf6, 0x04, 0x25};

    emit_bytes(e, op, sizeof(op));
    emit_4(e, disp);
    emit_1(e, imm);
}

/* No-ops up to a multiple of `n` (at most 8), as one instruction. */
static inline void emit_align(struct emit *e, unsigned n)
{
    static const uint8_t nops[8][7] = {
        {0},
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
    };
    unsigned k = (unsigned)-(uintptr_t)e->p & (n - 1);

    emit_bytes(e, nops[k], k);
}

/* Relative branches to an executable address. */
static inline void emit_rel32(struct emit *e, const void *to)
{
    intptr_t rel = (intptr_t)to - ((intptr_t)emit_here(e) + 4);

    emit_4(e, (uint32_t)(int32_t)rel);
}
static inline void emit_jmp(struct emit *e, const void *to)
{
    emit_1(e, 0xe9);
    emit_rel32(e, to);
}
static inline void emit_call(struct emit *e, const void *to)
{
    emit_1(e, 0xe8);
    emit_rel32(e, to);
}
static inline void emit_jcc(struct emit *e, enum cc cc, const void *to)
{
    emit_1(e, 0x0f);
    emit_1(e, (uint8_t)(0x80 | cc));
    emit_rel32(e, to);
}
/* Forward branches: returns the place of the rel32, for emit_patch(). */
static inline uint8_t *emit_jcc_fwd(struct emit *e, enum cc cc)
{
    emit_1(e, 0x0f);
    emit_1(e, (uint8_t)(0x80 | cc));
    emit_4(e, 0);
    return e->p - 4;
}
static inline uint8_t *emit_jmp_fwd(struct emit *e)
{
    emit_1(e, 0xe9);
    emit_4(e, 0);
    return e->p - 4;
}
/* The branch whose rel32 lies at `at` goes to the cursor. */
static inline void emit_patch(struct emit *e, uint8_t *at)
{
    int32_t rel = (int32_t)(e->p - (at + 4));

    if (!e->full)
        memcpy(at, &rel, 4);
}

#endif
