/* cpu/interp/insn.h - one decoded instruction, ready to execute.
 *
 * Decoding (Zydis) happens once per block; what handlers need is folded into 64
 * bytes here. A handler does the whole instruction but the moving of RIP: the block
 * loop sets s.rip = next after SOFT_OK; handlers of control flow set s.rip
 * themselves and are the last of their block (I_ENDS).
 * Handlers return enum soft_stop; on non-zero no architectural state has changed. */
#ifndef CPU_INTERP_INSN_H
#define CPU_INTERP_INSN_H

#include <stdint.h>

#include "cpu/soft/soft.h"

struct insn;
typedef int (*insn_fn)(struct vcpu *v, const struct insn *i);

enum { NO_REG = 0xff };
enum { /* insn.flags */
    I_LOCK = 1 << 0,
    I_REP = 1 << 1,    /* F3 */
    I_REPNE = 1 << 2,  /* F2 */
    I_ENDS = 1 << 3,   /* last of its block */
    I_MEM = 1 << 4,    /* has a memory operand, described by seg/base/index/scale/disp */
    I_RIPREL = 1 << 5, /* disp already holds next rip + displacement: base is NO_REG */
    I_HIGH_A = 1 << 6, /* operand a is AH, CH, DH or BH (register number 0..3) */
    I_HIGH_B = 1 << 7,
    I_MEM_IS_A = 1 << 8, /* memory is the destination operand */
};

struct insn {
    insn_fn fn;
    uint64_t imm;
    int64_t disp;
    uint8_t len;      /* bytes */
    uint8_t opsize;   /* bytes: 1, 2, 4, 8 (16, 32 for vectors) */
    uint8_t adsize;   /* bytes: 2, 4, 8 */
    uint8_t seg;      /* enum SEG_*: effective segment of the memory operand */
    uint8_t base, index, scale; /* GPR numbers or NO_REG; scale 1, 2, 4, 8 */
    uint8_t a, b, c;  /* register operands by number, destination first */
    uint16_t flags;
    uint16_t op;      /* ZydisMnemonic, for messages and statistics */
    uint16_t x;       /* free for the handler's own use */
    uint32_t memlen;  /* bytes of the memory operand */
    void *stub;       /* vector and x87 instructions: generated code */
    uint64_t y;       /* free for the handler's own use */
};
_Static_assert(sizeof(struct insn) <= 80, "decoded instructions are many: keep them small");

/* Linear address of the memory operand (segment checks included). */
int insn_lin(struct vcpu *v, const struct insn *i, bool write, gva_t *lin);

#endif
