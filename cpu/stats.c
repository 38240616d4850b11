/* cpu/stats.c - counters of all engines. */
#include <Zydis/Zydis.h>

#include "cpu/cpu.h"

_Static_assert(sizeof(struct cpu_stats) % sizeof(uint64_t) == 0, "counters, and nothing else");
_Static_assert((int)ZYDIS_MNEMONIC_MAX_VALUE < (int)CPU_OPS, "kinds of instructions are mnemonics");

void cpu_stats_add(struct cpu_stats *sum, const struct cpu_stats *s)
{
    uint64_t *to = (uint64_t *)sum;
    const uint64_t *from = (const uint64_t *)s;

    for (unsigned i = 0; i < sizeof(*s) / sizeof(*from); i++)
        to[i] += from[i];
}

const char *cpu_op_name(unsigned op)
{
    const char *name =
        op <= ZYDIS_MNEMONIC_MAX_VALUE ? ZydisMnemonicGetString((ZydisMnemonic)op) : NULL;

    return name ? name : "?";
}
