/* cpu/interp/pick.c - the table of instructions, and which of them CPUID offers. */
#include "cpu/interp/pick.h"

/* MOV to and from special registers goes to other families than MOV at large. */
static int mov_any(struct pick *p)
{
    for (unsigned n = 0; n < 2; n++) {
        const ZydisDecodedOperand *o = &p->op[n];

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        if (o->reg.value >= ZYDIS_REGISTER_ES && o->reg.value <= ZYDIS_REGISTER_GS)
            return seg_pick(p);
        if (o->reg.value >= ZYDIS_REGISTER_CR0 && o->reg.value <= ZYDIS_REGISTER_DR15)
            return sys_pick(p);
    }
    return mov_pick(p);
}

#define M(name) [ZYDIS_MNEMONIC_##name]

static const pick_fn table[ZYDIS_MNEMONIC_MAX_VALUE + 1] = {
    M(ADD) = alu_pick,         M(OR) = alu_pick,          M(ADC) = alu_pick,
    M(SBB) = alu_pick,         M(AND) = alu_pick,         M(SUB) = alu_pick,
    M(XOR) = alu_pick,         M(CMP) = alu_pick,         M(TEST) = alu_pick,

    M(INC) = unary_pick,       M(DEC) = unary_pick,       M(NEG) = unary_pick,
    M(NOT) = unary_pick,

    M(MOV) = mov_any,          M(MOVZX) = mov_pick,       M(MOVSX) = mov_pick,
    M(MOVSXD) = mov_pick,      M(MOVNTI) = mov_pick,      M(LEA) = mov_pick,
    M(BSWAP) = mov_pick,       M(MOVBE) = mov_pick,       M(NOP) = mov_pick,
    M(PREFETCH) = mov_pick,    M(PREFETCHNTA) = mov_pick, M(PREFETCHT0) = mov_pick,
    M(PREFETCHT1) = mov_pick,  M(PREFETCHT2) = mov_pick,  M(PREFETCHW) = mov_pick,
    M(PREFETCHWT1) = mov_pick, M(ENDBR32) = mov_pick,     M(ENDBR64) = mov_pick,

    M(SETO) = cond_pick,       M(SETNO) = cond_pick,      M(SETB) = cond_pick,
    M(SETNB) = cond_pick,      M(SETZ) = cond_pick,       M(SETNZ) = cond_pick,
    M(SETBE) = cond_pick,      M(SETNBE) = cond_pick,     M(SETS) = cond_pick,
    M(SETNS) = cond_pick,      M(SETP) = cond_pick,       M(SETNP) = cond_pick,
    M(SETL) = cond_pick,       M(SETNL) = cond_pick,      M(SETLE) = cond_pick,
    M(SETNLE) = cond_pick,     M(CMOVO) = cond_pick,      M(CMOVNO) = cond_pick,
    M(CMOVB) = cond_pick,      M(CMOVNB) = cond_pick,     M(CMOVZ) = cond_pick,
    M(CMOVNZ) = cond_pick,     M(CMOVBE) = cond_pick,     M(CMOVNBE) = cond_pick,
    M(CMOVS) = cond_pick,      M(CMOVNS) = cond_pick,     M(CMOVP) = cond_pick,
    M(CMOVNP) = cond_pick,     M(CMOVL) = cond_pick,      M(CMOVNL) = cond_pick,
    M(CMOVLE) = cond_pick,     M(CMOVNLE) = cond_pick,    M(CLC) = cond_pick,
    M(STC) = cond_pick,        M(CMC) = cond_pick,        M(CLD) = cond_pick,
    M(STD) = cond_pick,        M(LAHF) = cond_pick,       M(SAHF) = cond_pick,
    M(SALC) = cond_pick,       M(CBW) = cond_pick,        M(CWDE) = cond_pick,
    M(CDQE) = cond_pick,       M(CWD) = cond_pick,        M(CDQ) = cond_pick,
    M(CQO) = cond_pick,

    M(XCHG) = xchg_pick,       M(XADD) = xchg_pick,       M(CMPXCHG) = xchg_pick,
    M(CMPXCHG8B) = xchg_pick,  M(CMPXCHG16B) = xchg_pick, M(XLAT) = xchg_pick,

    M(ROL) = shift_pick,       M(ROR) = shift_pick,       M(RCL) = shift_pick,
    M(RCR) = shift_pick,       M(SHL) = shift_pick,       M(SHR) = shift_pick,
    M(SAR) = shift_pick,       M(SHLD) = shift_pick,      M(SHRD) = shift_pick,
    M(RORX) = shift_pick,      M(SARX) = shift_pick,      M(SHLX) = shift_pick,
    M(SHRX) = shift_pick,

    M(MUL) = mul_pick,         M(IMUL) = mul_pick,        M(DIV) = mul_pick,
    M(IDIV) = mul_pick,        M(MULX) = mul_pick,        M(AAA) = mul_pick,
    M(AAS) = mul_pick,         M(AAM) = mul_pick,         M(AAD) = mul_pick,
    M(DAA) = mul_pick,         M(DAS) = mul_pick,

    M(BT) = bit_pick,          M(BTS) = bit_pick,         M(BTR) = bit_pick,
    M(BTC) = bit_pick,

    M(BSF) = bmi_pick,         M(BSR) = bmi_pick,         M(LZCNT) = bmi_pick,
    M(TZCNT) = bmi_pick,       M(POPCNT) = bmi_pick,      M(ANDN) = bmi_pick,
    M(BEXTR) = bmi_pick,       M(BLSI) = bmi_pick,        M(BLSMSK) = bmi_pick,
    M(BLSR) = bmi_pick,        M(BZHI) = bmi_pick,        M(PDEP) = bmi_pick,
    M(PEXT) = bmi_pick,        M(ADCX) = bmi_pick,        M(ADOX) = bmi_pick,
    M(CRC32) = bmi_pick,       M(RDRAND) = bmi_pick,      M(RDSEED) = bmi_pick,

    M(MOVSB) = string_pick,    M(MOVSW) = string_pick,    M(MOVSD) = string_pick,
    M(MOVSQ) = string_pick,    M(CMPSB) = string_pick,    M(CMPSW) = string_pick,
    M(CMPSD) = string_pick,    M(CMPSQ) = string_pick,    M(STOSB) = string_pick,
    M(STOSW) = string_pick,    M(STOSD) = string_pick,    M(STOSQ) = string_pick,
    M(LODSB) = string_pick,    M(LODSW) = string_pick,    M(LODSD) = string_pick,
    M(LODSQ) = string_pick,    M(SCASB) = string_pick,    M(SCASW) = string_pick,
    M(SCASD) = string_pick,    M(SCASQ) = string_pick,

    M(IN) = io_pick,           M(OUT) = io_pick,          M(INSB) = io_pick,
    M(INSW) = io_pick,         M(INSD) = io_pick,         M(OUTSB) = io_pick,
    M(OUTSW) = io_pick,        M(OUTSD) = io_pick,

    M(JMP) = flow_pick,        M(CALL) = flow_pick,       M(RET) = flow_pick,
    M(LOOP) = flow_pick,       M(LOOPE) = flow_pick,      M(LOOPNE) = flow_pick,
    M(JCXZ) = flow_pick,       M(JECXZ) = flow_pick,      M(JRCXZ) = flow_pick,
    M(JO) = flow_pick,         M(JNO) = flow_pick,        M(JB) = flow_pick,
    M(JNB) = flow_pick,        M(JZ) = flow_pick,         M(JNZ) = flow_pick,
    M(JBE) = flow_pick,        M(JNBE) = flow_pick,       M(JS) = flow_pick,
    M(JNS) = flow_pick,        M(JP) = flow_pick,         M(JNP) = flow_pick,
    M(JL) = flow_pick,         M(JNL) = flow_pick,        M(JLE) = flow_pick,
    M(JNLE) = flow_pick,

    M(INT) = far_pick,         M(INT1) = far_pick,        M(INT3) = far_pick,
    M(INTO) = far_pick,        M(IRET) = far_pick,        M(IRETD) = far_pick,
    M(IRETQ) = far_pick,       M(SYSCALL) = far_pick,     M(SYSRET) = far_pick,
    M(SYSENTER) = far_pick,    M(SYSEXIT) = far_pick,     M(BOUND) = far_pick,
    M(UD0) = far_pick,         M(UD1) = far_pick,         M(UD2) = far_pick,
    M(MONITOR) = far_pick,     M(MWAIT) = far_pick,       M(MONITORX) = far_pick,
    M(MWAITX) = far_pick,

    M(PUSH) = stack_pick,      M(POP) = stack_pick,       M(PUSHA) = stack_pick,
    M(PUSHAD) = stack_pick,    M(POPA) = stack_pick,      M(POPAD) = stack_pick,
    M(PUSHF) = stack_pick,     M(PUSHFD) = stack_pick,    M(PUSHFQ) = stack_pick,
    M(POPF) = stack_pick,      M(POPFD) = stack_pick,     M(POPFQ) = stack_pick,
    M(ENTER) = stack_pick,     M(LEAVE) = stack_pick,

    M(LDS) = seg_pick,         M(LES) = seg_pick,         M(LFS) = seg_pick,
    M(LGS) = seg_pick,         M(LSS) = seg_pick,         M(LLDT) = seg_pick,
    M(LTR) = seg_pick,         M(SLDT) = seg_pick,        M(STR) = seg_pick,
    M(SGDT) = seg_pick,        M(SIDT) = seg_pick,        M(LGDT) = seg_pick,
    M(LIDT) = seg_pick,        M(LAR) = seg_pick,         M(LSL) = seg_pick,
    M(VERR) = seg_pick,        M(VERW) = seg_pick,        M(ARPL) = seg_pick,
    M(SWAPGS) = seg_pick,      M(RDFSBASE) = seg_pick,    M(RDGSBASE) = seg_pick,
    M(WRFSBASE) = seg_pick,    M(WRGSBASE) = seg_pick,

    M(CLTS) = sys_pick,        M(LMSW) = sys_pick,        M(SMSW) = sys_pick,
    M(RDMSR) = sys_pick,       M(WRMSR) = sys_pick,       M(XGETBV) = sys_pick,
    M(XSETBV) = sys_pick,      M(CPUID) = sys_pick,       M(RDTSC) = sys_pick,
    M(RDTSCP) = sys_pick,      M(RDPID) = sys_pick,       M(RDPMC) = sys_pick,
    M(CLI) = sys_pick,         M(STI) = sys_pick,         M(HLT) = sys_pick,
    M(STAC) = sys_pick,        M(CLAC) = sys_pick,        M(INVLPG) = sys_pick,
    M(INVPCID) = sys_pick,     M(WBINVD) = sys_pick,      M(INVD) = sys_pick,
    M(CLFLUSH) = sys_pick,     M(CLFLUSHOPT) = sys_pick,  M(CLWB) = sys_pick,
    M(LFENCE) = sys_pick,      M(MFENCE) = sys_pick,      M(SFENCE) = sys_pick,
    M(PAUSE) = sys_pick,       M(VMCALL) = sys_pick,      M(VMMCALL) = sys_pick,
};

#undef M

pick_fn pick_lookup(unsigned mnemonic)
{
    return mnemonic <= ZYDIS_MNEMONIC_MAX_VALUE ? table[mnemonic] : NULL;
}

/* CPUID leaf 1, 7 or 0x80000001; sub-leaf 0. */
#define NEEDS(leaf, reg, bit) cpu_model_has(v->vm->c.model, leaf, 0, reg, bit)
enum { EAX_OUT, EBX_OUT, ECX_OUT, EDX_OUT };

bool pick_offered(const struct vcpu *v, unsigned mnemonic)
{
    switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVBE:
        return NEEDS(1, ECX_OUT, 22);
    case ZYDIS_MNEMONIC_POPCNT:
        return NEEDS(1, ECX_OUT, 23);
    case ZYDIS_MNEMONIC_RDRAND:
        return NEEDS(1, ECX_OUT, 30);
    case ZYDIS_MNEMONIC_CRC32:
        return NEEDS(1, ECX_OUT, 20);
    case ZYDIS_MNEMONIC_CMPXCHG16B:
        return NEEDS(1, ECX_OUT, 13);
    case ZYDIS_MNEMONIC_RDFSBASE:
    case ZYDIS_MNEMONIC_RDGSBASE:
    case ZYDIS_MNEMONIC_WRFSBASE:
    case ZYDIS_MNEMONIC_WRGSBASE:
        return NEEDS(7, EBX_OUT, 0);
    case ZYDIS_MNEMONIC_ANDN:
    case ZYDIS_MNEMONIC_BEXTR:
    case ZYDIS_MNEMONIC_BLSI:
    case ZYDIS_MNEMONIC_BLSMSK:
    case ZYDIS_MNEMONIC_BLSR:
        return NEEDS(7, EBX_OUT, 3);
    case ZYDIS_MNEMONIC_BZHI:
    case ZYDIS_MNEMONIC_MULX:
    case ZYDIS_MNEMONIC_PDEP:
    case ZYDIS_MNEMONIC_PEXT:
    case ZYDIS_MNEMONIC_RORX:
    case ZYDIS_MNEMONIC_SARX:
    case ZYDIS_MNEMONIC_SHLX:
    case ZYDIS_MNEMONIC_SHRX:
        return NEEDS(7, EBX_OUT, 8);
    case ZYDIS_MNEMONIC_INVPCID:
        return NEEDS(7, EBX_OUT, 10);
    case ZYDIS_MNEMONIC_RDSEED:
        return NEEDS(7, EBX_OUT, 18);
    case ZYDIS_MNEMONIC_ADCX:
    case ZYDIS_MNEMONIC_ADOX:
        return NEEDS(7, EBX_OUT, 19);
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC:
        return NEEDS(7, EBX_OUT, 20);
    case ZYDIS_MNEMONIC_CLFLUSHOPT:
        return NEEDS(7, EBX_OUT, 23);
    case ZYDIS_MNEMONIC_CLWB:
        return NEEDS(7, EBX_OUT, 24);
    case ZYDIS_MNEMONIC_RDPID:
        return NEEDS(7, ECX_OUT, 22);
    case ZYDIS_MNEMONIC_RDTSCP:
        return NEEDS(0x80000001, EDX_OUT, 27);
    default:
        return true;
    }
}
