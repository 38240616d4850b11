#include "cpu/model.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpu/state.h"

enum { MAX_BASIC = 0x16, PHYS_BITS = 40 };
enum { EAX, EBX, ECX, EDX };

#define BIT(n) (1u << (n))

/* Offered only if the host has them: instructions run on the host's own CPU. */
static const uint32_t host_1_ecx = BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | BIT(19) |
                                   BIT(20) | BIT(22) | BIT(23) | BIT(25) | BIT(28) | BIT(29) |
                                   BIT(30);
static const uint32_t v2_1_ecx = BIT(0) | BIT(9) | BIT(13) | BIT(19) | BIT(20) | BIT(23);
static const uint32_t avx_1_ecx = BIT(12) | BIT(28) | BIT(29);
static const uint32_t host_7_ebx =
    BIT(3) | BIT(5) | BIT(8) | BIT(9) | BIT(18) | BIT(19) | BIT(23) | BIT(29);
static const uint32_t avx_7_ebx = BIT(5);
static const uint32_t host_7_edx = BIT(4); /* FSRM */
static const uint32_t host_ext_ecx = BIT(0) | BIT(5);

/* Ours on every host: PCID, x2APIC, TSC deadline, XSAVE, hypervisor. */
static const uint32_t own_1_ecx = BIT(17) | BIT(21) | BIT(24) | BIT(26) | BIT(31);
/* FPU DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX FXSR SSE SSE2 */
static const uint32_t own_1_edx = BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) |
                                  BIT(8) | BIT(9) | BIT(11) | BIT(12) | BIT(13) | BIT(14) |
                                  BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) |
                                  BIT(25) | BIT(26);
static const uint32_t own_7_ebx =
    BIT(0) | BIT(1) | BIT(7) | BIT(20);   /* FSGSBASE TSC_ADJUST SMEP SMAP */
static const uint32_t own_7_ecx = BIT(2); /* UMIP */
/* SPEC_CTRL, STIBP, ARCH_CAPABILITIES, SSBD: so that a guest reads there that it needs no defence.
 */
static const uint32_t own_7_edx = BIT(26) | BIT(27) | BIT(29) | BIT(31);
/* SYSCALL NX 1GB RDTSCP LM */
static const uint32_t own_ext_edx = BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29);

static void add(struct cpu_model *m, uint32_t leaf, int sub, uint32_t a, uint32_t b, uint32_t c,
                uint32_t d)
{
    BUG_ON(m->n == CPUID_ROWS_MAX);
    m->row[m->n++] = (struct cpuid_row){
        .leaf = leaf,
        .sub = sub < 0 ? 0 : (uint32_t)sub,
        .has_sub = sub >= 0,
        .eax = a,
        .ebx = b,
        .ecx = c,
        .edx = d,
    };
}

static void host_leaf(uint32_t leaf, uint32_t out[4])
{
    memset(out, 0, 16);
    (void)__get_cpuid_count(leaf, 0, &out[EAX], &out[EBX], &out[ECX], &out[EDX]);
}

/* AVX needs the host kernel's consent too. */
static bool host_avx(const uint32_t leaf1[4])
{
    uint32_t lo, hi;

    if (!(leaf1[ECX] & BIT(27)) || !(leaf1[ECX] & BIT(28)))
        return false;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (lo & XCR0_ALL) == XCR0_ALL;
}

static void add_features(struct cpu_model *m, const uint32_t h1[4], const uint32_t h7[4],
                         const uint32_t hx[4])
{
    uint32_t ecx = h1[ECX] & host_1_ecx;
    uint32_t ebx7 = h7[EBX] & host_7_ebx;

    if (!m->avx) {
        ecx &= ~avx_1_ecx;
        ebx7 &= ~avx_7_ebx;
    }
    add(m, 1, -1, CPU_SIGNATURE, 8u << 8 | m->cpus << 16, ecx | own_1_ecx,
        own_1_edx | (m->cpus > 1 ? BIT(28) : 0));
    add(m, 7, 0, 2, ebx7 | own_7_ebx, own_7_ecx, (h7[EDX] & host_7_edx) | own_7_edx);
    add(m, 7, 1, 0, 0, 0, 0);
    add(m, 7, 2, 0, 0, 0,
        BIT(4)); /* BHI_CTRL: one bit of SPEC_CTRL instead of a loop each SYSCALL */
    add(m, 0x80000001, -1, 0, 0, hx[ECX] & host_ext_ecx, own_ext_edx);
}

/* Leaf 4 (caches; each vCPU a core of one package) and 0xb (topology). */
static void add_topology(struct cpu_model *m)
{
    unsigned bits = 0;

    while (1u << bits < m->cpus)
        bits++;
    uint32_t cores = ((1u << bits) - 1) << 26;
    uint32_t shared = ((1u << bits) - 1) << 14;
    add(m, 4, 0, cores | 0x121, 0x01c0003f, 63, 0);             /* L1d 32 KiB, 8 ways */
    add(m, 4, 1, cores | 0x122, 0x01c0003f, 63, 0);             /* L1i 32 KiB */
    add(m, 4, 2, cores | 0x143, 0x01c0003f, 1023, 0);           /* L2 512 KiB */
    add(m, 4, 3, cores | shared | 0x163, 0x03c0003f, 16383, 4); /* L3 16 MiB, 16 ways, inclusive */
    add(m, 4, 4, 0, 0, 0, 0);
    add(m, 0xb, 0, 0, 1, 0x100, 0);          /* one thread a core */
    add(m, 0xb, 1, bits, m->cpus, 0x201, 0); /* cores */
    add(m, 0xb, 2, 0, 0, 2, 0);
}

static void add_xsave(struct cpu_model *m)
{
    uint32_t size = m->avx ? XSAVE_BYTES : XSAVE_YMMH;

    add(m, 0xd, 0, m->avx ? XCR0_ALL : XCR0_X87 | XCR0_SSE, size, size, 0);
    add(m, 0xd, 1, 0, 0, 0, 0);
    if (m->avx)
        add(m, 0xd, 2, XSAVE_BYTES - XSAVE_YMMH, XSAVE_YMMH, 0, 0);
}

/* Leaf 0x15: TSC = crystal * EBX / EAX. The crystal is the LAPIC timer's 1 GHz; the fraction is the
 * best with a numerator that Linux's 32-bit product (crystal in kHz * EBX) survives. */
static void tsc_ratio(uint64_t khz, uint32_t *num, uint32_t *den)
{
    uint64_t a = khz, b = 1000000;
    uint64_t n0 = 0, n1 = 1, d0 = 1, d1 = 0; /* convergents of a / b */

    while (b) {
        uint64_t q = a / b, n = q * n1 + n0, d = q * d1 + d0, r = a % b;

        if (n > UINT32_MAX / 1000000)
            break;
        n0 = n1, n1 = n;
        d0 = d1, d1 = d;
        a = b, b = r;
    }
    *num = (uint32_t)n1;
    *den = (uint32_t)d1;
}

static void add_tsc(struct cpu_model *m)
{
    uint32_t num, den, mhz = (uint32_t)(m->tsc_khz / 1000);

    tsc_ratio(m->tsc_khz, &num, &den);
    if (num && den)
        add(m, 0x15, -1, den, num, 1000000000, 0);
    add(m, 0x16, -1, mhz, mhz, 100, 0);
}

/* Linux Documentation/virt/kvm/x86/cpuid.rst: clock sources old and new, no I/O delays needed, and
 * the clock is stable. */
static void add_kvm(struct cpu_model *m)
{
    add(m, 0x40000000, -1, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
    add(m, 0x40000001, -1, BIT(0) | BIT(1) | BIT(3) | BIT(24), 0, 0, 0);
}

static void add_brand(struct cpu_model *m)
{
    uint32_t w[12] = {0};

    memcpy(w, "kiln virtual CPU", 16);
    for (unsigned i = 0; i < 3; i++)
        add(m, 0x80000002 + i, -1, w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]);
}

int cpu_model_init(struct cpu_model *m, unsigned cpus, uint64_t tsc_khz, struct err *e)
{
    uint32_t h1[4], h7[4], hx[4];

    if (cpus < 1 || cpus > CPUS_MAX)
        return err_set(e, -EINVAL, "%u vCPUs: from 1 to %d can be had", cpus, CPUS_MAX);
    host_leaf(1, h1);
    host_leaf(7, h7);
    host_leaf(0x80000001, hx);
    if ((h1[ECX] & v2_1_ecx) != v2_1_ecx)
        return err_set(e, -ENOTSUP, "this CPU lacks x86-64-v2 (SSE4.2, POPCNT, CMPXCHG16B)");
    memset(m, 0, sizeof(*m));
    m->cpus = cpus;
    m->tsc_khz = tsc_khz;
    m->phys_bits = PHYS_BITS;
    m->avx = host_avx(h1);
    add(m, 0, -1, MAX_BASIC, 0x756e6547, 0x6c65746e, 0x49656e69); /* GenuineIntel */
    add(m, 2, -1, 0x00feff01, 0, 0, 0);                           /* caches: see leaf 4 */
    add(m, 6, -1, BIT(2), 0, 0, 0); /* ARAT: the APIC timer never stops */
    add_features(m, h1, h7, hx);
    add_topology(m);
    add_xsave(m);
    add_tsc(m);
    add_kvm(m);
    add(m, 0x80000000, -1, 0x80000008, 0, 0, 0);
    add_brand(m);
    add(m, 0x80000006, -1, 0, 0, 512u << 16 | 6u << 12 | 64, 0);
    add(m, 0x80000007, -1, 0, 0, 0, BIT(8)); /* invariant TSC */
    add(m, 0x80000008, -1, 48u << 8 | m->phys_bits, 0, 0, 0);
    return 0;
}

static const struct cpuid_row *find(const struct cpu_model *m, uint32_t leaf, uint32_t sub)
{
    for (unsigned i = 0; i < m->n; i++)
        if (m->row[i].leaf == leaf && (!m->row[i].has_sub || m->row[i].sub == sub))
            return &m->row[i];
    return NULL;
}

void cpu_model_cpuid(const struct cpu_model *m, unsigned index, uint64_t cr4, uint64_t xcr0,
                     uint32_t leaf, uint32_t sub, uint32_t out[4])
{
    const struct cpuid_row *r = find(m, leaf, sub);

    memset(out, 0, 16);
    if (r) {
        out[EAX] = r->eax;
        out[EBX] = r->ebx;
        out[ECX] = r->ecx;
        out[EDX] = r->edx;
    }
    if (leaf == 1) {
        out[EBX] |= index << 24;
        if (cr4 & CR4_OSXSAVE)
            out[ECX] |= BIT(27);
    }
    if (leaf == 0xb) { /* ECX and EDX hold even beyond the last level */
        out[ECX] = (out[ECX] & ~0xffu) | (sub & 0xff);
        out[EDX] = index;
    }
    if (leaf == 0xd && sub == 0)
        out[EBX] = xcr0 & XCR0_AVX ? XSAVE_BYTES : XSAVE_YMMH;
}

bool cpu_model_has(const struct cpu_model *m, uint32_t leaf, uint32_t sub, unsigned reg,
                   unsigned bit)
{
    uint32_t out[4];

    cpu_model_cpuid(m, 0, 0, 0, leaf, sub, out);
    return out[reg & 3] >> (bit & 31) & 1;
}

/* --- features of a machine that has run elsewhere --- */

static const struct {
    uint32_t leaf, sub;
    unsigned reg;
} feature_words[CPU_FEATURE_WORDS] = {
    {1, 0, ECX}, {1, 0, EDX}, {7, 0, EBX},          {7, 0, ECX},
    {7, 0, EDX}, {7, 2, EDX}, {0x80000001, 0, ECX}, {0x80000001, 0, EDX},
};

static const struct {
    unsigned word, bit;
    const char *name;
} feature_names[] = {
    {0, 1, "PCLMULQDQ"},   {0, 12, "FMA"},    {0, 19, "SSE4.1"}, {0, 20, "SSE4.2"},
    {0, 22, "MOVBE"},      {0, 23, "POPCNT"}, {0, 25, "AES"},    {0, 28, "AVX"},
    {0, 29, "F16C"},       {0, 30, "RDRAND"}, {2, 3, "BMI1"},    {2, 5, "AVX2"},
    {2, 8, "BMI2"},        {2, 9, "ERMS"},    {2, 18, "RDSEED"}, {2, 19, "ADX"},
    {2, 23, "CLFLUSHOPT"}, {2, 29, "SHA"},    {4, 4, "FSRM"},    {6, 0, "LAHF_LM"},
    {6, 5, "LZCNT"},
};

static uint32_t *feature(struct cpu_model *m, unsigned word)
{
    for (unsigned i = 0; i < m->n; i++) {
        struct cpuid_row *r = &m->row[i];
        uint32_t *regs[] = {&r->eax, &r->ebx, &r->ecx, &r->edx};

        if (r->leaf == feature_words[word].leaf && r->sub == feature_words[word].sub)
            return regs[feature_words[word].reg];
    }
    BUG("a model without feature leaves");
}

void cpu_model_features(const struct cpu_model *m, struct cpu_features *f)
{
    struct cpu_model copy = *m;

    for (unsigned w = 0; w < CPU_FEATURE_WORDS; w++)
        f->word[w] = *feature(&copy, w);
}

/* The names of the bits in missing[], as many as a sentence takes. */
static void name_bits(const uint32_t missing[CPU_FEATURE_WORDS], char *text, size_t len)
{
    size_t n = 0;

    text[0] = '\0';
    for (unsigned w = 0; w < CPU_FEATURE_WORDS; w++) {
        for (unsigned bit = 0; bit < 32 && n + 32 < len; bit++) {
            const char *name = NULL;

            if (!(missing[w] >> bit & 1))
                continue;
            for (size_t i = 0; i < ARRAY_LEN(feature_names) && !name; i++)
                if (feature_names[i].word == w && feature_names[i].bit == bit)
                    name = feature_names[i].name;
            const char *comma = n ? ", " : "";
            if (name)
                n += (size_t)snprintf(text + n, len - n, "%s%s", comma, name);
            else
                n += (size_t)snprintf(
                    text + n, len - n, "%sCPUID.%x:%s[%u]", comma, feature_words[w].leaf,
                    (const char *[]){"EAX", "EBX", "ECX", "EDX"}[feature_words[w].reg], bit);
        }
    }
}

/* Leaf 0xd as add_xsave() makes it where the host has no AVX. */
static void drop_avx(struct cpu_model *m)
{
    m->avx = false;
    for (unsigned i = 0; i < m->n; i++) {
        struct cpuid_row *r = &m->row[i];

        if (r->leaf == 0xd && r->sub == 0)
            *r = (struct cpuid_row){0xd, 0, true, XCR0_X87 | XCR0_SSE, XSAVE_YMMH, XSAVE_YMMH, 0};
        else if (r->leaf == 0xd)
            *r = (struct cpuid_row){0xd, r->sub, true, 0, 0, 0, 0};
    }
}

int cpu_model_restrict(struct cpu_model *m, const struct cpu_features *f, struct err *e)
{
    uint32_t missing[CPU_FEATURE_WORDS];
    uint32_t any = 0;
    char text[256];

    for (unsigned w = 0; w < CPU_FEATURE_WORDS; w++) {
        missing[w] = f->word[w] & ~*feature(m, w);
        any |= missing[w];
    }
    if (any) {
        name_bits(missing, text, sizeof(text));
        return err_set(e, -ENOTSUP, "this host cannot offer what the guest was offered: %s", text);
    }
    for (unsigned w = 0; w < CPU_FEATURE_WORDS; w++)
        *feature(m, w) = f->word[w];
    if (m->avx && !(f->word[0] & BIT(28)))
        drop_avx(m);
    return 0;
}
