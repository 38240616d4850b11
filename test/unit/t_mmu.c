#include "test/unit/softvm.h"

/* Tables: PML4 0x1000, PDPT 0x2000, PD 0x3000, PT 0x4000; virtual 0.. maps as a test says. */
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)
enum { DATA = 0x100000 };

static void tables(struct softvm *s, uint64_t leaf)
{
    sv_put64(s, 0x1000, 0x2000 | P | W | U);
    sv_put64(s, 0x2000, 0x3000 | P | W | U);
    sv_put64(s, 0x3000, 0x4000 | P | W | U);
    for (unsigned i = 0; i < 512; i++)
        sv_put64(s, 0x4000 + i * 8, (DATA + i * 0x1000) | leaf);
    mmu_flush_all(s->v);
}

static void ring(struct softvm *s, unsigned cpl)
{
    sv_segments(s->v, cpl, true);
}

static int load(struct softvm *s, gva_t at)
{
    uint32_t x;

    return mmu_ld32(s->v, at, &x);
}

static int fetch(struct softvm *s, gva_t at)
{
    const uint8_t *hva;
    gpa_t page;

    return mmu_fetch_page(s->v, at, &page, &hva);
}

static void rights_follow_the_tables(void **state)
{
    static const struct {
        uint64_t leaf, cr0, cr4, flags;
        unsigned cpl;
        char what; /* r w x */
        int error; /* -1 = allowed */
    } rows[] = {
        {P | W | U, 0, 0, 0, 3, 'r', -1},
        {P | W | U, 0, 0, 0, 3, 'w', -1},
        {P | W | U, 0, 0, 0, 3, 'x', -1},
        {P | U, 0, 0, 0, 3, 'w', 7},
        {P | W, 0, 0, 0, 3, 'r', 5},
        {P | W, 0, 0, 0, 3, 'x', 0x15},
        {P | W, 0, 0, 0, 0, 'w', -1},
        {P, 0, 0, 0, 0, 'w', -1}, /* WP off */
        {P, CR0_WP, 0, 0, 0, 'w', 3},
        {P | W | U | NX, 0, 0, 0, 0, 'x', 0x11},
        {P | W | U | NX, 0, 0, 0, 0, 'r', -1},
        {P | W | U, 0, CR4_SMEP, 0, 0, 'x', 0x11},
        {P | W | U, 0, CR4_SMEP, 0, 3, 'x', -1},
        {P | W | U, 0, CR4_SMAP, 0, 0, 'r', 1},
        {P | W | U, 0, CR4_SMAP, 0, 0, 'w', 3},
        {P | W | U, 0, CR4_SMAP, FL_AC, 0, 'r', -1},
        {P | W | U, 0, CR4_SMAP, 0, 0, 'x', -1},
        {P | W | U, 0, CR4_SMAP, 0, 3, 'r', -1},
        {0, 0, 0, 0, 0, 'r', 0},
        {0, 0, 0, 0, 3, 'w', 6},
        {P | W | U | 1ull << 45, 0, 0, 0, 0, 'r', 9}, /* above MAXPHYADDR */
    };
    struct softvm s;

    sv_new(&s, 1);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        sv_long(&s);
        tables(&s, rows[i].leaf);
        s.v->s.cr0 = (s.v->s.cr0 & ~(uint64_t)CR0_WP) | rows[i].cr0;
        s.v->s.cr4 |= rows[i].cr4;
        s.v->s.rflags = FL_FIXED | rows[i].flags;
        ring(&s, rows[i].cpl);
        for (unsigned twice = 0; twice < 2; twice++) { /* by the walk, then by the TLB */
            int r = rows[i].what == 'r'   ? load(&s, 0x5008)
                    : rows[i].what == 'w' ? mmu_st32(s.v, 0x5008, 1)
                                          : fetch(&s, 0x5008);
            if (rows[i].error < 0) {
                assert_int_equal(r, SOFT_OK);
            } else {
                assert_int_equal(r, SOFT_FAULT);
                assert_int_equal(s.v->exc.vector, VEC_PF);
                assert_int_equal(s.v->exc.error, rows[i].error);
                assert_int_equal(s.v->exc.cr2, 0x5008);
            }
        }
    }
    sv_free(&s);
}

static void accessed_and_dirty_are_set_when_due(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    sv_long(&s);
    tables(&s, P | W);
    assert_int_equal(load(&s, 0x3000), SOFT_OK);
    assert_int_equal(sv_get64(&s, 0x4018) & (A | D), A);
    assert_true(sv_get64(&s, 0x1000) & A);
    assert_true(sv_get64(&s, 0x2000) & A);
    assert_true(sv_get64(&s, 0x3000) & A);
    assert_int_equal(mmu_st8(s.v, 0x3000, 1), SOFT_OK);
    assert_int_equal(sv_get64(&s, 0x4018) & (A | D), A | D);
    assert_false(sv_get64(&s, 0x3000) & D);
    sv_free(&s);
}

static void pages_of_all_sizes_translate(void **state)
{
    struct softvm s;
    uint32_t x;

    sv_new(&s, 1);
    sv_long(&s);
    tables(&s, P | W);
    sv_put64(&s, 0x3008, 0x400000 | P | W | PS); /* 2 MiB at 0x200000 */
    sv_put64(&s, 0x2008, 0 | P | W | PS);        /* 1 GiB at 0x40000000 */
    sv_put64(&s, 0x412340, 0x1234);
    assert_int_equal(mmu_ld32(s.v, 0x212340, &x), SOFT_OK);
    assert_int_equal(x, 0x1234);
    assert_int_equal(mmu_ld32(s.v, 0x40412340, &x), SOFT_OK);
    assert_int_equal(x, 0x1234);
    assert_int_equal(mmu_peek(s.v, 0x40412340), 0x412340);
    assert_int_equal(mmu_peek(s.v, 0x80000000), -1);
    sv_put64(&s, 0x3008, 0x400000 | 1 << 13 | P | W | PS); /* reserved */
    mmu_flush_all(s.v);
    assert_int_equal(mmu_ld32(s.v, 0x212340, &x), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 9);
    sv_put64(&s, 0x1000, 0x2000 | P | W | PS); /* PS has no place in a PML4 entry */
    mmu_flush_all(s.v);
    assert_int_equal(mmu_ld32(s.v, 0x3000, &x), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 9);
    sv_free(&s);
}

static void legacy_paging_walks_32_bit_entries(void **state)
{
    uint32_t pde[3] = {0x4000 | P | W | U, 0x400000 | P | W | PS, 0},
             pte[2] = {DATA | P | W, DATA | P};
    struct softvm s;
    uint32_t x;

    sv_new(&s, 1);
    s.v->s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
    s.v->s.cr4 = CR4_PSE;
    s.v->s.cr3 = 0x1000;
    sv_segments(s.v, 0, false);
    sv_put(&s, 0x1000, pde, sizeof(pde));
    sv_put(&s, 0x4000, pte, sizeof(pte));
    sv_put64(&s, DATA + 0x10, 77);
    sv_put64(&s, 0x456780, 88);
    assert_int_equal(mmu_ld32(s.v, 0x10, &x), SOFT_OK);
    assert_int_equal(x, 77);
    assert_int_equal(mmu_ld32(s.v, 0x456780, &x), SOFT_OK); /* 4 MiB */
    assert_int_equal(x, 88);
    assert_int_equal(mmu_st32(s.v, 0x1000, 1), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 3);
    assert_int_equal(mmu_ld32(s.v, 0x800000, &x), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 0);
    /* an instruction fetch says so only with NX or SMEP */
    assert_int_equal(fetch(&s, 0x800000), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 0);
    sv_free(&s);
}

static void pae_paging_has_four_pointers(void **state)
{
    struct softvm s;
    uint32_t x;

    sv_new(&s, 1);
    s.v->s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
    s.v->s.cr4 = CR4_PAE;
    s.v->s.efer = EFER_NXE;
    s.v->s.cr3 = 0x1020;
    sv_segments(s.v, 0, false);
    sv_put64(&s, 0x1020 + 24, 0x3000 | P); /* 3 GiB up */
    sv_put64(&s, 0x3000 + 8, 0x400000 | P | W | PS | NX);
    sv_put64(&s, 0x412340, 5);
    assert_int_equal(mmu_ld32(s.v, 0xc0212340, &x), SOFT_OK);
    assert_int_equal(x, 5);
    assert_int_equal(fetch(&s, 0xc0212340), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 0x11);
    sv_put64(&s, 0x1020 + 24, 0x3000 | P | W); /* reserved in a PDPTE */
    mmu_flush_all(s.v);
    assert_int_equal(mmu_ld32(s.v, 0xc0212340, &x), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 9);
    sv_free(&s);
}

static void tables_outside_ram_are_the_guests_fault(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    sv_long(&s);
    s.v->s.cr3 = 0xfffff000; /* reads as ones: reserved bits */
    assert_int_equal(load(&s, 0x3000), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 9);
    s.v->s.cr3 = 0x1000;
    sv_put64(&s, 0x1000, 0xd0000000 | P | W);
    assert_int_equal(load(&s, 0x3000), SOFT_FAULT);
    assert_int_equal(s.v->exc.error, 9);
    sv_free(&s);
}

static void flushes_drop_what_they_must(void **state)
{
    struct softvm s;
    uint32_t x;

    sv_new(&s, 1);
    sv_long(&s);
    tables(&s, P | W);
    sv_put64(&s, 0x4000 + 5 * 8, (DATA + 0x5000) | P | W | G);
    sv_put64(&s, DATA + 0x5000, 5);
    sv_put64(&s, DATA + 0x6000, 6);
    sv_put64(&s, DATA + 0x7000, 7);
    assert_int_equal(mmu_ld32(s.v, 0x5000, &x) | mmu_ld32(s.v, 0x6000, &x), SOFT_OK);
    sv_put64(&s, 0x4000 + 5 * 8, (DATA + 0x7000) | P | W);
    sv_put64(&s, 0x4000 + 6 * 8, (DATA + 0x7000) | P | W);
    mmu_flush_nonglobal(s.v);
    mmu_ld32(s.v, 0x5000, &x);
    assert_int_equal(x, 5); /* global: stays */
    mmu_ld32(s.v, 0x6000, &x);
    assert_int_equal(x, 7);
    mmu_flush_page(s.v, 0x5123);
    mmu_ld32(s.v, 0x5000, &x);
    assert_int_equal(x, 7);
    /* a 2 MiB page goes as a whole */
    sv_put64(&s, 0x3008, 0x400000 | P | W | PS);
    mmu_ld32(s.v, 0x200000, &x);
    mmu_ld32(s.v, 0x3ff000, &x);
    sv_put64(&s, 0x3008, 0);
    mmu_flush_page(s.v, 0x280000);
    assert_int_equal(mmu_ld32(s.v, 0x200000, &x), SOFT_FAULT);
    assert_int_equal(mmu_ld32(s.v, 0x3ff000, &x), SOFT_FAULT);
    sv_free(&s);
}

static void a_store_across_pages_is_all_or_nothing(void **state)
{
    struct softvm s;

    sv_new(&s, 1);
    sv_long(&s);
    tables(&s, P | W);
    sv_put64(&s, 0x4000 + 6 * 8, (DATA + 0x6000) | P);
    assert_int_equal(mmu_st64(s.v, 0x5ffc, UINT64_MAX), SOFT_FAULT);
    assert_int_equal(s.v->exc.cr2, 0x6000);
    assert_int_equal(sv_get64(&s, DATA + 0x5ff8), 0);
    sv_put64(&s, 0x4000 + 6 * 8, (DATA + 0x9000) | P | W); /* pages apart in memory */
    mmu_flush_all(s.v);
    assert_int_equal(mmu_st64(s.v, 0x5ffc, 0x1122334455667788), SOFT_OK);
    assert_int_equal(sv_get64(&s, DATA + 0x5ff8) >> 32, 0x55667788);
    assert_int_equal((uint32_t)sv_get64(&s, DATA + 0x9000), 0x11223344);
    uint64_t x;
    assert_int_equal(mmu_ld64(s.v, 0x5ffc, &x), SOFT_OK);
    assert_int_equal(x, 0x1122334455667788);
    uint8_t *hva;
    assert_int_equal(mmu_rmw_ptr(s.v, 0x5ffc, 8, &hva), SOFT_OK);
    assert_null(hva);
    sv_free(&s);
}

static void writes_to_code_are_announced(void **state)
{
    struct softvm s;
    uint8_t *hva;

    sv_new(&s, 2);
    sv_long(&s);
    tables(&s, P | W);
    int64_t page = mem_page(s.mem, DATA + 0x5000);
    assert_int_equal(mmu_st8(s.v, 0x5000, 1), SOFT_OK); /* fast write rights exist */
    mmu_mark_code(s.v, DATA + 0x5040, 3);
    assert_int_equal(mmu_rmw_ptr(s.v, 0x5000, 4, &hva), SOFT_OK);
    assert_null(hva);
    uint32_t gen = s.vm->code_gen[page];
    assert_int_equal(mmu_st8(s.v, 0x5000, 2), SOFT_OK); /* another chunk: nothing to tell */
    assert_int_equal(s.written, 0);
    assert_int_equal(mmu_st8(s.v, 0x5041, 2), SOFT_OK);
    assert_int_equal(s.written, 1);
    assert_int_not_equal(s.vm->code_gen[page], gen);
    assert_int_equal(s.mem->code[page], 0);
    assert_int_equal(mmu_rmw_ptr(s.v, 0x5000, 4, &hva), SOFT_OK);
    assert_non_null(hva); /* fast again */
    mmu_mark_code(s.v, DATA + 0x5040, 3);
    sv_put64(&s, DATA + 0x5000, 1); /* a device: other bytes of the page */
    assert_int_equal(s.written, 1);
    sv_put64(&s, DATA + 0x5040, 1);
    assert_int_equal(s.written, 2);
    sv_free(&s);
}

static void the_dirty_log_sees_every_store(void **state)
{
    uint64_t bitmap[SV_RAM / 4096 / 64] = {0};
    struct softvm s;
    struct err e;
    uint8_t val;

    sv_new(&s, 1);
    sv_long(&s);
    tables(&s, P | W);
    mmu_st8(s.v, 0x5000, 1);
    assert_int_equal(mem_dirty_start(s.mem, &e), 0);
    soft_vm_mem_changed(s.vm);
    mmu_st8(s.v, 0x5000, 1);
    mmu_st8(s.v, 0x5001, 1);
    assert_true(mem_dirty_fetch(s.mem, bitmap) >= 1);
    unsigned page = (DATA + 0x5000) / 4096;
    assert_true(bitmap[page / 64] >> (page % 64) & 1);
    memset(bitmap, 0, sizeof(bitmap));
    soft_vm_mem_changed(s.vm);
    mmu_st8(s.v, 0x5002, 1);
    mem_dirty_fetch(s.mem, bitmap);
    assert_true(bitmap[page / 64] >> (page % 64) & 1);
    memset(bitmap, 0, sizeof(bitmap));
    soft_vm_mem_changed(s.vm);
    assert_int_equal(mmu_ld8(s.v, 0x5002, &val), 0); /* a page that may be written, only read */
    assert_int_equal(mem_dirty_fetch(s.mem, bitmap), 0);
    mmu_st8(s.v, 0x5002, 1);
    assert_int_equal(mem_dirty_fetch(s.mem, bitmap), 1);
    sv_free(&s);
}

static void device_accesses_leave_and_are_replayed(void **state)
{
    struct cpu_exit x = {0};
    struct softvm s;
    uint32_t val = 0;

    sv_new(&s, 1);
    s.v->exit = &x;
    assert_int_equal(mmu_ld32(s.v, 0xd0000010, &val), SOFT_EXIT);
    assert_int_equal(x.kind, CPU_EXIT_MMIO);
    assert_int_equal(x.u.mmio.gpa, 0xd0000010);
    assert_int_equal(x.u.mmio.len, 4);
    assert_false(x.u.mmio.write);
    x.u.mmio.val = 0x99;
    soft_answered(s.v, &x);
    assert_int_equal(mmu_ld32(s.v, 0xd0000010, &val), SOFT_OK);
    assert_int_equal(val, 0x99);
    assert_int_equal(mmu_st32(s.v, 0xd0000010, 5), SOFT_EXIT);
    assert_true(x.u.mmio.write);
    assert_int_equal(x.u.mmio.val, 5);
    soft_answered(s.v, &x);
    assert_int_equal(mmu_ld32(s.v, 0xd0000010, &val), SOFT_OK); /* run again: both answered */
    assert_int_equal(mmu_st32(s.v, 0xd0000010, 5), SOFT_OK);
    soft_insn_done(s.v);
    assert_int_equal(mmu_st32(s.v, 0xd0000010, 5), SOFT_EXIT);
    sv_free(&s);
}

static void an_endless_instruction_cannot_fill_the_log(void **state)
{
    struct cpu_exit x = {0};
    struct softvm s;
    uint8_t val;
    unsigned exits = 0;

    sv_new(&s, 1);
    s.v->exit = &x;
    for (unsigned round = 0; round < 100; round++) {
        int r = SOFT_OK;
        for (unsigned i = 0; i < 64 && !r; i++)
            r = mmu_ld8(s.v, 0xd0000000 + i, &val);
        if (!r)
            break;
        exits++;
        soft_answered(s.v, &x);
    }
    assert_int_equal(exits, 16);
    assert_int_equal(val, 0xff);
    sv_free(&s);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(rights_follow_the_tables),
        cmocka_unit_test(accessed_and_dirty_are_set_when_due),
        cmocka_unit_test(pages_of_all_sizes_translate),
        cmocka_unit_test(legacy_paging_walks_32_bit_entries),
        cmocka_unit_test(pae_paging_has_four_pointers),
        cmocka_unit_test(tables_outside_ram_are_the_guests_fault),
        cmocka_unit_test(flushes_drop_what_they_must),
        cmocka_unit_test(a_store_across_pages_is_all_or_nothing),
        cmocka_unit_test(writes_to_code_are_announced),
        cmocka_unit_test(the_dirty_log_sees_every_store),
        cmocka_unit_test(device_accesses_leave_and_are_replayed),
        cmocka_unit_test(an_endless_instruction_cannot_fill_the_log),
    };

    return cmocka_run_group_tests(t, NULL, NULL);
}
