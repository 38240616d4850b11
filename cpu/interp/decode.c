/* cpu/interp/decode.c - Zydis decodes; here the result is folded into struct insn. */
#include "cpu/interp/decode.h"

#include <errno.h>

#include "cpu/interp/pick.h"

/* Which decoder: by the size of CS, protection and long mode. */
enum { DEC_REAL16, DEC_LEGACY16, DEC_LEGACY32, DEC_COMPAT16, DEC_COMPAT32, DEC_LONG64 };

int decode_init(struct decode *d, const struct vcpu *v, struct err *e)
{
    static const struct {
        ZydisMachineMode mode;
        ZydisStackWidth stack;
    } kind[DECODERS] = {
        [DEC_REAL16] = {ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16},
        [DEC_LEGACY16] = {ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16},
        [DEC_LEGACY32] = {ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32},
        [DEC_COMPAT16] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_16, ZYDIS_STACK_WIDTH_16},
        [DEC_COMPAT32] = {ZYDIS_MACHINE_MODE_LONG_COMPAT_32, ZYDIS_STACK_WIDTH_32},
        [DEC_LONG64] = {ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64},
    };
    const struct cpu_model *m = v->vm->c.model;
    bool lzcnt = cpu_model_has(m, 0x80000001, 0, 2, 5);
    bool tzcnt = cpu_model_has(m, 7, 0, 1, 3);

    for (unsigned k = 0; k < DECODERS; k++) {
        ZydisDecoder *z = &d->dec[k];

        /* What the model does not offer must decode as the older instruction it was. */
        if (!ZYAN_SUCCESS(ZydisDecoderInit(z, kind[k].mode, kind[k].stack)) ||
            !ZYAN_SUCCESS(ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE)) ||
            !ZYAN_SUCCESS(ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE)) ||
            !ZYAN_SUCCESS(ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE)) ||
            !ZYAN_SUCCESS(ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE)) ||
            !ZYAN_SUCCESS(ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_LZCNT, lzcnt)) ||
            !ZYAN_SUCCESS(ZydisDecoderEnableMode(z, ZYDIS_DECODER_MODE_TZCNT, tzcnt)))
            return err_set(e, -EIO, "the instruction decoder library does not start");
    }
    return native_new(&d->native, e);
}

void decode_done(struct decode *d)
{
    native_free(d->native);
    d->native = NULL;
}

static const ZydisDecoder *decoder_of(const struct decode *d, uint32_t mode)
{
    switch (mode & (MODE_CS | MODE_LMA)) {
    case MODE_CS64 | MODE_LMA:
        return &d->dec[DEC_LONG64];
    case MODE_CS32 | MODE_LMA:
        return &d->dec[DEC_COMPAT32];
    case MODE_CS16 | MODE_LMA:
        return &d->dec[DEC_COMPAT16];
    case MODE_CS32:
        return &d->dec[DEC_LEGACY32];
    default:
        return &d->dec[mode & MODE_PE ? DEC_LEGACY16 : DEC_REAL16];
    }
}

/* --- instructions of our own ----------------------------------------------------------- */

static int raise_ud(struct vcpu *v, const struct insn *i)
{
    return soft_exc(v, VEC_UD);
}

static int raise_gp(struct vcpu *v, const struct insn *i)
{
    return soft_exc_err(v, VEC_GP, 0);
}

static int fall_through(struct vcpu *v, const struct insn *i)
{
    v->s.rip = insn_rip(v, i);
    return SOFT_OK;
}

void decode_undefined(struct insn *i)
{
    *i = (struct insn){.fn = raise_ud, .len = 1, .flags = I_ENDS, .base = NO_REG, .index = NO_REG};
}

void decode_fall_through(struct insn *i, unsigned off)
{
    *i = (struct insn){.fn = fall_through, .flags = I_ENDS, .off = (uint16_t)off};
}

/* --- operands ---------------------------------------------------------------------------- */

/* GPR number of `r` and its byte offset in struct vcpu; NO_REG if it is another kind of register.
 */
static uint8_t gpr_of(ZydisRegister r, uint8_t *at)
{
    unsigned n;

    if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
        n = r - ZYDIS_REGISTER_RAX;
    else if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
        n = r - ZYDIS_REGISTER_EAX;
    else if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
        n = r - ZYDIS_REGISTER_AX;
    else if (r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_BL)
        n = r - ZYDIS_REGISTER_AL;
    else if (r >= ZYDIS_REGISTER_SPL && r <= ZYDIS_REGISTER_R15B)
        n = r - ZYDIS_REGISTER_SPL + 4;
    else if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) {
        n = r - ZYDIS_REGISTER_AH;
        *at = (uint8_t)(n * 8 + 1);
        return (uint8_t)n;
    } else {
        return NO_REG;
    }
    *at = (uint8_t)(n * 8);
    return (uint8_t)n;
}

static bool is_high(ZydisRegister r)
{
    return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
}

static void fold_register(struct insn *i, unsigned n, ZydisRegister r)
{
    uint8_t at = NO_REG, num = gpr_of(r, &at);

    if (r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS)
        num = (uint8_t)(r - ZYDIS_REGISTER_ES);
    switch (n) {
    case 0:
        i->a = num;
        i->ra = at;
        i->flags |= is_high(r) ? I_HIGH_A : 0;
        break;
    case 1:
        i->b = num;
        i->rb = at;
        i->flags |= is_high(r) ? I_HIGH_B : 0;
        break;
    case 2:
        i->c = num;
        i->rc = at;
        break;
    }
}

static void fold_memory(struct insn *i, unsigned n, const ZydisDecodedOperand *o, uint32_t mode)
{
    uint8_t at = 0;

    i->flags |= I_MEM | (n == 0 ? I_MEM_IS_A : 0);
    i->memlen = o->size / 8;
    i->disp = o->mem.disp.has_displacement ? o->mem.disp.value : 0;
    i->seg = o->mem.segment >= ZYDIS_REGISTER_ES ? (uint8_t)(o->mem.segment - ZYDIS_REGISTER_ES)
                                                 : SEG_DS;
    if (o->mem.base == ZYDIS_REGISTER_RIP || o->mem.base == ZYDIS_REGISTER_EIP) {
        i->flags |= I_RIPREL;
        i->disp += i->off + i->len;
        i->base_at = offsetof(struct vcpu, s.rip);
    } else if ((i->base = gpr_of(o->mem.base, &at)) != NO_REG) {
        i->base_at = at;
    }
    if ((i->index = gpr_of(o->mem.index, &at)) != NO_REG) {
        i->index_at = at;
        i->scale = o->mem.scale ? o->mem.scale : 1;
        i->shift = (uint8_t)__builtin_ctz(i->scale);
    }
    if ((mode & MODE_CS) == MODE_CS64 && i->adsize == 8)
        i->flags |= i->seg == SEG_FS || i->seg == SEG_GS ? I_LINSEG : I_LIN;
}

/* SIB with mod 0 and base 5 has no base but a displacement, whatever REX.B says (SDM vol
 * 2A, 2.2.1.2, table 2-5); Zydis 4.0 takes it for R13D when addresses have 32 bits. */
static void mend_base(struct insn *i, const ZydisDecodedInstruction *z)
{
    if (!(z->attributes & ZYDIS_ATTRIB_HAS_SIB) || z->raw.modrm.mod != 0 || z->raw.sib.base != 5)
        return;
    i->base = NO_REG;
    i->base_at = offsetof(struct vcpu, zero);
    i->disp = z->raw.disp.value;
}

static void fold_operands(struct insn *i, const ZydisDecodedInstruction *z,
                          const ZydisDecodedOperand *op, uint32_t mode)
{
    for (unsigned n = 0; n < z->operand_count_visible; n++) {
        switch (op[n].type) {
        case ZYDIS_OPERAND_TYPE_REGISTER:
            fold_register(i, n, op[n].reg.value);
            break;
        case ZYDIS_OPERAND_TYPE_MEMORY:
            fold_memory(i, n, &op[n], mode);
            mend_base(i, z);
            break;
        case ZYDIS_OPERAND_TYPE_IMMEDIATE:
            i->imm = op[n].imm.is_signed ? (uint64_t)op[n].imm.value.s : op[n].imm.value.u;
            break;
        default:
            break;
        }
    }
}

/* Prefixes: LOCK, and REP as the raw bytes have it; of several the last one counts. */
static void fold_prefixes(struct insn *i, const ZydisDecodedInstruction *z)
{
    if (z->attributes & ZYDIS_ATTRIB_HAS_LOCK)
        i->flags |= I_LOCK;
    for (unsigned n = 0; n < z->raw.prefix_count; n++) {
        uint8_t byte = z->raw.prefixes[n].value;

        if (byte == 0xf2 || byte == 0xf3) {
            i->flags &= (uint16_t) ~(I_REP | I_REPNE);
            i->flags |= byte == 0xf3 ? I_REP : I_REPNE;
        }
    }
}

/* Instructions with implied memory operands: strings at DS:RSI, XLAT at DS:RBX. */
static void implied_segment(struct insn *i, const ZydisDecodedInstruction *z, uint32_t mode)
{
    bool long64 = (mode & MODE_CS) == MODE_CS64;

    i->seg = SEG_DS;
    if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS)
        i->seg = SEG_FS;
    else if (z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        i->seg = SEG_GS;
    else if (!long64 && z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_CS)
        i->seg = SEG_CS;
    else if (!long64 && z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_SS)
        i->seg = SEG_SS;
    else if (!long64 && z->attributes & ZYDIS_ATTRIB_HAS_SEGMENT_ES)
        i->seg = SEG_ES;
    if (z->mnemonic == ZYDIS_MNEMONIC_XLAT) {
        i->base = RBX;
        i->base_at = RBX * 8;
        i->flags |= I_MEM;
        i->memlen = 1;
        if (long64 && i->adsize == 8)
            i->flags |= i->seg == SEG_FS || i->seg == SEG_GS ? I_LINSEG : I_LIN;
    }
}

static bool is_string(const ZydisDecodedInstruction *z)
{
    return z->meta.category == ZYDIS_CATEGORY_STRINGOP ||
           z->meta.category == ZYDIS_CATEGORY_IOSTRINGOP || z->mnemonic == ZYDIS_MNEMONIC_XLAT;
}

/* MOVSD and CMPSD are two instructions each: the string ones are ours. */
static pick_fn family_of(const ZydisDecodedInstruction *z)
{
    if ((z->mnemonic == ZYDIS_MNEMONIC_MOVSD || z->mnemonic == ZYDIS_MNEMONIC_CMPSD) &&
        !is_string(z))
        return NULL;
    return pick_lookup(z->mnemonic);
}

static int bad(struct insn *i, ZyanStatus status, unsigned avail)
{
    bool too_long =
        status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA;

    if (status == ZYDIS_STATUS_NO_MORE_DATA && avail < DECODE_BYTES_MAX)
        return 0;
    decode_undefined(i);
    if (too_long) /* SDM vol 2, 2.3.11: more than 15 bytes are #GP(0) */
        i->fn = raise_gp;
    return 1;
}

int decode_insn(struct decode *d, struct vcpu *v, const uint8_t *p, unsigned avail, unsigned off,
                struct insn *i)
{
    const ZydisDecoder *dec = decoder_of(d, v->mode);
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    ZydisDecodedInstruction z;
    ZydisDecoderContext ctx;
    int r;

    if (avail > DECODE_BYTES_MAX)
        avail = DECODE_BYTES_MAX;
    ZyanStatus status = ZydisDecoderDecodeInstruction(dec, &ctx, p, avail, &z);
    if (!ZYAN_SUCCESS(status)) {
        r = bad(i, status, avail);
        i->off = (uint16_t)off;
        return r;
    }
    pick_fn family = family_of(&z);
    unsigned ops = family ? z.operand_count_visible : z.operand_count;
    if (!ZYAN_SUCCESS(ZydisDecoderDecodeOperands(dec, &ctx, &z, op, (ZyanU8)ops))) {
        r = bad(i, ZYDIS_STATUS_DECODING_ERROR, avail);
        i->off = (uint16_t)off;
        return r;
    }
    *i = (struct insn){
        .len = z.length,
        .off = (uint16_t)off,
        .op = (uint16_t)z.mnemonic,
        .opsize = (uint8_t)(z.operand_width / 8),
        .adsize = (uint8_t)(z.address_width / 8),
        .base = NO_REG,
        .index = NO_REG,
        .a = NO_REG,
        .b = NO_REG,
        .c = NO_REG,
        .ra = NO_REG,
        .rb = NO_REG,
        .rc = NO_REG,
        .scale = 1,
        .base_at = offsetof(struct vcpu, zero),
        .index_at = offsetof(struct vcpu, zero),
    };
    fold_prefixes(i, &z);
    fold_operands(i, &z, op, v->mode);
    if (is_string(&z))
        implied_segment(i, &z, v->mode);
    if (family) {
        struct pick pick = {.v = v, .z = &z, .op = op, .i = i};

        r = pick_offered(v, z.mnemonic) && family(&pick);
    } else {
        r = native_decode(v, d->native, &z, op, p, i);
    }
    if (r < 0)
        return r;
    if (!r) {
        decode_undefined(i);
        i->off = (uint16_t)off;
    }
    return z.length;
}
