/* cpu/interp/pick.h - from a Zydis mnemonic to the handler that executes it.
 *
 * decode.c fills the parts of struct insn that all instructions share, then asks the table in
 * pick.c for the family function of the mnemonic, which chooses insn.fn by operand kind and size.
 */
#ifndef CPU_INTERP_PICK_H
#define CPU_INTERP_PICK_H

#include <Zydis/Zydis.h>

#include "cpu/interp/insn.h"

enum { PICK_OPERANDS = 5 }; /* at most this many visible ones */

struct pick {
    struct vcpu *v;
    const ZydisDecodedInstruction *z;
    const ZydisDecodedOperand *op; /* visible ones: z->operand_count_visible */
    struct insn *i;
};

/* The family's choice: 1 = insn.fn is set; 0 = no such form, #UD. */
typedef int (*pick_fn)(struct pick *p);

/* NULL: not an instruction of these families. */
pick_fn pick_lookup(unsigned mnemonic);
/* False: CPUID of this machine does not offer the instruction. */
bool pick_offered(const struct vcpu *v, unsigned mnemonic);

int alu_pick(struct pick *p);   /* i_alu.c: ADD OR ADC SBB AND SUB XOR CMP TEST */
int unary_pick(struct pick *p); /* i_unary.c: INC DEC NEG NOT */
int mov_pick(struct pick *p);   /* i_mov.c: MOV MOVZX MOVSX MOVSXD LEA BSWAP MOVBE NOP */
int cond_pick(struct pick *p);  /* i_cond.c: SETcc CMOVcc, flag instructions, CBW and relatives */
int xchg_pick(struct pick *p);  /* i_xchg.c: XCHG XADD CMPXCHG CMPXCHG8B CMPXCHG16B XLAT */
int shift_pick(
    struct pick *p); /* i_shift.c: ROL ROR RCL RCR SHL SHR SAR SHLD SHRD RORX SARX SHLX SHRX */
int mul_pick(struct pick *p); /* i_mul.c: MUL IMUL DIV IDIV MULX, BCD arithmetic */
int bit_pick(struct pick *p); /* i_bit.c: BT BTS BTR BTC */
int bmi_pick(
    struct pick *p); /* i_bmi.c: BSF BSR LZCNT TZCNT POPCNT, BMI, ADX, CRC32, RDRAND RDSEED */
int string_pick(struct pick *p); /* i_string.c: MOVS CMPS STOS LODS SCAS */
int io_pick(struct pick *p);     /* i_io.c: IN OUT INS OUTS */
int flow_pick(struct pick *p);   /* i_flow.c: near branches, Jcc, LOOP, JCXZ */
int far_pick(struct pick *p);   /* i_far.c: far branches, INT, IRET, SYSCALL, SYSENTER, UD, BOUND */
int stack_pick(struct pick *p); /* i_stack.c: PUSH POP PUSHA PUSHF ENTER LEAVE */
int seg_pick(struct pick *p); /* i_seg.c: segment registers, descriptor tables, LAR LSL VERR ARPL */
int sys_pick(struct pick *p); /* i_sys.c: CR, DR, MSR, CPUID, HLT, caches, TSC, hypercalls */

#endif
