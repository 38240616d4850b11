#include "cpu/bt/rewrite.h"

#include "cpu/state.h"

int rewrite_gpr(ZydisRegister r, bool *high)
{
    *high = r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
    switch (ZydisRegisterGetClass(r)) {
    case ZYDIS_REGCLASS_GPR8:
        if (*high)
            return r - ZYDIS_REGISTER_AH;
        if (r >= ZYDIS_REGISTER_SPL)
            return r - ZYDIS_REGISTER_SPL + 4;
        return r - ZYDIS_REGISTER_AL;
    case ZYDIS_REGCLASS_GPR16:
        return r - ZYDIS_REGISTER_AX;
    case ZYDIS_REGCLASS_GPR32:
        return r - ZYDIS_REGISTER_EAX;
    case ZYDIS_REGCLASS_GPR64:
        return r - ZYDIS_REGISTER_RAX;
    default:
        return -1;
    }
}

/* Register numbers as they will be encoded. */
struct fields {
    unsigned reg, rm, opc, vvvv;
    bool has_high;
    int32_t disp;
};

static struct fields collect(const struct xinsn *x, const struct regmap *m)
{
    const ZydisDecodedInstructionRaw *raw = &x->z.raw;
    bool vex = x->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
    struct fields f = {.disp = m->disp};

    /* What is not a GPR keeps its number: opcode extensions, vector and segment registers. */
    if (vex) {
        const uint8_t *v = x->raw + raw->vex.offset;
        bool three = v[0] == 0xc4;
        f.reg = raw->modrm.reg | (v[1] & 0x80 ? 0 : 8u);
        f.rm = raw->modrm.rm | (three && !(v[1] & 0x20) ? 8u : 0);
        f.vvvv = (unsigned)(~(three ? v[2] : v[1]) >> 3) & 15;
    } else {
        f.reg = raw->modrm.reg | raw->rex.R << 3;
        f.rm = raw->modrm.rm | raw->rex.B << 3;
    }
    for (unsigned i = 0; i < x->z.operand_count_visible; i++) {
        const ZydisDecodedOperand *o = &x->op[i];
        bool high;

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        int g = rewrite_gpr(o->reg.value, &high);
        if (g < 0)
            continue;
        f.has_high |= high;
        unsigned h = high ? (unsigned)g + 4 : m->to[g];
        switch (o->encoding) {
        case ZYDIS_OPERAND_ENCODING_MODRM_REG:
            f.reg = h;
            break;
        case ZYDIS_OPERAND_ENCODING_MODRM_RM:
            f.rm = h;
            break;
        case ZYDIS_OPERAND_ENCODING_OPCODE:
            f.opc = h;
            break;
        case ZYDIS_OPERAND_ENCODING_NDSNDD:
            f.vvvv = h;
            break;
        default:
            break;
        }
    }
    return f;
}

static bool has_mem(const struct xinsn *x)
{
    return (x->z.attributes & ZYDIS_ATTRIB_HAS_MODRM) && x->z.raw.modrm.mod != 3;
}

static unsigned imm_bytes(const struct xinsn *x)
{
    return (x->z.raw.imm[0].size + x->z.raw.imm[1].size) / 8u;
}

static void emit_modrm(struct emit *e, const struct xinsn *x, const struct fields *f)
{
    if (has_mem(x))
        emit_modrm_disp(e, f->reg, T0, f->disp);
    else
        emit_1(e, (uint8_t)(0xc0 | (f->reg & 7) << 3 | (f->rm & 7)));
}

/* Each once, and of F2 and F3 the last: a copy that needs REX or a displacement where the original
 * had none must not become longer than 15 bytes. */
static void emit_prefixes(struct emit *e, const ZydisDecodedInstructionRaw *raw)
{
    uint8_t rep = 0;
    bool size = false, lock = false;

    for (unsigned i = 0; i < raw->prefix_count; i++) {
        uint8_t p = raw->prefixes[i].value;

        size |= p == 0x66;
        lock |= p == 0xf0;
        if (p == 0xf2 || p == 0xf3)
            rep = p;
    }
    if (size)
        emit_1(e, 0x66);
    if (lock)
        emit_1(e, 0xf0);
    if (rep)
        emit_1(e, rep);
}

static bool legacy(struct emit *e, const struct xinsn *x, const struct fields *f)
{
    const ZydisDecodedInstructionRaw *raw = &x->z.raw;
    bool modrm = x->z.attributes & ZYDIS_ATTRIB_HAS_MODRM, had_rex = false, opcode_reg = false;
    uint8_t rex = 0x40;

    for (unsigned i = 0; i < x->z.operand_count_visible; i++)
        opcode_reg |= x->op[i].encoding == ZYDIS_OPERAND_ENCODING_OPCODE;
    for (unsigned i = 0; i < raw->prefix_count; i++)
        had_rex |= (raw->prefixes[i].value & 0xf0) == 0x40;
    rex |= (uint8_t)(raw->rex.W << 3);
    if (modrm)
        rex |= (uint8_t)((f->reg >> 3) << 2 | (has_mem(x) ? 1 : f->rm >> 3));
    else if (opcode_reg)
        rex |= (uint8_t)(f->opc >> 3);
    bool need_rex = rex != 0x40 || had_rex;
    if (f->has_high && need_rex)
        return false;

    emit_prefixes(e, raw);
    if (need_rex)
        emit_1(e, rex);
    unsigned at = raw->prefix_count, end = modrm ? raw->modrm.offset : x->z.length - imm_bytes(x);
    for (; at < end; at++) {
        uint8_t b = x->raw[at];

        if (opcode_reg && at + 1 == end)
            b = (uint8_t)((b & ~7) | (f->opc & 7));
        emit_1(e, b);
    }
    if (modrm)
        emit_modrm(e, x, f);
    return true;
}

static bool vex(struct emit *e, const struct xinsn *x, const struct fields *f)
{
    const ZydisDecodedInstructionRaw *raw = &x->z.raw;
    const uint8_t *v = x->raw + raw->vex.offset;
    bool three = v[0] == 0xc4;
    unsigned b = has_mem(x) ? 1 : f->rm >> 3;
    uint8_t last = three ? v[2] : (uint8_t)(v[1] & 0x7f); /* W of the short form is 0 */

    emit_1(e, 0xc4);
    emit_1(e,
           (uint8_t)((f->reg & 8 ? 0 : 0x80) | 0x40 | (b ? 0 : 0x20) | (three ? v[1] & 0x1f : 1)));
    emit_1(e, (uint8_t)((last & 0x87) | (~f->vvvv & 15) << 3));
    emit_1(e, v[three ? 3 : 2]);
    if (x->z.attributes & ZYDIS_ATTRIB_HAS_MODRM)
        emit_modrm(e, x, f);
    return true;
}

bool rewrite(struct emit *e, const struct xinsn *x, const struct regmap *m)
{
    struct fields f = collect(x, m);
    bool done;

    switch (x->z.encoding) {
    case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
        done = legacy(e, x, &f);
        break;
    case ZYDIS_INSTRUCTION_ENCODING_VEX:
        done = vex(e, x, &f);
        break;
    default:
        return false;
    }
    if (done)
        emit_bytes(e, x->raw + x->z.length - imm_bytes(x), imm_bytes(x));
    return done;
}
