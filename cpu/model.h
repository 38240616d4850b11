/* cpu/model.h - the CPU a machine offers: CPUID as a table, the same on every
 * engine, so that a snapshot moves between engines and hosts.
 * Source: Intel SDM vol 2A CPUID; Linux Documentation/virt/kvm/x86/cpuid.rst. */
#ifndef CPU_MODEL_H
#define CPU_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { CPUID_ROWS_MAX = 64, CPUS_MAX = 64 };

struct cpuid_row {
    uint32_t leaf, sub; /* input EAX, ECX */
    bool has_sub;       /* sub matters */
    uint32_t eax, ebx, ecx, edx;
};

struct cpu_model {
    struct cpuid_row row[CPUID_ROWS_MAX];
    unsigned n;
    unsigned cpus;
    uint64_t tsc_khz;
    uint8_t phys_bits; /* MAXPHYADDR */
    bool avx;          /* XCR0.AVX may be set */
};

/* What the CPUs of a machine offered, as the feature words of CPUID: what a host must have to go on
 * with it. */
enum { CPU_FEATURE_WORDS = 8 };
struct cpu_features {
    uint32_t word[CPU_FEATURE_WORDS]; /* in the order of feature_words[] in model.c */
};

/* What this host can run and all engines honour: x86-64-v2 plus AVX, AVX2, FMA,
 * BMI1/2, F16C, MOVBE, LZCNT, AES, PCLMULQDQ, RDRAND/RDSEED, ADX, SHA, FSGSBASE, ERMS,
 * each only if the host has it; TSC-deadline, x2APIC, PCID, SMEP, SMAP, UMIP always (ours);
 * the KVM signature leaves with kvmclock. Errors: -ENOTSUP = the host lacks
 * x86-64-v2; -EINVAL = cpus. */
int cpu_model_init(struct cpu_model *m, unsigned cpus, uint64_t tsc_khz, struct err *e) MUST_CHECK;

/* The feature words *m offers. */
void cpu_model_features(const struct cpu_model *m, struct cpu_features *f);
/* Let *m, fresh from cpu_model_init(), offer exactly *f. *f may come from a file. -ENOTSUP: *m has
 * not all of it, and the sentence names what is missing. */
int cpu_model_restrict(struct cpu_model *m, const struct cpu_features *f, struct err *e) MUST_CHECK;

/* Answer of CPUID for vCPU `index`, with its dynamic bits (APIC id, OSXSAVE from
 * cr4, XSAVE size from xcr0). out = eax, ebx, ecx, edx. */
void cpu_model_cpuid(const struct cpu_model *m, unsigned index, uint64_t cr4, uint64_t xcr0,
                     uint32_t leaf, uint32_t sub, uint32_t out[4]);

/* True if cpuid offers the feature: reg 0..3 = eax..edx. */
bool cpu_model_has(const struct cpu_model *m, uint32_t leaf, uint32_t sub, unsigned reg,
                   unsigned bit);

#endif
