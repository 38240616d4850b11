/* cpu/interp/native_isa.c - which vector, x87 and state instructions there are, and their rules. */
#include "cpu/interp/native_priv.h"

#include "base/cleanup.h"

struct feature { /* of CPUID; SDM vol 2A, CPUID */
    uint16_t isa_set;
    uint8_t kind;
    uint8_t leaf, sub, reg, bit;
};

enum { EAX_, EBX_, ECX_, EDX_ };

/* An instruction set that is not here is not ours, or never offered (AVX-512, SSE4A, XOP, GFNI). */
static const struct feature features[] = {
    {ZYDIS_ISA_SET_X87, NATIVE_X87, 1, 0, EDX_, 0},
    {ZYDIS_ISA_SET_FCMOV, NATIVE_X87, 1, 0, EDX_, 15},
    {ZYDIS_ISA_SET_PPRO, NATIVE_X87, 1, 0, EDX_, 15},
    {ZYDIS_ISA_SET_SSE3X87, NATIVE_X87, 1, 0, ECX_, 0},
    {ZYDIS_ISA_SET_PENTIUMMMX, NATIVE_MMX, 1, 0, EDX_, 23},
    {ZYDIS_ISA_SET_SSE, NATIVE_SSE, 1, 0, EDX_, 25},
    {ZYDIS_ISA_SET_SSEMXCSR, NATIVE_STATE, 1, 0, EDX_, 25},
    {ZYDIS_ISA_SET_SSE2, NATIVE_SSE, 1, 0, EDX_, 26},
    {ZYDIS_ISA_SET_SSE2MMX, NATIVE_MMX, 1, 0, EDX_, 26},
    {ZYDIS_ISA_SET_SSE3, NATIVE_SSE, 1, 0, ECX_, 0},
    {ZYDIS_ISA_SET_PCLMULQDQ, NATIVE_SSE, 1, 0, ECX_, 1},
    {ZYDIS_ISA_SET_SSSE3, NATIVE_SSE, 1, 0, ECX_, 9},
    {ZYDIS_ISA_SET_SSSE3MMX, NATIVE_MMX, 1, 0, ECX_, 9},
    {ZYDIS_ISA_SET_SSE4, NATIVE_SSE, 1, 0, ECX_, 19},
    {ZYDIS_ISA_SET_SSE42, NATIVE_SSE, 1, 0, ECX_, 20},
    {ZYDIS_ISA_SET_AES, NATIVE_SSE, 1, 0, ECX_, 25},
    {ZYDIS_ISA_SET_SHA, NATIVE_SSE, 7, 0, EBX_, 29},
    {ZYDIS_ISA_SET_AVX, NATIVE_AVX, 1, 0, ECX_, 28},
    {ZYDIS_ISA_SET_AVXAES, NATIVE_AVX, 1, 0, ECX_, 25},
    {ZYDIS_ISA_SET_F16C, NATIVE_AVX, 1, 0, ECX_, 29},
    {ZYDIS_ISA_SET_FMA, NATIVE_AVX, 1, 0, ECX_, 12},
    {ZYDIS_ISA_SET_AVX2, NATIVE_AVX, 7, 0, EBX_, 5},
    {ZYDIS_ISA_SET_AVX2GATHER, NATIVE_AVX, 7, 0, EBX_, 5},
    {ZYDIS_ISA_SET_VAES, NATIVE_AVX, 7, 0, ECX_, 9},
    {ZYDIS_ISA_SET_VPCLMULQDQ, NATIVE_AVX, 7, 0, ECX_, 10},
    {ZYDIS_ISA_SET_FXSAVE, NATIVE_STATE, 1, 0, EDX_, 24},
    {ZYDIS_ISA_SET_FXSAVE64, NATIVE_STATE, 1, 0, EDX_, 24},
    {ZYDIS_ISA_SET_XSAVE, NATIVE_STATE, 1, 0, ECX_, 26},
    {ZYDIS_ISA_SET_XSAVEOPT, NATIVE_STATE, 13, 1, EAX_, 0},
};

bool native_isa_has(const struct native_job *j, ZydisRegisterClass c)
{
    for (unsigned n = 0; n < j->z->operand_count; n++)
        if (j->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            ZydisRegisterGetClass(j->op[n].reg.value) == c)
            return true;
    return false;
}

/* VPINSRQ and VPEXTRQ are not there outside 64-bit mode; Zydis takes them for the forms with W0. */
static bool wide_element(const struct native_job *j)
{
    bool insert_or_extract =
        j->z->mnemonic == ZYDIS_MNEMONIC_VPINSRD || j->z->mnemonic == ZYDIS_MNEMONIC_VPEXTRD;

    return insert_or_extract && j->z->raw.vex.W;
}

static enum native_kind kind_of(const struct native_job *j, const struct feature *f)
{
    switch (f->kind) {
    case NATIVE_X87:
        return f->isa_set != ZYDIS_ISA_SET_PPRO || j->z->meta.isa_ext == ZYDIS_ISA_EXT_X87
                   ? NATIVE_X87
                   : NATIVE_NONE;
    case NATIVE_SSE:
        if (native_isa_has(j, ZYDIS_REGCLASS_MMX))
            return NATIVE_MMX;
        return native_isa_has(j, ZYDIS_REGCLASS_X87) ? NATIVE_X87 : NATIVE_SSE;
    case NATIVE_AVX:
        return wide_element(j) ? NATIVE_NONE : NATIVE_AVX;
    default:
        return f->kind;
    }
}

enum native_kind native_isa_kind(const struct vcpu *v, const struct native_job *j)
{
    const struct cpu_model *m = v->vm->c.model;

    if (j->z->encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        j->z->encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return NATIVE_NONE;
    for (unsigned n = 0; n < ARRAY_LEN(features); n++) {
        const struct feature *f = &features[n];

        if (f->isa_set == j->z->meta.isa_set)
            return cpu_model_has(m, f->leaf, f->sub, f->reg, f->bit) ? kind_of(j, f) : NATIVE_NONE;
    }
    return NATIVE_NONE;
}

/* SDM vol 2A, 2.4, exception classes: legacy m128 operands are aligned but for a few; VEX ones only
 * where the instruction says so. */
bool native_isa_aligned(const struct native_job *j)
{
    switch (j->z->mnemonic) {
    case ZYDIS_MNEMONIC_VMOVAPS:
    case ZYDIS_MNEMONIC_VMOVAPD:
    case ZYDIS_MNEMONIC_VMOVDQA:
    case ZYDIS_MNEMONIC_VMOVNTPS:
    case ZYDIS_MNEMONIC_VMOVNTPD:
    case ZYDIS_MNEMONIC_VMOVNTDQ:
    case ZYDIS_MNEMONIC_VMOVNTDQA:
        return true;
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
        return false;
    default:
        return j->z->encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && j->i->memlen == 16;
    }
}

/* Instructions that raise or heed floating-point exceptions: classes 2, 3 and 11, and the
 * conversions between MMX and packed floating point, which Zydis gives no class. */
bool native_isa_mxcsr(const ZydisDecodedInstruction *z)
{
    switch (z->mnemonic) {
    case ZYDIS_MNEMONIC_CVTPI2PS:
    case ZYDIS_MNEMONIC_CVTPI2PD:
    case ZYDIS_MNEMONIC_CVTPS2PI:
    case ZYDIS_MNEMONIC_CVTPD2PI:
    case ZYDIS_MNEMONIC_CVTTPS2PI:
    case ZYDIS_MNEMONIC_CVTTPD2PI:
        return true;
    default:
        break;
    }
    switch (z->meta.exception_class) {
    case ZYDIS_EXCEPTION_CLASS_SSE2:
    case ZYDIS_EXCEPTION_CLASS_SSE3:
    case ZYDIS_EXCEPTION_CLASS_AVX2:
    case ZYDIS_EXCEPTION_CLASS_AVX3:
    case ZYDIS_EXCEPTION_CLASS_AVX11:
        return true;
    default:
        return false;
    }
}
