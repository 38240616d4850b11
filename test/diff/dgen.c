/* Cases: random bytes shaped as instructions, kept if Zydis and the CPU model know them, with
 * memory operands moved to where the data is. */
#include "test/diff/diff.h"

#include <string.h>

#include "base/cleanup.h"
#include "test/diff/dvalues.h"

enum { TRIES = 4000, INT3 = 0xcc };

struct gen {
    const struct dgen *g;
    struct drng r;
    struct diff_case *c;
    ZydisDecoder dec;
    enum diff_class class;
    uint16_t known;            /* general registers that still hold what the case started with */
    uint32_t undef;            /* flags that are undefined now */
    unsigned fix_at, fix_size; /* a branch displacement that waits for the next one's length */
    uint64_t rip;              /* of code[0] */
};

struct
try {
    uint8_t b[ZYDIS_MAX_INSTRUCTION_LENGTH];
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
};

/* --- raw bytes -------------------------------------------------------------------------------- */

static unsigned prefixes(struct gen *q, uint8_t *p)
{
    static const uint8_t odd[] = {0x2e, 0x36, 0x3e, 0x26, 0x67, 0xf0};
    unsigned n = 0;
    bool vec = q->class == DIFF_VEC;

    if (drng_chance(&q->r, vec ? 45 : 15))
        p[n++] = 0x66;
    if (drng_chance(&q->r, vec ? 40 : 12))
        p[n++] = drng_chance(&q->r, 50) ? 0xf2 : 0xf3;
    if (drng_chance(&q->r, 6))
        p[n++] = odd[drng_below(&q->r, sizeof(odd))];
    if (drng_chance(&q->r, 3) && !q->c->c32)
        p[n++] = 0x65; /* GS */
    if (drng_chance(&q->r, 55) && !q->c->c32)
        p[n++] = (uint8_t)(0x40 | drng_below(&q->r, 16));
    return n;
}

static unsigned vex_bytes(struct gen *q, uint8_t *p, unsigned maps)
{
    if (drng_chance(&q->r, 25)) {
        p[0] = 0xc5;
        p[1] = (uint8_t)drng_next(&q->r);
        return 2;
    }
    p[0] = 0xc4;
    p[1] = (uint8_t)((drng_next(&q->r) & 0xe0) | (1 + drng_below(&q->r, maps)));
    p[2] = (uint8_t)drng_next(&q->r);
    return 3;
}

/* Escape bytes of an opcode map; returns how many. */
static unsigned map_bytes(struct gen *q, uint8_t *p)
{
    unsigned pick = drng_below(&q->r, 10);
    unsigned one = q->class == DIFF_INT ? 5 : q->class == DIFF_X87 ? 7 : 0;
    unsigned two = q->class == DIFF_VEC ? 6 : 9;

    if (pick < one)
        return 0;
    p[0] = 0x0f;
    if (pick < two || q->class == DIFF_X87)
        return 1;
    p[1] = q->class == DIFF_VEC && pick & 1 ? 0x3a : 0x38;
    return 2;
}

static void raw_bytes(struct gen *q, struct try *t)
{
    unsigned n;

    for (n = 0; n < sizeof(t->b); n++)
        t->b[n] = (uint8_t)drng_next(&q->r);
    if (q->class == DIFF_VEC && drng_chance(&q->r, 55)) {
        (void)vex_bytes(q, t->b, 3);
        return;
    }
    if (q->class == DIFF_INT && drng_chance(&q->r, 8)) { /* BMI */
        (void)vex_bytes(q, t->b, 3);
        return;
    }
    n = prefixes(q, t->b);
    unsigned map = map_bytes(q, t->b + n);

    if (q->class == DIFF_X87 && map == 0)
        t->b[n] = (uint8_t)(0xd8 + drng_below(&q->r, 8));
}

/* --- what may be run ----------------------------------------------------------------------------
 */

#define M(x) ZYDIS_MNEMONIC_##x

/* Answers that are the machine's own, kernel entries, segment loads (they outlive the case), and
 * images whose reserved parts or pointers differ between processors. */
static bool excluded(const struct try *t)
{
    switch (t->z.mnemonic) {
    case M(CPUID):
    case M(RDTSC):
    case M(RDTSCP):
    case M(RDPMC):
    case M(RDRAND):
    case M(RDSEED):
    case M(SYSCALL):
    case M(SYSENTER):
    case M(INT):
    case M(INT1):
    case M(INT3):
    case M(IRET):
    case M(IRETD):
    case M(IRETQ):
    case M(XGETBV):
    case M(RDFSBASE):
    case M(WRFSBASE):
    case M(WRGSBASE):
    case M(SGDT):
    case M(SIDT):
    case M(SLDT):
    case M(STR):
    case M(SMSW):
    case M(LAR):
    case M(LSL):
    case M(VERR):
    case M(VERW):
    case M(FXSAVE):
    case M(FXSAVE64):
    case M(FXRSTOR):
    case M(FXRSTOR64):
    case M(XSAVE):
    case M(XSAVE64):
    case M(XRSTOR):
    case M(XRSTOR64):
    case M(XSAVEOPT):
    case M(XSAVEOPT64):
    case M(FNSTENV):
    case M(FNSAVE):
    case M(LDMXCSR):
    case M(VLDMXCSR):
    case M(LDS):
    case M(LES):
    case M(LFS):
    case M(LGS):
    case M(LSS):
    case M(CLZERO):
    case M(VMCALL):
    case M(VMMCALL):
    case M(MONITOR):
    case M(MWAIT):
    case M(ENTER):
    case M(SYSEXIT):
    case M(SYSRET):
    case M(UD0):
    case M(PREFETCHWT1):
        return true;
    default:
        break;
    }
    if (t->z.attributes & ZYDIS_ATTRIB_HAS_SEGMENT_FS) /* the child's own thread lives there */
        return true;
    for (unsigned n = 0; n < t->z.operand_count; n++)
        if (t->op[n].type == ZYDIS_OPERAND_TYPE_REGISTER &&
            t->op[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE &&
            ZydisRegisterGetClass(t->op[n].reg.value) == ZYDIS_REGCLASS_SEGMENT)
            return true;
    return t->z.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR;
}

struct offer {
    uint8_t set, class, reg, bit;
    uint32_t leaf;
};

enum { A, B, C, D };

/* Instruction sets of the model and the class they belong to. */
static const struct offer offers[] = {
    {ZYDIS_ISA_SET_I86, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_I186, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_I386, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_I486, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_I486REAL, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_PENTIUMREAL, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_PPRO, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_CMOV, DIFF_INT, D, 15, 1},
    {ZYDIS_ISA_SET_LONGMODE, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_LAHF, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_FAT_NOP, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_CMPXCHG16B, DIFF_INT, C, 13, 1},
    {ZYDIS_ISA_SET_BMI1, DIFF_INT, B, 3, 7},
    {ZYDIS_ISA_SET_BMI2, DIFF_INT, B, 8, 7},
    {ZYDIS_ISA_SET_ADOX_ADCX, DIFF_INT, B, 19, 7},
    {ZYDIS_ISA_SET_MOVBE, DIFF_INT, C, 22, 1},
    {ZYDIS_ISA_SET_LZCNT, DIFF_INT, C, 5, 0x80000001},
    {ZYDIS_ISA_SET_POPCNT, DIFF_INT, C, 23, 1},
    {ZYDIS_ISA_SET_PAUSE, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_PREFETCH_NOP, DIFF_INT, D, 0, 1},
    {ZYDIS_ISA_SET_X87, DIFF_X87, D, 0, 1},
    {ZYDIS_ISA_SET_FCMOV, DIFF_X87, D, 0, 1},
    {ZYDIS_ISA_SET_SSE3X87, DIFF_X87, C, 0, 1},
    {ZYDIS_ISA_SET_PENTIUMMMX, DIFF_X87, D, 23, 1},
    {ZYDIS_ISA_SET_SSE2MMX, DIFF_X87, D, 26, 1},
    {ZYDIS_ISA_SET_SSSE3MMX, DIFF_X87, C, 9, 1},
    {ZYDIS_ISA_SET_SSE, DIFF_VEC, D, 25, 1},
    {ZYDIS_ISA_SET_SSEMXCSR, DIFF_VEC, D, 25, 1},
    {ZYDIS_ISA_SET_SSE2, DIFF_VEC, D, 26, 1},
    {ZYDIS_ISA_SET_SSE3, DIFF_VEC, C, 0, 1},
    {ZYDIS_ISA_SET_SSSE3, DIFF_VEC, C, 9, 1},
    {ZYDIS_ISA_SET_SSE4, DIFF_VEC, C, 19, 1},
    {ZYDIS_ISA_SET_SSE42, DIFF_VEC, C, 20, 1},
    {ZYDIS_ISA_SET_AES, DIFF_VEC, C, 25, 1},
    {ZYDIS_ISA_SET_PCLMULQDQ, DIFF_VEC, C, 1, 1},
    {ZYDIS_ISA_SET_SHA, DIFF_VEC, B, 29, 7},
    {ZYDIS_ISA_SET_AVX, DIFF_VEC, C, 28, 1},
    {ZYDIS_ISA_SET_AVXAES, DIFF_VEC, C, 25, 1},
    {ZYDIS_ISA_SET_F16C, DIFF_VEC, C, 29, 1},
    {ZYDIS_ISA_SET_FMA, DIFF_VEC, C, 12, 1},
    {ZYDIS_ISA_SET_AVX2, DIFF_VEC, B, 5, 7},
    {ZYDIS_ISA_SET_AVX2GATHER, DIFF_VEC, B, 5, 7},
};

static bool offered(const struct gen *q, const struct try *t)
{
    if (t->z.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY &&
        t->z.encoding != ZYDIS_INSTRUCTION_ENCODING_VEX)
        return false;
    for (unsigned n = 0; n < ARRAY_LEN(offers); n++) {
        const struct offer *o = &offers[n];

        if (o->set != t->z.meta.isa_set)
            continue;
        if (o->class != q->class && !(q->class == DIFF_X87 && o->class == DIFF_VEC))
            return false;
        return cpu_model_has(q->g->model, o->leaf, 0, o->reg, o->bit);
    }
    return false;
}

static bool wanted(struct gen *q, const struct try *t)
{
    uint32_t tested = t->z.cpu_flags ? t->z.cpu_flags->tested : 0;

    if (t->z.mnemonic == M(PUSHF) || t->z.mnemonic == M(PUSHFD) || t->z.mnemonic == M(PUSHFQ) ||
        t->z.mnemonic == M(LAHF))
        tested = FL_ARITH;
    return offered(q, t) && !excluded(t) && !dundef_result(&t->z, t->op) && !(tested & q->undef);
}

static bool decode(struct gen *q, struct try *t)
{
    return ZYAN_SUCCESS(ZydisDecoderDecodeFull(&q->dec, t->b, sizeof(t->b), &t->z, t->op));
}

/* --- memory operands
 * ------------------------------------------------------------------------------ */

static uint64_t target(struct gen *q, unsigned size)
{
    unsigned where = drng_below(&q->r, 100);
    uint64_t at = drng_below(&q->r, DIFF_RW_BYTES - 64);

    if (where < 70)
        at &= size > 1 ? ~(uint64_t)63 : ~0ull;
    else if (where >= 98)
        at = DIFF_DATA_BYTES - 4096 - 32 + drng_below(&q->r, 64); /* into the read-only page */
    else if (where >= 96)
        at = DIFF_DATA_BYTES - 32 + drng_below(&q->r, 64); /* out of it */
    else if (where >= 94)
        at = (uint64_t)drng_below(&q->r, 64) - 32;
    else if (where >= 91)
        at = 4096 - 32 + drng_below(&q->r, 64);
    return DIFF_DATA + at;
}

static bool is_known(const struct gen *q, ZydisRegister reg, uint64_t *val)
{
    if (reg == ZYDIS_REGISTER_NONE)
        return true;
    ZydisRegister big = ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg);
    unsigned n = (unsigned)ZydisRegisterGetId(big);

    if (ZydisRegisterGetClass(big) != ZYDIS_REGCLASS_GPR64 || !(q->known >> n & 1))
        return false;
    *val = q->c->in.gpr[n];
    return true;
}

/* Make the displacement such that the operand is at a target. False: cannot. */
static bool place(struct gen *q, struct try *t, const ZydisDecodedOperand *m)
{
    uint64_t base = 0, index = 0, at;
    int64_t disp;
    bool rip = m->mem.base == ZYDIS_REGISTER_RIP || m->mem.base == ZYDIS_REGISTER_EIP;

    if (t->z.raw.disp.size != 32)
        return t->z.raw.disp.size == 0 || drng_chance(&q->r, 20);
    if (rip)
        base = q->rip + q->c->len + t->z.length;
    else if (!is_known(q, m->mem.base, &base))
        return false;
    if (m->mem.type != ZYDIS_MEMOP_TYPE_VSIB && !is_known(q, m->mem.index, &index))
        return false;
    at = target(q, m->size / 8) - (m->mem.segment == ZYDIS_REGISTER_GS ? DIFF_DATA : 0);
    disp = (int64_t)(at - base - index * m->mem.scale);
    if (t->z.address_width == 64 && disp != (int32_t)disp)
        return false;
    uint32_t d = (uint32_t)disp;
    memcpy(t->b + t->z.raw.disp.offset, &d, 4);
    return true;
}

static bool fix_memory(struct gen *q, struct try *t)
{
    for (unsigned n = 0; n < t->z.operand_count_visible; n++) {
        const ZydisDecodedOperand *m = &t->op[n];

        if (m->type != ZYDIS_OPERAND_TYPE_MEMORY || m->mem.type == ZYDIS_MEMOP_TYPE_AGEN ||
            m->encoding == ZYDIS_OPERAND_ENCODING_NONE)
            continue;
        if (!(t->z.attributes & ZYDIS_ATTRIB_HAS_MODRM))
            return drng_chance(&q->r, 5); /* moffs */
        if (t->z.raw.modrm.mod < 2 && t->z.raw.disp.size != 32 && drng_chance(&q->r, 90)) {
            t->b[t->z.raw.modrm.offset] = (uint8_t)(t->b[t->z.raw.modrm.offset] & 0x3f) | 0x80;
            if (!decode(q, t))
                return false;
            m = &t->op[n];
        }
        if (!place(q, t, m))
            return false;
    }
    return decode(q, t);
}

/* --- one instruction
 * ------------------------------------------------------------------------------ */

static bool fix_branch(struct gen *q, struct try *t)
{
    for (unsigned n = 0; n < 2; n++) {
        if (!t->z.raw.imm[n].is_relative)
            continue;
        memset(t->b + t->z.raw.imm[n].offset, 0, t->z.raw.imm[n].size / 8);
        q->fix_at = q->c->len + t->z.raw.imm[n].offset;
        q->fix_size = t->z.raw.imm[n].size / 8;
    }
    return true;
}

static void forget_written(struct gen *q, const struct try *t)
{
    for (unsigned n = 0; n < t->z.operand_count; n++) {
        const ZydisDecodedOperand *o = &t->op[n];

        if (o->type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        ZydisRegister big =
            ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, o->reg.value);
        if (ZydisRegisterGetClass(big) == ZYDIS_REGCLASS_GPR64)
            q->known &= (uint16_t) ~(1u << ZydisRegisterGetId(big));
    }
}

static void follow_flags(struct gen *q, const struct try *t, bool skipped)
{
    const ZydisAccessedFlags *f = t->z.cpu_flags;
    uint32_t written = f ? f->modified | f->set_0 | f->set_1 : 0;

    if (!skipped && !dundef_conditional(&t->z))
        q->undef &= ~written;
    q->undef |= dundef_flags(&t->z);
}

static bool make_insn(struct gen *q)
{
    struct diff_case *c = q->c;
    bool skipped = q->fix_size != 0; /* a branch before may jump over this one */
    unsigned wait_at = q->fix_at, wait_size = q->fix_size;
    struct try t;

    for (unsigned n = 0;; n++) {
        if (n == TRIES)
            return false;
        raw_bytes(q, &t);
        if (!decode(q, &t) || !wanted(q, &t) ||
            (q->g->only >= 0 && (int)t.z.mnemonic != q->g->only) || !fix_memory(q, &t) ||
            !wanted(q, &t))
            continue;
        break;
    }
    if (c->len + t.z.length >= DIFF_CASE_BYTES)
        return false;
    q->fix_size = 0;
    (void)fix_branch(q, &t);
    memcpy(c->code + c->len, t.b, t.z.length);
    c->insn[c->n++] =
        (struct diff_insn){.at = (uint8_t)c->len, .len = t.z.length, .undef = q->undef};
    if (skipped && wait_size)
        c->code[wait_at] = t.z.length;
    c->len += t.z.length;
    forget_written(q, &t);
    follow_flags(q, &t, skipped);
    return true;
}

static enum diff_class pick_class(struct gen *q)
{
    enum diff_class k;

    do
        k = (enum diff_class)drng_below(&q->r, DIFF_CLASSES);
    while (!q->g->classes[k]);
    return k;
}

void dgen_case(const struct dgen *g, uint64_t id, struct diff_case *c)
{
    struct gen q = {
        .g = g, .c = c, .known = 0xffff, .rip = DIFF_CODE + id % DIFF_BATCH * DIFF_CASE_BYTES};
    unsigned count;

    q.r.s = g->seed * 0x100000001b3 + id;
    (void)drng_next(&q.r);
    memset(c, 0, sizeof(*c));
    c->id = id;
    c->c32 = !g->no32 && drng_chance(&q.r, 15);
    c->pool_at = drng_below(&q.r, (DIFF_POOL - DIFF_DATA_BYTES) / 8) * 8;
    dvalues_state(&q.r, c->c32, &c->in);
    c->in.rip = q.rip;
    (void)ZydisDecoderInit(&q.dec,
                           c->c32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
                           c->c32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
    memset(c->code, INT3, sizeof(c->code));
    count = 1 + drng_below(&q.r, g->max_insns);
    for (unsigned n = 0; n < count; n++) {
        q.class = pick_class(&q);
        if (!make_insn(&q))
            break;
    }
    c->undef = q.undef;
}

void dgen_init(struct dgen *g)
{
    struct drng r = {.s = ~g->seed};

    dvalues_pool(&r, g->pool, sizeof(g->pool));
}
