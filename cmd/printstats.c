/* What --stats says. */
#include <stdio.h>

#include "base/cleanup.h"
#include "cmd/verb.h"
#include "vm/vm.h"

static const char *const vectors[32] = {
    "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",   "#TS",
    "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
};
static const char *const exits[] = {
    [CPU_EXIT_KICKED] = "kick", [CPU_EXIT_MMIO] = "mmio",         [CPU_EXIT_PIO] = "pio",
    [CPU_EXIT_EOI] = "eoi",     [CPU_EXIT_SHUTDOWN] = "shutdown", [CPU_EXIT_STUCK] = "stuck",
};

typedef unsigned long long ull;

static double share(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* "name count", the non-zero ones of them, on the line under way. */
static void print_some(const char *const *names, const uint64_t *count, unsigned n)
{
    const char *comma = " ";

    for (unsigned i = 0; i < n; i++) {
        if (!count[i] || !names[i])
            continue;
        fprintf(stderr, "%s%s %llu", comma, names[i], (ull)count[i]);
        comma = ", ";
    }
}

static void print_translator(const struct cpu_stats *s)
{
    fprintf(stderr, "translated    %llu blocks, %llu KiB to %llu KiB, in %.1f ms\n", (ull)s->blocks,
            (ull)s->guest_bytes >> 10, (ull)s->host_bytes >> 10, (double)s->xlat_ns / 1e6);
    fprintf(stderr, "code cache    flushed %llu times\n", (ull)s->flushes);
}

static void print_interpreted(const struct vm_report *r)
{
    const struct cpu_stats *s = &r->sum;

    fprintf(stderr, "interpreted   %llu (%.2f %% of all); asked one by one %llu times:\n",
            (ull)s->interpreted, share(s->interpreted, s->insns), (ull)s->fallbacks);
    for (unsigned i = 0; i < r->n_ops; i++)
        fprintf(stderr, "  %12llu  %5.1f %%  %s\n", (ull)r->op[i].count,
                share(r->op[i].count, s->fallbacks), r->op[i].name);
}

void print_stats(const struct vm_report *r)
{
    const struct cpu_stats *s = &r->sum;

    fprintf(stderr, "engine        %s, %u CPU%s\n", r->engine, r->cpus, r->cpus > 1 ? "s" : "");
    if (s->insns)
        fprintf(stderr, "instructions  %llu\n", (ull)s->insns);
    if (s->guest_bytes)
        print_translator(s);
    else if (s->blocks)
        fprintf(stderr, "decoded       %llu blocks, forgotten %llu times\n", (ull)s->blocks,
                (ull)s->flushes);
    if (s->tlb_walks)
        fprintf(stderr, "TLB           %llu misses, %llu page walks, %llu flushes\n",
                (ull)s->tlb_misses, (ull)s->tlb_walks, (ull)s->tlb_flushes);
    fprintf(stderr, "exits        ");
    print_some(exits, s->exits, ARRAY_LEN(exits));
    fprintf(stderr, "\nevents        interrupts %llu, exceptions %llu", (ull)s->interrupts,
            (ull)s->exceptions);
    if (s->exceptions)
        fputs(":", stderr);
    print_some(vectors, s->vectors, ARRAY_LEN(vectors));
    fputs("\n", stderr);
    if (s->compared)
        fprintf(stderr, "lockstep      %llu blocks agreed, %llu not compared\n", (ull)s->compared,
                (ull)s->not_compared);
    if (s->fallbacks)
        print_interpreted(r);
}
