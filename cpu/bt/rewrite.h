/* cpu/bt/rewrite.h - the same instruction with other registers and another memory operand.
 * Source: SDM vol 2A, chapter 2 "Instruction Format". Pure: bytes in, bytes out. */
#ifndef CPU_BT_REWRITE_H
#define CPU_BT_REWRITE_H

#include <Zydis/Zydis.h>

#include "cpu/bt/emit.h"

enum { XOPS_MAX = ZYDIS_MAX_OPERAND_COUNT };

struct xinsn {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[XOPS_MAX];
    const uint8_t *raw;
};

/* Which host register stands for each guest register in this instruction. */
struct regmap {
    uint8_t to[16];
    int32_t disp; /* of the memory operand */
};

/* Emit x with GPR operands mapped, and its memory operand, if any, replaced by [T0 + disp]. Segment
 * and address-size prefixes are dropped. False, with nothing emitted, when the instruction cannot
 * be encoded so (AH..BH beside a REX prefix, EVEX). */
bool rewrite(struct emit *e, const struct xinsn *x, const struct regmap *m);

/* GPR number (0..15) of a general register of any width, -1 for others. *high: AH, CH, DH or BH. */
int rewrite_gpr(ZydisRegister r, bool *high);

#endif
