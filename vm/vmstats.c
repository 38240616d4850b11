/* vm/vmstats.c - what the engine counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "vm/vm_private.h"

void vm_stats(struct vm *vm, struct cpu_stats *sum)
{
    memset(sum, 0, sizeof(*sum));
    for (unsigned i = 0; i < vm->n_cpus; i++) {
        struct cpu_stats s = {0};

        vm->engine->stats(vm->cpu[i].v, &s);
        cpu_stats_add(sum, &s);
    }
}

/* The most frequent of count[CPU_OPS], which is consumed. Returns how many there are. */
static unsigned pick_top(uint64_t *count, struct vm_op *top)
{
    for (unsigned n = 0; n < VM_TOP_OPS; n++) {
        unsigned best = 0;

        for (unsigned op = 1; op < CPU_OPS; op++)
            if (count[op] > count[best])
                best = op;
        if (!count[best])
            return n;
        snprintf(top[n].name, sizeof(top[n].name), "%s", cpu_op_name(best));
        top[n].count = count[best];
        count[best] = 0;
    }
    return VM_TOP_OPS;
}

void vm_report(struct vm *vm, struct vm_report *r)
{
    CLEANUP(mem) uint64_t *count = calloc(CPU_OPS, sizeof(*count));

    *r = (struct vm_report){.cpus = vm->n_cpus};
    snprintf(r->engine, sizeof(r->engine), "%s", vm->engine->name);
    vm_stats(vm, &r->sum);
    for (unsigned i = 0; count && vm->engine->fallbacks && i < vm->n_cpus; i++)
        vm->engine->fallbacks(vm->cpu[i].v, count);
    if (count)
        r->n_ops = pick_top(count, r->op);
}
