/* cpu/bt/classify.h - which way the translator takes with an instruction. */
#ifndef CPU_BT_CLASSIFY_H
#define CPU_BT_CLASSIFY_H

#include "cpu/bt/rewrite.h"
#include "cpu/model.h"

enum way {
    WAY_INTERP,     /* call out, go on behind */
    WAY_INTERP_END, /* call out; the block ends: control flow, or state that a block's key holds */
    WAY_REGS,       /* copied, registers mapped */
    WAY_MEM,        /* copied, its one memory operand looked up first */
    WAY_LEA,
    WAY_PUSH, /* register or immediate */
    WAY_POP,  /* register */
    WAY_LEAVE,
    WAY_DIV,
    WAY_CALL, /* near, relative */
    WAY_CALL_IND,
    WAY_RET,
    WAY_JMP,
    WAY_JMP_IND,
    WAY_JCC,
    WAY_SYSCALL, /* xswitch.c */
    WAY_SYSRET,
    WAY_STAC,
    WAY_CLAC,
    WAY_NOP,
    WAY_PUSHF, /* xsys.c, this and those that follow */
    WAY_POPF,
    WAY_CLI,
    WAY_STI,
    WAY_CLD,
    WAY_SWAPGS,
    WAY_FROM_SEG, /* MOV register, segment register */
    WAY_STRING,   /* MOVS, STOS, LODS: xstring.c */
    WAY_REPEAT,   /* REP MOVS, REP STOS */
    WAY_PUSHMEM,
    WAY_BITMEM, /* BT and its kin, memory and a register's offset */
};

struct kind {
    enum way way;
    uint8_t reads, writes, kills; /* arithmetic flags, in the bits of RFLAGS 7:0 and OF as bit 5 */
    bool vec;                     /* needs the vector or x87 registers live */
    int8_t mem;                   /* operand number of the explicit memory operand, -1 = none */
    uint8_t mem_bytes, align;     /* align 0: none demanded */
    bool mem_write;
};

enum { KF_OF = 1 << 5, KF_ALL = 0xd5 | KF_OF };

/* `mode`: enum MODE_* of the block, CS64. */
void classify(const struct xinsn *x, const struct cpu_model *model, uint32_t mode, struct kind *k);

#endif
