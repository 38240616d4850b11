/* Lockstep agrees on a program, and tells what differs when translated code is not what it should
 * be. */
#include "test/unit/t.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/bt/bt.h"
#include "cpu/lockstep/lockstep.h"
#include "cpu/soft/softengine.h"
#include "hw/clock.h"
#include "hw/timer.h"

enum { RAM = 1 << 20, CODE = 0x10000, TABLES = 0x1000, DATA = 0x20000, MAGIC = 0x5ca1ab1e };

struct world {
    struct mem *mem;
    struct clock clock;
    struct timerq timers;
    struct cpu_model model;
    struct cpu_vm *vm;
    struct vcpu *v;
    char report[LOCKREPORT_BYTES];
};

static void put(struct world *w, gpa_t at, const void *p, size_t n)
{
    assert_int_equal(mem_write(w->mem, at, p, n), 0);
}

static void keep_report(void *ctx, const char *text)
{
    struct world *w = ctx;

    snprintf(w->report, sizeof(w->report), "%s", text);
}

static void start_state(struct world *w)
{
    static const uint64_t pml4 = (TABLES + 0x1000) | 3, pdpt = (TABLES + 0x2000) | 3, pd = 0x83;
    struct cpu_state s;
    struct err e;

    put(w, TABLES, &pml4, 8);
    put(w, TABLES + 0x1000, &pdpt, 8);
    put(w, TABLES + 0x2000, &pd, 8);
    cpu_state_reset(&s, 0, false);
    for (unsigned i = 0; i < SEGS; i++)
        s.seg[i] = (struct x86_seg){.limit = UINT32_MAX, .sel = 16, .attr = 0xc093};
    s.seg[SEG_CS] = (struct x86_seg){.limit = UINT32_MAX, .sel = 8, .attr = 0xa09b};
    s.cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_NE;
    s.cr4 = CR4_PAE;
    s.cr3 = TABLES;
    s.efer = EFER_LME | EFER_LMA;
    s.rip = CODE;
    s.gpr[RSP] = DATA + 0x1000;
    s.gpr[RBX] = DATA;
    assert_int_equal(cpu_lockstep.set(w->v, &s, &e), 0);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct err e = {0};

    *state = w;
    w->mem = mem_new(RAM, &e);
    clock_init(&w->clock, clock_host(), 0);
    timerq_init(&w->timers, NULL, NULL);
    assert_int_equal(cpu_model_init(&w->model, 2, w->clock.tsc_khz, &e), 0);
    struct cpu_vm_conf c = {.mem = w->mem,
                            .clock = &w->clock,
                            .timers = &w->timers,
                            .model = &w->model,
                            .differs = keep_report,
                            .differs_ctx = w};
    assert_int_equal(cpu_lockstep.vm_new(&c, &w->vm, &e), 0);
    assert_int_equal(cpu_lockstep.vcpu_new(w->vm, 0, &w->v, &e), 0);
    start_state(w);
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    cpu_lockstep.vcpu_free(w->v);
    cpu_lockstep.vm_free(w->vm);
    timerq_done(&w->timers);
    mem_free(w->mem);
    free(w);
    return 0;
}

/* Three rounds: mov eax, MAGIC; add [rbx], eax; push rax; pop rcx; dec edx; jnz; then out 0, al */
static const uint8_t program[] = {
    0xba, 3,    0,    0,    0,                                        /* mov edx, 3 */
    0xb8, 0x1e, 0xab, 0xa1, 0x5c, 0x01, 0x03, 0x50, 0x59, 0xff, 0xca, /* the round */
    0x75, 0xf3, 0xe6, 0x00,
};

static void run(struct world *w, struct cpu_exit *x)
{
    struct err e;

    assert_int_equal(cpu_lockstep.run(w->v, x, &e), 0);
}

static void a_program_agrees(void **state)
{
    struct world *w = *state;
    struct cpu_exit x = {0};
    struct cpu_stats s;
    uint32_t sum;

    put(w, CODE, program, sizeof(program));
    run(w, &x);
    assert_int_equal(x.kind, CPU_EXIT_PIO);
    assert_int_equal(mem_read(w->mem, DATA, &sum, 4), 0);
    assert_int_equal(sum, 3u * MAGIC); /* stored once a round: what is pretended is not kept */
    cpu_lockstep.stats(w->v, &s);
    assert_in_range(s.compared, 3, 10);
}

/* Other bytes wherever these lie in the code cache. */
static void spoil(struct world *w, const void *from, const void *to, size_t n)
{
    struct bt_vm *b = softengine_vm(w->vm)->engine;
    unsigned times = 0;
    uint8_t *at;

    while ((at = memmem(b->code.rw, (size_t)(b->code.e.p - b->code.rw), from, n))) {
        memcpy(at, to, n);
        times++;
    }
    assert_int_equal(times, 2); /* the block at the entry holds the round, too */
}

static void a_wrong_translation_is_told(void **state)
{
    static const uint8_t bad[] = {0xb8, 0x1f, 0xab, 0xa1, 0x5c};
    struct world *w = *state;
    struct cpu_exit x = {0};

    put(w, CODE, program, sizeof(program));
    run(w, &x);
    spoil(w, program + 5, bad, sizeof(bad));
    start_state(w);
    run(w, &x);
    assert_int_equal(x.kind, CPU_EXIT_STUCK);
    assert_non_null(strstr(x.u.stuck.why, "bt and interp differ at 0x10000"));
    assert_non_null(strstr(w->report, "mov eax, 0x5CA1AB1E"));
    assert_non_null(strstr(w->report, "5ca1ab1e  000000005ca1ab1f  <--"));
    assert_non_null(strstr(w->report, "memory at 0x20000 (physical)"));
}

static void a_second_cpu_is_refused(void **state)
{
    struct world *w = *state;
    struct vcpu *v;
    struct err e;

    assert_int_equal(cpu_lockstep.vcpu_new(w->vm, 1, &v, &e), -EINVAL);
}

static void an_overlay_keeps_bytes_apart(void **state)
{
    struct world *w = *state;
    static struct overlay o;
    uint64_t ram[4] = {0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0}, seen[3];
    uint8_t *at = (uint8_t *)ram;

    overlay_begin(&o, w->v);
    assert_int_equal(overlay_store(&o, at + 6, "\xaa\xbb\xcc\xdd", 4), SOFT_OK);
    memcpy(seen, ram, sizeof(seen));
    overlay_load(&o, at, seen, sizeof(seen));
    assert_int_equal(seen[0], 0xbbaa111111111111);
    assert_int_equal(seen[1], 0x222222222222ddcc);
    assert_int_equal(seen[2], ram[2]);
    assert_ptr_equal(overlay_differs(&o)->hva, at);
    memcpy(at + 6, "\xaa\xbb\xcc\xdd", 4);
    assert_null(overlay_differs(&o));
    /* No more than it has room for, and empty when begun again. */
    uint8_t *big = calloc(OVERLAY_WORDS + 1, 8);
    unsigned n = 0;
    while (n <= OVERLAY_WORDS && overlay_store(&o, big + 8 * n, "12345678", 8) == SOFT_OK)
        n++;
    assert_in_range(n, OVERLAY_WORDS / 2, OVERLAY_WORDS);
    assert_true(o.refused);
    overlay_begin(&o, w->v);
    assert_null(overlay_differs(&o));
    assert_int_equal(o.n, 0);
    overlay_end(w->v);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_program_agrees, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_wrong_translation_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_second_cpu_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_overlay_keeps_bytes_apart, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
