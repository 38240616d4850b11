/* cpu/interp/insn.h - one decoded instruction, ready to execute.
 *
 * Decoding (Zydis) happens once per block; what handlers need is folded in here. A handler does the
 * whole instruction but the moving of RIP, unless it ends its block (I_ENDS): then it sets s.rip.
 * Handlers return enum soft_stop; on SOFT_FAULT and SOFT_EXIT no architectural state has changed
 * (but what the SDM says of REP). A handler that returns SOFT_BREAK is I_ENDS and has set s.rip.
 *
 * Blocks do not depend on the linear address they run at: while a handler runs, s.rip is the
 * address of its BLOCK's first byte; that of the instruction is insn_rip(), of the next one
 * insn_next(). A RIP-relative operand is s.rip + disp. The block loop makes s.rip exact before
 * anyone else looks. */
#ifndef CPU_INTERP_INSN_H
#define CPU_INTERP_INSN_H

#include <stddef.h>
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
       I_MEM = 1 << 4,    /* has a memory operand: seg, base, index, scale, disp, memlen */
       I_RIPREL = 1 << 5, /* base is NO_REG; disp counts from s.rip, the block's start */
       I_HIGH_A = 1 << 6, /* operand a is AH, CH, DH or BH (register number 0..3) */
       I_HIGH_B = 1 << 7,
       I_MEM_IS_A = 1 << 8, /* memory is the destination operand */
       I_LIN = 1 << 9,      /* the effective address is the linear one (64-bit, base 0) */
       I_LINSEG = 1 << 10,  /* 64-bit with FS or GS: add the segment base, nothing else */
};

struct insn {
    insn_fn fn;
    uint64_t imm;
    int64_t disp;
    void *stub;      /* vector and x87 instructions: generated code */
    uint64_t y;      /* free for the handler's own use */
    uint32_t memlen; /* bytes of the memory operand */
    uint16_t flags;
    uint16_t op;                /* ZydisMnemonic, for messages and statistics */
    uint16_t x;                 /* free for the handler's own use */
    uint16_t off;               /* of its first byte in the block */
    uint16_t base_at, index_at; /* where base and index values lie: byte offsets in struct vcpu */
    uint8_t ra, rb, rc;         /* GPR operands a, b, c: byte offsets in struct vcpu (AH is 1) */
    uint8_t len;                /* bytes */
    uint8_t opsize;             /* bytes: 1, 2, 4, 8 (16, 32 for vectors) */
    uint8_t adsize;             /* bytes: 2, 4, 8 */
    uint8_t seg;                /* enum SEG_*: effective segment of the memory operand */
    uint8_t base, index, scale; /* GPR numbers or NO_REG; scale 1, 2, 4, 8 */
    uint8_t a, b, c;            /* register operands by number, destination first */
    uint8_t shift;              /* scale as a power of two */
};
_Static_assert(sizeof(struct insn) <= 80, "decoded instructions are many: keep them small");
_Static_assert(offsetof(struct vcpu, s) == 0 && offsetof(struct cpu_state, gpr) == 0 &&
                   offsetof(struct vcpu, zero) < UINT16_MAX,
               "ra, base_at and relatives are offsets in struct vcpu");

/* Outside 64-bit mode an instruction pointer has 32 bits. Running off the end of a 16-bit segment
 * does not wrap: the next fetch is beyond the limit. */
static inline uint64_t insn_wrap_ip(const struct vcpu *v, uint64_t ip)
{
    return (v->mode & MODE_CS) == MODE_CS64 ? ip : (uint32_t)ip;
}

static inline uint64_t insn_rip(const struct vcpu *v, const struct insn *i)
{
    return insn_wrap_ip(v, v->s.rip + i->off);
}

static inline uint64_t insn_next(const struct vcpu *v, const struct insn *i)
{
    return insn_wrap_ip(v, v->s.rip + i->off + i->len);
}

/* Linear address of the memory operand (segment and canonical checks for memlen bytes included). */
int insn_lin(struct vcpu *v, const struct insn *i, bool write, gva_t *lin);

#endif
