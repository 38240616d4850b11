/* cpu/interp/native_stub.c - code that loads what one instruction names, runs it, and stores back.
 *
 * A stub is a C function (System V ABI): rdi = vCPU, rsi = struct native_io. Vector registers keep
 * their numbers; general registers become r8 (ModRM.reg) and r9 (ModRM.rm), implied ones
 * (PCMPxSTRx) stay; the memory operand becomes [rsi]. All these are the caller's to save. Source of
 * encodings: SDM vol 2A, chapter 2. */
#include "cpu/interp/native_priv.h"

#include <errno.h>
#include <stddef.h>

enum { STUB_MAX = 512 };  /* bytes, more than any stub needs */
enum { IO = 6, CPU = 7 }; /* rsi, rdi as ModRM.rm */

#define CPU_XSAVE ((uint32_t)offsetof(struct vcpu, s.xsave))
#define IO_AT(field) ((uint32_t)offsetof(struct native_io, field))

struct out {
    uint8_t *p;
    unsigned n;
};

struct regs {                /* what the instruction names, bit per register */
    uint16_t load, store;    /* vector */
    uint16_t wide;           /* of these, 256 bits to load */
    uint16_t gload, gstore;  /* implied general registers */
    uint8_t reg_gpr, rm_gpr; /* guest's number of explicit ones, or NO_REG */
    bool reg_load, reg_store, rm_load, rm_store;
};

static void b(struct out *o, unsigned byte)
{
    o->p[o->n++] = (uint8_t)byte;
}

static void d32(struct out *o, uint32_t x)
{
    memcpy(o->p + o->n, &x, sizeof(x));
    o->n += sizeof(x);
}

/* ModRM for register `reg` (0..7) and [base + disp]. */
static void mem(struct out *o, unsigned reg, unsigned base, uint32_t disp)
{
    b(o, 0x80 | (reg & 7) << 3 | base);
    d32(o, disp);
}

/* mov r64, [rdi + 8n] and back (load: 8B, store: 89) */
static void gpr(struct out *o, unsigned opcode, unsigned host, unsigned guest)
{
    b(o, 0x48 | (host >> 3) << 2);
    b(o, opcode);
    mem(o, host, CPU, guest * 8);
}

/* movups xmm, [..] (10) or [..], xmm (11), legacy or VEX encoded */
static void xmm(struct out *o, bool vex, unsigned opcode, unsigned n)
{
    if (vex) {
        b(o, 0xc5);
        b(o, n & 8 ? 0x78 : 0xf8);
    } else {
        if (n & 8)
            b(o, 0x44);
        b(o, 0x0f);
    }
    b(o, opcode);
    mem(o, n, CPU, CPU_XSAVE + XSAVE_XMM + 16 * n);
}

/* vinsertf128 ymm, ymm, [..], 1 (18) or vextractf128 [..], ymm, 1 (19) */
static void high(struct out *o, unsigned opcode, unsigned n)
{
    unsigned vvvv = opcode == 0x18 ? ~n & 15 : 15;

    b(o, 0xc4);
    b(o, n & 8 ? 0x63 : 0xe3);
    b(o, vvvv << 3 | 5);
    b(o, opcode);
    mem(o, n, CPU, CPU_XSAVE + XSAVE_YMMH + 16 * n);
    b(o, 1);
}

/* ldmxcsr (2), stmxcsr (3) [rsi + at] */
static void mxcsr(struct out *o, unsigned ext, uint32_t at)
{
    b(o, 0x0f);
    b(o, 0xae);
    mem(o, ext, IO, at);
}

static void flags_in(struct out *o)
{
    b(o, 0xff); /* push [rsi + flags] */
    mem(o, 6, IO, IO_AT(flags));
    b(o, 0x9d); /* popfq */
}

static void flags_out(struct out *o)
{
    b(o, 0x9c); /* pushfq */
    b(o, 0x8f); /* pop [rsi + flags] */
    mem(o, 0, IO, IO_AT(flags));
}

/* --- which registers ---------------------------------------------------------------------------
 */

static void vector_operand(struct regs *r, const ZydisDecodedOperand *op, bool vex, bool wide)
{
    uint16_t bit = (uint16_t)(1u << ZydisRegisterGetId(op->reg.value));
    bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

    /* Legacy instructions may write a part only. */
    if (op->actions & ZYDIS_OPERAND_ACTION_MASK_READ || !vex) {
        r->load |= bit;
        r->wide |= wide ? bit : 0;
    }
    r->store |= write ? bit : 0;
}

static void gpr_operand(struct regs *r, const ZydisDecodedOperand *op)
{
    uint8_t n = (uint8_t)ZydisRegisterGetId(op->reg.value);
    bool read = op->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
    bool write = op->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

    if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
        r->reg_gpr = n;
        r->reg_load = read;
        r->reg_store = write;
    } else if (op->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) {
        r->rm_gpr = n;
        r->rm_load = read;
        r->rm_store = write;
    } else {
        r->gload |= (uint16_t)(read ? 1u << n : 0);
        r->gstore |= (uint16_t)(write ? 1u << n : 0);
    }
}

static void find_regs(struct regs *r, const struct native_job *j)
{
    bool vex = j->z->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;

    *r = (struct regs){.reg_gpr = NO_REG, .rm_gpr = NO_REG};
    for (unsigned n = 0; n < j->z->operand_count; n++) {
        const ZydisDecodedOperand *op = &j->op[n];

        if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(op->reg.value)) {
        case ZYDIS_REGCLASS_XMM:
            vector_operand(r, op, vex, false);
            break;
        case ZYDIS_REGCLASS_YMM:
            vector_operand(r, op, vex, true);
            break;
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64:
            gpr_operand(r, op);
            break;
        default:
            break;
        }
    }
}

/* --- the instruction ------------------------------------------------------------------------ */

static bool is_prefix(uint8_t x)
{
    return x == 0x66 || x == 0x67 || x == 0xf2 || x == 0xf3 || x == 0xf0 || x == 0x2e ||
           x == 0x36 || x == 0x3e || x == 0x26 || x == 0x64 || x == 0x65;
}

/* Offset of the bytes behind ModRM, SIB and displacement: immediates. */
static unsigned tail_at(const ZydisDecodedInstruction *z)
{
    unsigned at = z->raw.modrm.offset + 1;

    if (z->attributes & ZYDIS_ATTRIB_HAS_SIB)
        at++;
    return at + z->raw.disp.size / 8;
}

/* New ModRM; *r and *b are the extension bits, in and out. */
static unsigned new_modrm(const struct native_job *j, const struct regs *r, unsigned *ext_r,
                          unsigned *ext_b)
{
    unsigned modrm = j->raw[j->z->raw.modrm.offset];

    if (r->reg_gpr != NO_REG) {
        modrm &= 0xc7; /* r8 */
        *ext_r = 1;
    }
    if (modrm < 0xc0) {
        modrm = (modrm & 0x38) | IO;
        *ext_b = 0;
    } else if (r->rm_gpr != NO_REG) {
        modrm = (modrm & 0xf8) | 1; /* r9 */
        *ext_b = 1;
    }
    return modrm;
}

static void legacy(struct out *o, const struct native_job *j, const struct regs *r)
{
    const ZydisDecodedInstruction *z = j->z;
    bool long64 = z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    unsigned at = 0, rex = 0;

    for (; at < z->length && (is_prefix(j->raw[at]) || (long64 && (j->raw[at] & 0xf0) == 0x40));
         at++)
        if (j->raw[at] == 0x66 || j->raw[at] == 0xf2 || j->raw[at] == 0xf3)
            b(o, j->raw[at]);
    if (z->attributes & ZYDIS_ATTRIB_HAS_REX)
        rex = j->raw[z->raw.rex.offset] & 0xd; /* no index register */
    if (!(z->attributes & ZYDIS_ATTRIB_HAS_MODRM)) {
        for (; at < z->length; at++)
            b(o, j->raw[at]);
        return;
    }
    unsigned ext_r = rex >> 2 & 1, ext_b = rex & 1;
    unsigned modrm = new_modrm(j, r, &ext_r, &ext_b);

    rex = (rex & 8) | ext_r << 2 | ext_b;
    if (rex)
        b(o, 0x40 | rex);
    for (; at < z->raw.modrm.offset; at++)
        b(o, j->raw[at]);
    b(o, modrm);
    for (at = tail_at(z); at < z->length; at++)
        b(o, j->raw[at]);
}

/* Outside 64-bit mode W means nothing to instructions with a general register. */
static bool drops_w(const struct native_job *j, const struct regs *r)
{
    if (j->z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
        return false;
    switch (j->z->mnemonic) {
    case ZYDIS_MNEMONIC_VMOVD:
    case ZYDIS_MNEMONIC_VPEXTRD:
    case ZYDIS_MNEMONIC_VPINSRD:
    case ZYDIS_MNEMONIC_VCVTSI2SS:
    case ZYDIS_MNEMONIC_VCVTSI2SD:
        return true;
    default:
        return r->reg_gpr != NO_REG || r->rm_gpr != NO_REG;
    }
}

static void vex(struct out *o, const struct native_job *j, const struct regs *r)
{
    const ZydisDecodedInstruction *z = j->z;
    const uint8_t *p = j->raw + z->raw.vex.offset;
    bool long64 = z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64, three = p[0] == 0xc4;
    unsigned ext_r = !(p[1] & 0x80), ext_b = three && !(p[1] & 0x20);
    unsigned last = three ? p[2] : p[1] & 0x7f; /* W vvvv L pp */

    if (!long64) { /* vvvv's high bit does not count: SDM vol 2A, 2.3.5.6 */
        ext_r = ext_b = 0;
        last |= 0x40;
    }
    if (drops_w(j, r))
        last &= 0x7f;
    unsigned modrm = new_modrm(j, r, &ext_r, &ext_b);

    b(o, 0xc4);
    b(o, (ext_r ? 0 : 0x80) | 0x40 | (ext_b ? 0 : 0x20) | (three ? p[1] & 0x1f : 1));
    b(o, last);
    b(o, z->opcode);
    b(o, modrm);
    for (unsigned at = tail_at(z); at < z->length; at++) {
        bool is4 = j->op[z->operand_count_visible - 1].encoding == ZYDIS_OPERAND_ENCODING_IS4;

        b(o, is4 && !long64 ? j->raw[at] & 0x7f : j->raw[at]);
    }
}

/* --- around it ---------------------------------------------------------------------------------
 */

static void gprs(struct out *o, const struct regs *r, bool store)
{
    unsigned opcode = store ? 0x89 : 0x8b;
    uint16_t implied = store ? r->gstore : r->gload;

    for (unsigned n = 0; n < GPRS; n++)
        if (implied >> n & 1)
            gpr(o, opcode, n, n);
    if (store ? r->reg_store : r->reg_load)
        gpr(o, opcode, 8, r->reg_gpr);
    if (store ? r->rm_store : r->rm_load)
        gpr(o, opcode, 9, r->rm_gpr);
}

static void vectors(struct out *o, const struct regs *r, bool is_vex, bool store)
{
    uint16_t which = store ? r->store : r->load;

    for (unsigned n = 0; n < 16; n++) {
        if (!(which >> n & 1))
            continue;
        xmm(o, is_vex, store ? 0x11 : 0x10, n);
        if (is_vex && (store || r->wide >> n & 1))
            high(o, store ? 0x19 : 0x18, n);
    }
}

static void vector_stub(struct out *o, const struct native_job *j)
{
    bool is_vex = j->i->x & NX_VEX;
    unsigned skip = 0;
    struct regs r;

    find_regs(&r, j);
    vectors(o, &r, is_vex, false);
    gprs(o, &r, false);
    if (j->i->x & NX_MXCSR) {
        mxcsr(o, 3, IO_AT(mxcsr_host));
        mxcsr(o, 2, IO_AT(mxcsr_in));
    }
    if (is_vex)
        vex(o, j, &r);
    else
        legacy(o, j, &r);
    if (j->i->x & NX_FLAGS)
        flags_out(o);
    if (j->i->x & NX_MXCSR) {
        mxcsr(o, 3, IO_AT(mxcsr_out));
        mxcsr(o, 2, IO_AT(mxcsr_host));
        b(o, 0x44); /* mov r11d, [rsi + mxcsr_out] */
        b(o, 0x8b);
        mem(o, 3, IO, IO_AT(mxcsr_out));
        b(o, 0x44); /* test [rsi + unmasked], r11d */
        b(o, 0x85);
        mem(o, 3, IO, IO_AT(unmasked));
        b(o, 0x0f); /* jnz */
        b(o, 0x85);
        d32(o, 0);
        skip = o->n;
    }
    gprs(o, &r, true);
    vectors(o, &r, is_vex, true);
    if (skip) {
        uint32_t dist = o->n - skip;

        memcpy(o->p + skip - 4, &dist, sizeof(dist));
    }
    if (is_vex) { /* vzeroupper */
        b(o, 0xc5);
        b(o, 0xf8);
        b(o, 0x77);
    }
}

/* fxrstor64 (1), fxsave64 (0) */
static void fx(struct out *o, unsigned ext, unsigned base, uint32_t at)
{
    b(o, 0x48);
    b(o, 0x0f);
    b(o, 0xae);
    mem(o, ext, base, at);
}

static void fx_stub(struct out *o, const struct native_job *j)
{
    struct regs r;

    find_regs(&r, j);
    mxcsr(o, 3, IO_AT(mxcsr_host));
    fx(o, 1, CPU, CPU_XSAVE);
    if (j->i->x & NX_MXCSR)
        mxcsr(o, 2, IO_AT(mxcsr_in));
    gprs(o, &r, false);
    flags_in(o);
    legacy(o, j, &r);
    flags_out(o);
    fx(o, 0, IO, IO_AT(fx));
    b(o, 0xdb); /* fninit: the ABI's control word, an empty stack, nothing pending */
    b(o, 0xe3);
    mxcsr(o, 2, IO_AT(mxcsr_host));
    gprs(o, &r, true);
}

int native_stub(struct native *n, const struct native_job *j)
{
    struct out o = {.p = n->rw + n->used};

    if (native_room(n) < STUB_MAX)
        return -ENOSPC;
    j->i->stub = (void *)(uintptr_t)(n->rx + n->used);
    if (j->i->x & NX_FX_STUB)
        fx_stub(&o, j);
    else
        vector_stub(&o, j);
    b(&o, 0xc3);
    n->used += (o.n + 15) & ~15u;
    return 0;
}
