#include "cpu/bt/classify.h"

#include "base/cleanup.h"
#include "cpu/soft/soft.h"

/* Zydis's flag masks have RFLAGS' own bits; OF (bit 11) moves to the free bit 5. */
static uint8_t fold(uint32_t f)
{
    return (uint8_t)((f & 0xd5) | (f & FL_OF ? KF_OF : 0));
}

/* Instruction sets that are copied when the machine offers them; others are the interpreter's. */
static const struct {
    ZydisISAExt ext;
    uint8_t leaf7;    /* 0: leaf 1, 1: leaf 7, 2: leaf 0x80000001 */
    uint8_t reg, bit; /* CPUID output */
    bool vec;
} offered[] = {
    {ZYDIS_ISA_EXT_BASE, 0, 3, 0, false},       {ZYDIS_ISA_EXT_LONGMODE, 0, 3, 0, false},
    {ZYDIS_ISA_EXT_PAUSE, 0, 3, 0, false},      {ZYDIS_ISA_EXT_MOVBE, 0, 2, 22, false},
    {ZYDIS_ISA_EXT_BMI1, 1, 1, 3, false},       {ZYDIS_ISA_EXT_BMI2, 1, 1, 8, false},
    {ZYDIS_ISA_EXT_ADOX_ADCX, 1, 1, 19, false}, {ZYDIS_ISA_EXT_LZCNT, 2, 2, 5, false},
    {ZYDIS_ISA_EXT_X87, 0, 3, 0, true},         {ZYDIS_ISA_EXT_SSE, 0, 3, 25, true},
    {ZYDIS_ISA_EXT_SSE2, 0, 3, 26, true},       {ZYDIS_ISA_EXT_SSE3, 0, 2, 0, true},
    {ZYDIS_ISA_EXT_SSSE3, 0, 2, 9, true},       {ZYDIS_ISA_EXT_SSE4, 0, 2, 20, true},
    {ZYDIS_ISA_EXT_AES, 0, 2, 25, true},        {ZYDIS_ISA_EXT_PCLMULQDQ, 0, 2, 1, true},
    {ZYDIS_ISA_EXT_AVX, 0, 2, 28, true},        {ZYDIS_ISA_EXT_AVX2, 1, 1, 5, true},
    {ZYDIS_ISA_EXT_FMA, 0, 2, 12, true},        {ZYDIS_ISA_EXT_F16C, 0, 2, 29, true},
    {ZYDIS_ISA_EXT_SHA, 1, 1, 29, true},
};

static bool set_offered(const struct xinsn *x, const struct cpu_model *m, bool *vec)
{
    static const uint32_t leaf[] = {1, 7, 0x80000001};

    for (size_t i = 0; i < ARRAY_LEN(offered); i++) {
        if (offered[i].ext != x->z.meta.isa_ext)
            continue;
        *vec = offered[i].vec;
        return cpu_model_has(m, leaf[offered[i].leaf7], 0, offered[i].reg, offered[i].bit);
    }
    return false;
}

/* Categories whose members do nothing but compute on their operands. */
static bool plain_category(const struct xinsn *x)
{
    switch (x->z.meta.category) {
    case ZYDIS_CATEGORY_BINARY:
    case ZYDIS_CATEGORY_BITBYTE:
    case ZYDIS_CATEGORY_CMOV:
    case ZYDIS_CATEGORY_CONVERT:
    case ZYDIS_CATEGORY_DATAXFER:
    case ZYDIS_CATEGORY_LOGICAL:
    case ZYDIS_CATEGORY_LOGICAL_FP:
    case ZYDIS_CATEGORY_ROTATE:
    case ZYDIS_CATEGORY_SEMAPHORE:
    case ZYDIS_CATEGORY_SETCC:
    case ZYDIS_CATEGORY_SHIFT:
    case ZYDIS_CATEGORY_LZCNT:
    case ZYDIS_CATEGORY_BMI1:
    case ZYDIS_CATEGORY_BMI2:
    case ZYDIS_CATEGORY_ADOX_ADCX:
    case ZYDIS_CATEGORY_SSE:
    case ZYDIS_CATEGORY_AVX:
    case ZYDIS_CATEGORY_AVX2:
    case ZYDIS_CATEGORY_VFMA:
    case ZYDIS_CATEGORY_AES:
    case ZYDIS_CATEGORY_PCLMULQDQ:
    case ZYDIS_CATEGORY_SHA:
    case ZYDIS_CATEGORY_BROADCAST:
    case ZYDIS_CATEGORY_STTNI:
    case ZYDIS_CATEGORY_X87_ALU:
    case ZYDIS_CATEGORY_FCMOV:
        return true;
    default:
        return false;
    }
}

/* Members of plain categories with a hidden side, which the interpreter takes. */
static bool special(const struct xinsn *x)
{
    switch (x->z.mnemonic) {
    case ZYDIS_MNEMONIC_IDIV:
    case ZYDIS_MNEMONIC_DIV:
    case ZYDIS_MNEMONIC_LDMXCSR:
    case ZYDIS_MNEMONIC_STMXCSR:
    case ZYDIS_MNEMONIC_VLDMXCSR:
    case ZYDIS_MNEMONIC_VSTMXCSR:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_FNINIT:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
    case ZYDIS_MNEMONIC_ENTER:
        return true;
    default:
        return false;
    }
}

/* Legacy SSE takes 16-byte operands only aligned, these excepted; VEX the other way round. */
static unsigned alignment(const struct xinsn *x, unsigned bytes)
{
    if (bytes < 16)
        return 0;
    switch (x->z.mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
        return bytes;
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
        return 0;
    default:
        return x->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? 0 : 16;
    }
}

/* Operands: at most one memory operand, through ModRM; registers of kinds a copy can carry. */
static bool operands(const struct xinsn *x, struct kind *k)
{
    for (unsigned i = 0; i < x->z.operand_count; i++) {
        const ZydisDecodedOperand *o = &x->op[i];

        if (o->type == ZYDIS_OPERAND_TYPE_POINTER)
            return false;
        if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
            if (k->mem >= 0 || o->encoding != ZYDIS_OPERAND_ENCODING_MODRM_RM ||
                o->mem.type != ZYDIS_MEMOP_TYPE_MEM)
                return false;
            k->mem = (int8_t)i;
            k->mem_write = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
            if (o->size < 8 || o->size > 256 || (o->size & (o->size - 1) && o->size != 80))
                return false;
            k->mem_bytes = (uint8_t)(o->size / 8);
            k->align = (uint8_t)alignment(x, k->mem_bytes);
        }
        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        switch (ZydisRegisterGetClass(o->reg.value)) {
        case ZYDIS_REGCLASS_GPR8:
        case ZYDIS_REGCLASS_GPR16:
        case ZYDIS_REGCLASS_GPR32:
        case ZYDIS_REGCLASS_GPR64:
        case ZYDIS_REGCLASS_FLAGS:
            break;
        case ZYDIS_REGCLASS_XMM:
        case ZYDIS_REGCLASS_YMM:
        case ZYDIS_REGCLASS_MMX:
        case ZYDIS_REGCLASS_X87:
            k->vec = true;
            break;
        default:
            if (o->reg.value != ZYDIS_REGISTER_MXCSR && o->reg.value != ZYDIS_REGISTER_X87CONTROL &&
                o->reg.value != ZYDIS_REGISTER_X87STATUS && o->reg.value != ZYDIS_REGISTER_X87TAG)
                return false;
        }
        /* A hidden RSP is a stack instruction that nobody claimed. */
        if (o->visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN && o->reg.value == ZYDIS_REGISTER_RSP)
            return false;
    }
    return true;
}

static void flags(const struct xinsn *x, struct kind *k)
{
    const ZydisAccessedFlags *f = x->z.cpu_flags;
    bool counted =
        x->z.meta.category == ZYDIS_CATEGORY_SHIFT || x->z.meta.category == ZYDIS_CATEGORY_ROTATE;

    if (!f)
        return;
    k->reads = fold(f->tested);
    k->writes = fold(f->modified | f->set_0 | f->set_1 | f->undefined);
    k->kills = k->writes;
    if (counted && x->z.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY) {
        const ZydisDecodedOperand *c = &x->op[x->z.operand_count_visible - 1];
        bool some = c->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && (c->imm.value.u & 31) != 0;

        /* A count of 0 leaves all flags: unless it is surely not 0, they pass through. */
        if (!some) {
            k->kills = 0;
            k->reads |= k->writes;
        }
    }
    if (x->z.mnemonic == ZYDIS_MNEMONIC_BSF || x->z.mnemonic == ZYDIS_MNEMONIC_BSR)
        k->kills = k->writes;
}

enum { RET_MAX = UINT16_MAX - 8 }; /* what RET may take from the stack: exit_branch has 16 bits */

static enum way near_flow(const struct xinsn *x)
{
    bool rel = x->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
    bool wide = x->z.operand_width == 64;

    if (x->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
        return WAY_INTERP_END;
    switch (x->z.meta.category) {
    case ZYDIS_CATEGORY_CALL:
        return !wide ? WAY_INTERP_END : rel ? WAY_CALL : WAY_CALL_IND;
    case ZYDIS_CATEGORY_RET:
        if (x->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && x->op[0].imm.value.u > RET_MAX)
            return WAY_INTERP_END;
        return wide && x->z.mnemonic == ZYDIS_MNEMONIC_RET ? WAY_RET : WAY_INTERP_END;
    case ZYDIS_CATEGORY_UNCOND_BR:
        return !wide || x->z.mnemonic != ZYDIS_MNEMONIC_JMP ? WAY_INTERP_END
               : rel                                        ? WAY_JMP
                                                            : WAY_JMP_IND;
    case ZYDIS_CATEGORY_COND_BR:
        switch (x->z.mnemonic) {
        case ZYDIS_MNEMONIC_JCXZ:
        case ZYDIS_MNEMONIC_JECXZ:
        case ZYDIS_MNEMONIC_JRCXZ:
        case ZYDIS_MNEMONIC_LOOP:
        case ZYDIS_MNEMONIC_LOOPE:
        case ZYDIS_MNEMONIC_LOOPNE:
            return WAY_INTERP_END;
        default:
            return WAY_JCC;
        }
    default:
        return WAY_INTERP_END;
    }
}

static bool gpr64_operand(const ZydisDecodedOperand *o)
{
    return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
           ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_GPR64;
}

static enum way stack(const struct xinsn *x)
{
    const ZydisDecodedOperand *o = &x->op[0];

    if (x->z.operand_width != 64)
        return WAY_INTERP;
    if (x->z.mnemonic == ZYDIS_MNEMONIC_PUSH &&
        (gpr64_operand(o) || o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE))
        return WAY_PUSH;
    if (x->z.mnemonic == ZYDIS_MNEMONIC_PUSH && o->type == ZYDIS_OPERAND_TYPE_MEMORY)
        return WAY_PUSHMEM;
    if (x->z.mnemonic == ZYDIS_MNEMONIC_POP && gpr64_operand(o))
        return WAY_POP;
    return WAY_INTERP;
}

/* String instructions with 64-bit addresses and no segment base. */
static enum way string(const struct xinsn *x)
{
    bool repeated = x->z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
                                       ZYDIS_ATTRIB_HAS_REPZ | ZYDIS_ATTRIB_HAS_REPNE);

    if (x->z.address_width != 64 || x->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS ||
        x->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_GS)
        return WAY_INTERP;
    switch (x->z.opcode & 0xfe) {
    case 0xa4: /* MOVS */
    case 0xaa: /* STOS */
        return repeated ? WAY_REPEAT : WAY_STRING;
    case 0xac: /* LODS */
        return repeated ? WAY_INTERP : WAY_STRING;
    default:
        return WAY_INTERP;
    }
}

/* A 32- or 64-bit division can be checked for #DE before it is made. */
static bool checked_division(const struct xinsn *x)
{
    return (x->z.mnemonic == ZYDIS_MNEMONIC_DIV || x->z.mnemonic == ZYDIS_MNEMONIC_IDIV) &&
           x->z.operand_width >= 32;
}

static bool vec_usable(const struct xinsn *x, uint32_t mode)
{
    if (x->z.meta.isa_ext == ZYDIS_ISA_EXT_X87 || x->z.meta.isa_ext == ZYDIS_ISA_EXT_MMX)
        return !(mode & MODE_FPU_NM);
    if (x->z.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
        return !(mode & MODE_AVX_BAD);
    return !(mode & MODE_SSE_BAD);
}

/* The ways of xsys.c; ring 0 only, but for those that every ring may do. False: none of them. */
static bool system_way(const struct xinsn *x, uint32_t mode, struct kind *k)
{
    bool ring0 = !(mode & MODE_CPL);

    switch (x->z.mnemonic) {
    case ZYDIS_MNEMONIC_PUSHFQ:
        k->way = WAY_PUSHF;
        return true;
    case ZYDIS_MNEMONIC_POPFQ:
        k->way = ring0 ? WAY_POPF : WAY_INTERP_END;
        k->kills = k->writes = ring0 ? KF_ALL : 0;
        k->reads = ring0 ? 0 : KF_ALL;
        return true;
    case ZYDIS_MNEMONIC_CLI:
        k->way = ring0 ? WAY_CLI : WAY_INTERP_END;
        k->reads = ring0 ? 0 : KF_ALL;
        return true;
    case ZYDIS_MNEMONIC_STI:
        k->way = ring0 ? WAY_STI : WAY_INTERP_END;
        return true;
    case ZYDIS_MNEMONIC_CLD:
        k->way = WAY_CLD;
        k->reads = 0;
        return true;
    case ZYDIS_MNEMONIC_SWAPGS:
        k->way = ring0 ? WAY_SWAPGS : WAY_INTERP_END;
        k->reads = ring0 ? 0 : KF_ALL;
        return true;
    case ZYDIS_MNEMONIC_SYSCALL:
        k->way = WAY_SYSCALL;
        return true;
    case ZYDIS_MNEMONIC_SYSRET:
        k->way = ring0 && x->z.operand_width == 64 ? WAY_SYSRET : WAY_INTERP_END;
        return true;
    case ZYDIS_MNEMONIC_STAC:
    case ZYDIS_MNEMONIC_CLAC:
        k->way = !ring0                                 ? WAY_INTERP_END
                 : x->z.mnemonic == ZYDIS_MNEMONIC_STAC ? WAY_STAC
                                                        : WAY_CLAC;
        return true;
    case ZYDIS_MNEMONIC_LFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
    case ZYDIS_MNEMONIC_MFENCE:
        k->way = WAY_REGS;
        k->reads = 0;
        return true;
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
    case ZYDIS_MNEMONIC_FXRSTOR:
    case ZYDIS_MNEMONIC_FXRSTOR64:
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XRSTOR:
    case ZYDIS_MNEMONIC_XRSTOR64:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_CPUID:
        k->way = WAY_INTERP; /* nothing that a block's key or its mapping depends on */
        return true;
    case ZYDIS_MNEMONIC_MOV:
        if (x->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER || x->z.operand_width < 32 ||
            x->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            ZydisRegisterGetClass(x->op[1].reg.value) != ZYDIS_REGCLASS_SEGMENT ||
            ZydisRegisterGetClass(x->op[0].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return false;
        k->way = WAY_FROM_SEG;
        k->reads = 0;
        return true;
    default:
        return false;
    }
}

/* MOV to and from CR and DR: what follows may be fetched and run under other rules. */
static bool system_register(const struct xinsn *x)
{
    for (unsigned i = 0; i < x->z.operand_count_visible; i++) {
        if (x->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
            continue;
        ZydisRegisterClass c = ZydisRegisterGetClass(x->op[i].reg.value);
        if (c == ZYDIS_REGCLASS_CONTROL || c == ZYDIS_REGCLASS_DEBUG)
            return true;
    }
    return false;
}

void classify(const struct xinsn *x, const struct cpu_model *model, uint32_t mode, struct kind *k)
{
    bool vec_set = false;

    *k = (struct kind){.way = WAY_INTERP, .mem = -1, .reads = KF_ALL};
    if (system_way(x, mode, k))
        return;
    switch (x->z.meta.category) {
    case ZYDIS_CATEGORY_CALL:
    case ZYDIS_CATEGORY_RET:
    case ZYDIS_CATEGORY_UNCOND_BR:
    case ZYDIS_CATEGORY_COND_BR:
        k->way = near_flow(x);
        return;
    case ZYDIS_CATEGORY_INTERRUPT:
    case ZYDIS_CATEGORY_SYSCALL:
    case ZYDIS_CATEGORY_SYSRET:
    case ZYDIS_CATEGORY_SYSTEM:
    case ZYDIS_CATEGORY_SMAP:
    case ZYDIS_CATEGORY_XSAVE:
    case ZYDIS_CATEGORY_SEGOP:
        k->way = WAY_INTERP_END;
        return;
    case ZYDIS_CATEGORY_PUSH:
    case ZYDIS_CATEGORY_POP:
        k->way = stack(x);
        if (k->way != WAY_INTERP)
            k->reads = 0;
        return;
    case ZYDIS_CATEGORY_STRINGOP:
        k->way = string(x);
        if (k->way != WAY_INTERP)
            k->reads = 0;
        return;
    case ZYDIS_CATEGORY_NOP:
    case ZYDIS_CATEGORY_WIDENOP:
    case ZYDIS_CATEGORY_PREFETCH:
        k->way = WAY_NOP;
        k->reads = 0;
        return;
    default:
        break;
    }
    if (x->z.mnemonic == ZYDIS_MNEMONIC_PAUSE)
        return; /* the interpreter lets other vCPUs run */
    if (x->z.mnemonic == ZYDIS_MNEMONIC_ENDBR64) {
        k->way = WAY_NOP;
        k->reads = 0;
        return;
    }
    if (x->z.mnemonic == ZYDIS_MNEMONIC_LEA) {
        k->way = WAY_LEA;
        k->reads = 0;
        return;
    }
    if (x->z.mnemonic == ZYDIS_MNEMONIC_LEAVE && x->z.operand_width == 64) {
        k->way = WAY_LEAVE;
        k->reads = 0;
        return;
    }
    if (x->z.meta.category == ZYDIS_CATEGORY_FLAGOP) {
        switch (x->z.mnemonic) {
        case ZYDIS_MNEMONIC_CLC:
        case ZYDIS_MNEMONIC_STC:
        case ZYDIS_MNEMONIC_CMC:
        case ZYDIS_MNEMONIC_LAHF:
        case ZYDIS_MNEMONIC_SAHF:
            k->way = WAY_REGS;
            k->reads = 0;
            flags(x, k);
            return;
        default: /* STD */
            return;
        }
    }
    if (!set_offered(x, model, &vec_set) || !plain_category(x) || system_register(x)) {
        k->way = WAY_INTERP_END; /* unknown territory may change what the block's key holds */
        return;
    }
    struct kind t = *k;
    t.vec = vec_set;
    t.reads = 0;
    if (!operands(x, &t) || (t.vec && !vec_usable(x, mode)))
        return;
    flags(x, &t);
    if (checked_division(x)) {
        t.way = WAY_DIV;
        *k = t;
        return;
    }
    if (special(x))
        return;
    /* BT and its kin with a register offset reach beyond their operand. */
    if (x->z.meta.category == ZYDIS_CATEGORY_BITBYTE && t.mem >= 0 &&
        x->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER && x->z.mnemonic != ZYDIS_MNEMONIC_BSF &&
        x->z.mnemonic != ZYDIS_MNEMONIC_BSR) {
        if (x->z.operand_width >= 32) {
            t.way = WAY_BITMEM;
            *k = t;
        }
        return;
    }
    t.way = t.mem >= 0 ? WAY_MEM : WAY_REGS;
    *k = t;
}
