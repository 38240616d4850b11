/* What the SDM leaves undefined, by instruction (volume 2, "Flags Affected" of each). */
#include "test/diff/diff.h"

#include "base/cleanup.h"

struct row {
    uint16_t mnemonic;
    uint32_t flags;
    const char *sdm; /* where it says so, SDM volume 2 */
};

#define M(x) ZYDIS_MNEMONIC_##x

static const struct row rows[] = {
    {M(AND), FL_AF, "AND: AF is undefined"},
    {M(OR), FL_AF, "OR: AF is undefined"},
    {M(XOR), FL_AF, "XOR: AF is undefined"},
    {M(TEST), FL_AF, "TEST: AF is undefined"},
    {M(MUL), FL_SF | FL_ZF | FL_AF | FL_PF, "MUL: SF, ZF, AF, PF are undefined"},
    {M(IMUL), FL_SF | FL_ZF | FL_AF | FL_PF, "IMUL: SF, ZF, AF, PF are undefined"},
    {M(DIV), FL_ARITH, "DIV: all six are undefined"},
    {M(IDIV), FL_ARITH, "IDIV: all six are undefined"},
    {M(SHL), FL_AF | FL_OF | FL_CF, "SAL/SHL: AF; OF unless count 1; CF if count >= size"},
    {M(SHR), FL_AF | FL_OF | FL_CF, "SHR: AF; OF unless count 1; CF if count >= size"},
    {M(SAR), FL_AF | FL_OF, "SAR: AF; OF unless count 1"},
    {M(SHLD), FL_AF | FL_OF, "SHLD: AF; OF unless count 1"},
    {M(SHRD), FL_AF | FL_OF, "SHRD: AF; OF unless count 1"},
    {M(ROL), FL_OF, "RCL/RCR/ROL/ROR: OF unless count 1"},
    {M(ROR), FL_OF, "RCL/RCR/ROL/ROR: OF unless count 1"},
    {M(RCL), FL_OF, "RCL/RCR/ROL/ROR: OF unless count 1"},
    {M(RCR), FL_OF, "RCL/RCR/ROL/ROR: OF unless count 1"},
    {M(BT), FL_OF | FL_SF | FL_AF | FL_PF, "BT: OF, SF, AF, PF are undefined"},
    {M(BTS), FL_OF | FL_SF | FL_AF | FL_PF, "BTS: OF, SF, AF, PF are undefined"},
    {M(BTR), FL_OF | FL_SF | FL_AF | FL_PF, "BTR: OF, SF, AF, PF are undefined"},
    {M(BTC), FL_OF | FL_SF | FL_AF | FL_PF, "BTC: OF, SF, AF, PF are undefined"},
    {M(BSF), FL_ARITH & ~FL_ZF, "BSF: CF, OF, SF, AF, PF are undefined"},
    {M(BSR), FL_ARITH & ~FL_ZF, "BSR: CF, OF, SF, AF, PF are undefined"},
    {M(TZCNT), FL_OF | FL_SF | FL_AF | FL_PF, "TZCNT: OF, SF, PF, AF are undefined"},
    {M(LZCNT), FL_OF | FL_SF | FL_AF | FL_PF, "LZCNT: OF, SF, PF, AF are undefined"},
    {M(ANDN), FL_AF | FL_PF, "ANDN: AF, PF are undefined"},
    {M(BEXTR), FL_AF | FL_SF | FL_PF, "BEXTR: AF, SF, PF are undefined"},
    {M(BLSI), FL_AF | FL_PF, "BLSI: AF, PF are undefined"},
    {M(BLSR), FL_AF | FL_PF, "BLSR: AF, PF are undefined"},
    {M(BLSMSK), FL_AF | FL_PF, "BLSMSK: AF, PF are undefined"},
    {M(BZHI), FL_AF | FL_PF, "BZHI: AF, PF are undefined"},
    {M(AAA), FL_OF | FL_SF | FL_ZF | FL_PF, "AAA: OF, SF, ZF, PF are undefined"},
    {M(AAS), FL_OF | FL_SF | FL_ZF | FL_PF, "AAS: OF, SF, ZF, PF are undefined"},
    {M(AAM), FL_OF | FL_AF | FL_CF, "AAM: OF, AF, CF are undefined"},
    {M(AAD), FL_OF | FL_AF | FL_CF, "AAD: OF, AF, CF are undefined"},
    {M(DAA), FL_OF, "DAA: OF is undefined"},
    {M(DAS), FL_OF, "DAS: OF is undefined"},
};

uint32_t dundef_flags(const ZydisDecodedInstruction *z)
{
    for (unsigned n = 0; n < ARRAY_LEN(rows); n++)
        if (rows[n].mnemonic == z->mnemonic)
            return rows[n].flags;
    return 0;
}

bool dundef_conditional(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case M(SHL):
    case M(SHR):
    case M(SAR):
    case M(SHLD):
    case M(SHRD):
    case M(ROL):
    case M(ROR):
    case M(RCL):
    case M(RCR):
        return true;
    default:
        return z->attributes &
               (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPNE | ZYDIS_ATTRIB_HAS_REPE);
    }
}

static bool has_rep(const ZydisDecodedInstruction *z)
{
    for (unsigned n = 0; n < z->raw.prefix_count; n++)
        if (z->raw.prefixes[n].value == 0xf2 || z->raw.prefixes[n].value == 0xf3)
            return true;
    return false;
}

/* Near branches in 64-bit mode with a 66 prefix: AMD's take 16 bits of RIP, Intel's ignore it (SDM
 * vol 2, 2.2.1.8). */
static bool narrow_branch(const ZydisDecodedInstruction *z)
{
    return z->attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE &&
           (z->meta.category == ZYDIS_CATEGORY_COND_BR ||
            z->meta.category == ZYDIS_CATEGORY_UNCOND_BR ||
            z->meta.category == ZYDIS_CATEGORY_CALL || z->meta.category == ZYDIS_CATEGORY_RET);
}

/* SHLD, SHRD: a count above the operand's size. BSWAP: 16 bits. */
bool dundef_result(const ZydisDecodedInstruction *z, const ZydisDecodedOperand *op)
{
    if (narrow_branch(z))
        return true;
    switch (z->mnemonic) {
    case M(SHLD):
    case M(SHRD):
        return z->operand_width == 16 &&
               (op[2].type != ZYDIS_OPERAND_TYPE_IMMEDIATE || (op[2].imm.value.u & 31) > 16);
    case M(BSWAP):
        return z->operand_width == 16;
    case M(SHA1MSG1):
    case M(SHA1MSG2):
    case M(SHA1NEXTE):
    case M(SHA1RNDS4):
    case M(SHA256MSG1):
    case M(SHA256MSG2):
    case M(SHA256RNDS2): /* alignment: #GP by the SDM (class 4), not on AMD's */
        return op[1].type == ZYDIS_OPERAND_TYPE_MEMORY;
    case M(LOOPE):
    case M(LOOPNE): /* F2 and F3 are reserved here (SDM vol 2, 2.1.1); AMD's take them for ZF */
        return has_rep(z);
    case M(MOVSXD): /* 16 bits: Intel's read two bytes, AMD's four */
        return z->operand_width == 16;
    case M(PAUSE): /* with REX.B it is XCHG R8, RAX; Zydis 4.0 does not know */
        return z->attributes & ZYDIS_ATTRIB_HAS_REX && z->raw.rex.B;
    case M(NOP): /* 0F 0D on a register: a NOP on Intel's, #UD on AMD's */
        return z->opcode == 0x0d && z->opcode_map == ZYDIS_OPCODE_MAP_0F;
    default:
        return false;
    }
}
