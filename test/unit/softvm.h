/* test/unit/softvm.h - a software machine without an instruction executor: fake time, fake exec().
 */
#ifndef TEST_UNIT_SOFTVM_H
#define TEST_UNIT_SOFTVM_H

#include <string.h>

#include "cpu/soft/event.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segload.h"
#include "cpu/soft/sysreg.h"
#include "cpu/soft/xfer.h"
#include "test/unit/t.h"

enum { SV_RAM = 8 << 20, SV_CPUS = 4 };

struct softvm {
    uint64_t now; /* ns and TSC of the fake host: 1 GHz */
    struct mem *mem;
    struct clock clock;
    struct timerq timers;
    struct cpu_model model;
    struct soft_vm *vm;
    struct vcpu *v, *cpu[SV_CPUS];
    unsigned written, flushed; /* calls of the engine's hooks */
};

/* What the next exec() does; set by a test. */
static int (*sv_exec)(struct vcpu *v) __attribute__((unused));
static struct softvm *sv_current __attribute__((unused));

static int sv_run(struct vcpu *v)
{
    return sv_exec(v);
}
static void sv_written(struct soft_vm *vm, int64_t page, uint64_t chunks)
{
    sv_current->written++;
}
static void sv_flush(struct vcpu *v, enum soft_flush what)
{
    sv_current->flushed++;
}
static uint64_t sv_ns(void *ctx)
{
    return ((struct softvm *)ctx)->now;
}

static inline void sv_new(struct softvm *s, unsigned cpus)
{
    static const struct soft_engine_ops ops = {
        .exec = sv_run, .code_written = sv_written, .flush = sv_flush};
    struct err e = {0};

    memset(s, 0, sizeof(*s));
    sv_current = s;
    s->mem = mem_new(SV_RAM, &e);
    assert_non_null(s->mem);
    clock_init(&s->clock, &(struct clock_source){sv_ns, sv_ns, sv_ns, s, 1000000}, 0);
    timerq_init(&s->timers, NULL, NULL);
    assert_int_equal(cpu_model_init(&s->model, cpus, 1000000, &e), 0);
    struct cpu_vm_conf c = {
        .mem = s->mem, .clock = &s->clock, .timers = &s->timers, .model = &s->model};
    assert_int_equal(soft_vm_new(&c, &ops, &s->vm, &e), 0);
    for (unsigned i = 0; i < cpus; i++)
        assert_int_equal(soft_vcpu_new(s->vm, i, &s->cpu[i], &e), 0);
    s->v = s->cpu[0];
}

static inline void sv_free(struct softvm *s)
{
    for (unsigned i = 0; i < SV_CPUS; i++)
        soft_vcpu_free(s->cpu[i]);
    soft_vm_free(s->vm);
    timerq_done(&s->timers);
    mem_free(s->mem);
}

static inline void sv_put(struct softvm *s, gpa_t at, const void *p, size_t len)
{
    assert_int_equal(mem_write(s->mem, at, p, len), 0);
}
static inline void sv_put64(struct softvm *s, gpa_t at, uint64_t x)
{
    sv_put(s, at, &x, 8);
}
static inline uint64_t sv_get64(struct softvm *s, gpa_t at)
{
    uint64_t x;

    assert_int_equal(mem_read(s->mem, at, &x, 8), 0);
    return x;
}

/* Flat segments for ring `cpl`; 64-bit code if `l`, else 32-bit. */
static inline void sv_segments(struct vcpu *v, unsigned cpl, bool l)
{
    struct x86_seg data = {.limit = UINT32_MAX,
                           .sel = (uint16_t)(0x10 | cpl),
                           .attr = SEG_P | SEG_S | 3 | SEG_DB | SEG_G | cpl << SEG_DPL_SHIFT};

    for (unsigned i = 0; i < SEGS; i++)
        v->s.seg[i] = data;
    v->s.seg[SEG_CS].sel = (uint16_t)(8 | cpl);
    v->s.seg[SEG_CS].attr =
        SEG_P | SEG_S | 0xb | SEG_G | cpl << SEG_DPL_SHIFT | (l ? SEG_L : SEG_DB);
    soft_mode_update(v);
}

/* Long mode with CR3 = 0x1000; the test fills the tables. */
static inline void sv_long(struct softvm *s)
{
    s->v->s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
    s->v->s.cr4 = CR4_PAE | CR4_PGE;
    s->v->s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    s->v->s.cr3 = 0x1000;
    sv_segments(s->v, 0, true);
    mmu_flush_all(s->v);
}

#endif
