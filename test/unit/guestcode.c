/* test/unit/guestcode.c - see guestcode.h. */
#include "test/unit/guestcode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "cpu/interp/interp.h"
#include "cpu/soft/mmu.h"

enum { P = 1, W = 2, U = 4, PS = 0x80, ATTR_CODE = 0xb, ATTR_DATA = 3 };

static void put64(struct guest *g, gpa_t at, uint64_t val)
{
    assert_int_equal(mem_write(g->mem, at, &val, 8), 0);
}

/* Identity map of the first GiB by 2 MiB pages, but the page at GUEST_SMALL by 4 KiB ones. All for
 * user and kernel. */
static void map(struct guest *g)
{
    put64(g, GUEST_TABLES, (GUEST_TABLES + 0x1000) | P | W | U);
    put64(g, GUEST_TABLES + 0x1000, (GUEST_TABLES + 0x2000) | P | W | U);
    for (unsigned n = 0; n < 512; n++)
        put64(g, GUEST_TABLES + 0x2000 + n * 8, ((uint64_t)n << 21) | P | W | U | PS);
    put64(g, GUEST_TABLES + 0x2000 + (GUEST_SMALL >> 21) * 8, (GUEST_TABLES + 0x3000) | P | W | U);
    for (unsigned n = 0; n < 512; n++)
        guestcode_pte(g, n, (GUEST_SMALL + n * 4096ull) | P | W | U);
}

void guestcode_pte(struct guest *g, unsigned n, uint64_t pte)
{
    put64(g, GUEST_TABLES + 0x3000 + n * 8, pte);
}

static void segments(struct cpu_state *s, uint32_t code, uint32_t data, uint32_t limit)
{
    for (unsigned n = 0; n < SEGS; n++) {
        s->seg[n] = (struct x86_seg){.limit = limit, .attr = SEG_P | SEG_S, .sel = 16};
        s->seg[n].attr |= n == SEG_CS ? ATTR_CODE | code : ATTR_DATA | data;
    }
    s->seg[SEG_CS].sel = 8;
}

static void set_mode(struct cpu_state *s, enum guest_mode mode)
{
    switch (mode) {
    case GUEST_REAL:
        segments(s, 0, 0, 0xffff);
        for (unsigned n = 0; n < SEGS; n++)
            s->seg[n].sel = 0;
        break;
    case GUEST_PROT16:
        segments(s, 0, 0, 0xffff);
        break;
    case GUEST_PROT32:
    case GUEST_COMPAT32:
        segments(s, SEG_DB | SEG_G, SEG_DB | SEG_G, UINT32_MAX);
        break;
    case GUEST_LONG:
        segments(s, SEG_L | SEG_G, SEG_DB | SEG_G, UINT32_MAX);
    }
    s->cr0 = CR0_ET | CR0_NE | CR0_MP;
    if (mode != GUEST_REAL)
        s->cr0 |= CR0_PE;
    s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT;
    if (mode >= GUEST_COMPAT32) {
        s->cr0 |= CR0_PG | CR0_WP;
        s->cr4 |= CR4_PAE;
        s->cr3 = GUEST_TABLES;
        s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    }
}

void guestcode_new(struct guest *g, enum guest_mode mode)
{
    struct err e;

    memset(g, 0, sizeof(*g));
    clock_init(&g->clock, clock_host(), 0);
    timerq_init(&g->timers, NULL, NULL);
    assert_int_equal(cpu_model_init(&g->model, 1, g->clock.tsc_khz, &e), 0);
    g->mem = mem_new(GUEST_RAM, &e);
    assert_non_null(g->mem);
    struct cpu_vm_conf conf = {
        .mem = g->mem, .clock = &g->clock, .timers = &g->timers, .model = &g->model};
    assert_int_equal(soft_vm_new(&conf, &interp_ops, &g->vm, &e), 0);
    assert_int_equal(soft_vcpu_new(g->vm, 0, &g->v, &e), 0);
    map(g);
    cpu_state_reset(&g->s, 0, false);
    set_mode(&g->s, mode);
    g->s.rip = mode <= GUEST_PROT16 ? 0x7c00 : GUEST_CODE;
    g->s.gpr[RSP] = mode <= GUEST_PROT16 ? 0x7000 : GUEST_STACK;
}

void guestcode_free(struct guest *g)
{
    soft_vcpu_free(g->v);
    soft_vm_free(g->vm);
    mem_free(g->mem);
    timerq_done(&g->timers);
}

void guestcode_load(struct guest *g, const uint8_t *code, const uint8_t *end)
{
    struct err e;

    assert_int_equal(
        mem_write(g->mem, g->s.seg[SEG_CS].base + g->s.rip, code, (size_t)(end - code)), 0);
    assert_int_equal(soft_set(g->v, &g->s, &e), 0);
    atomic_store(&g->v->requests, 0);
}

int guestcode_run(struct guest *g)
{
    static struct cpu_exit x;
    int rc;

    g->v->exit = &x;
    do {
        rc = interp_ops.exec(g->v);
        if (rc == SOFT_BREAK) {
            g->v->s.sti_shadow = g->v->s.ss_shadow = false;
            atomic_store(&g->v->requests, 0);
        }
    } while (rc == SOFT_BREAK && g->v->s.mp == MP_RUNNING);
    return rc;
}

void guestcode_do(struct guest *g, const uint8_t *code, const uint8_t *end)
{
    guestcode_load(g, code, end);
    assert_int_equal(guestcode_run(g), SOFT_BREAK);
}
