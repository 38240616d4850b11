#include <stdlib.h>
#include <string.h>

#include "cpu/state.h"
#include "state/state.h"
#include "test/unit/t.h"

/* Every field different and lawful. */
static void fill(struct cpu_state *s)
{
    cpu_state_reset(s, 0, false);
    for (unsigned i = 0; i < GPRS; i++)
        s->gpr[i] = 0x1000 + i;
    s->cr0 = CR0_PE | CR0_PG | CR0_ET | CR0_WP;
    s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXSAVE;
    s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    s->cr2 = 0x2222;
    s->cr3 = 0x3000;
    s->rip = 0xffffffff80001000;
    s->rflags = FL_FIXED | FL_ZF | FL_IF;
    for (unsigned i = 0; i < SEGS; i++)
        s->seg[i] = (struct x86_seg){
            .sel = (uint16_t)(8 + i), .base = 0x100 * i, .limit = 0x1000 + i, .attr = 0x93};
    s->seg[SEG_CS].attr = 0x209b;
    s->ldtr.base = 0x70;
    s->tr.base = 0x80;
    s->gdtr.base = 0x90;
    s->idtr.base = 0xa0;
    for (unsigned i = 0; i < 4; i++)
        s->dr[i] = 0x50 + i;
    s->xcr0 = XCR0_ALL;
    s->star = 1;
    s->lstar = 2;
    s->cstar = 3;
    s->sfmask = 4;
    s->kernel_gs_base = 5;
    s->sysenter_cs = 6;
    s->sysenter_esp = 7;
    s->sysenter_eip = 8;
    s->misc_enable = 9;
    s->tsc_aux = 10;
    s->tsc_adjust = 11;
    s->tsc_off = 12;
    s->tsc_deadline = 13;
    s->spec_ctrl = 1;
    s->mtrr_def = 0x800;
    for (unsigned i = 0; i < 8; i++) {
        s->mtrr_fix[i] = 0x20 + i;
        s->mtrr_base[i] = 0x30 + i;
        s->mtrr_mask[i] = 0x40 + i;
    }
    s->kvmclock_system = 0x60;
    s->kvmclock_wall = 0x61;
    s->kvm_poll_control = 1;
    for (unsigned i = 32; i < XSAVE_HDR; i++)
        s->xsave[i] = (uint8_t)i;
    for (unsigned i = XSAVE_YMMH; i < XSAVE_BYTES; i++)
        s->xsave[i] = (uint8_t)(i * 3);
    for (unsigned i = 16; i < 40; i++)
        s->lapic[i] = i * 7;
    s->mp = MP_HALTED;
    s->nmi_pending = s->nmi_masked = s->sti_shadow = s->ss_shadow = true;
    s->exc_pending = s->exc_has_error = true;
    s->exc_vector = 14;
    s->exc_error = 3;
    s->irq_injecting = true;
    s->irq_vector = 0x44;
    s->sipi_pending = true;
    s->sipi_vector = 9;
}

static int save(struct cpu_state *s, uint8_t **buf, size_t *len)
{
    struct state_io io;

    state_save_init(&io);
    cpu_state_visit(s, &io);
    return state_take(&io, buf, len, NULL);
}

static int load(struct cpu_state *s, const uint8_t *buf, size_t len)
{
    struct state_io io;

    state_load_init(&io, buf, len);
    cpu_state_visit(s, &io);
    return state_done(&io, NULL);
}

static void everything_survives_a_round_trip(void **state)
{
    struct cpu_state a, b = {0};
    uint8_t *buf;
    size_t len;
    char text[100];

    fill(&a);
    memset(&b, 0, sizeof(b));
    assert_int_equal(save(&a, &buf, &len), 0);
    assert_int_equal(load(&b, buf, len), 0);
    assert_null(cpu_state_diff(&a, &b, false, text, sizeof(text)));
    free(buf);
}

static void every_truncation_is_refused(void **state)
{
    struct cpu_state a, b = {0};
    uint8_t *buf;
    size_t len;

    fill(&a);
    assert_int_equal(save(&a, &buf, &len), 0);
    for (size_t n = 0; n < len; n++)
        assert_true(load(&b, buf, n) < 0);
    free(buf);
}

/* What a hostile file could hold. */
static void impossible_states_are_refused(void **state)
{
    for (unsigned i = 0; i < 22; i++) {
        struct cpu_state a, b = {0};
        uint8_t *buf;
        size_t len;

        fill(&a);
        switch (i) {
        case 0:
            a.cr0 &= ~(uint64_t)CR0_PE;
            break;
        case 1:
            a.cr0 |= 1ull << 40;
            break;
        case 2:
            a.cr4 &= ~(uint64_t)CR4_PAE;
            break;
        case 3:
            a.cr4 |= 1ull << 30;
            break;
        case 4:
            a.efer &= ~(uint64_t)EFER_LMA;
            break;
        case 5:
            a.efer |= 2;
            break;
        case 6:
            a.rflags |= FL_VM;
            break;
        case 7:
            a.rflags &= ~(uint64_t)FL_FIXED;
            break;
        case 8:
            a.rip = 0x800000000000;
            break;
        case 9:
            a.seg[SEG_CS].attr |= SEG_DB;
            break;
        case 10:
            a.seg[SEG_GS].base = 1ull << 63;
            break;
        case 11:
            a.seg[SEG_DS].attr = 1u << 20;
            break;
        case 12:
            a.lstar = 1ull << 60;
            break;
        case 13:
            a.pat = 2;
            break;
        case 14:
            a.apic_base = 1 << 10;
            break;
        case 15:
            a.xcr0 = XCR0_X87 | XCR0_AVX;
            break;
        case 16:
            a.xcr0 = 0xff;
            break;
        case 17:
            a.xsave[XSAVE_HDR] = 8;
            break;
        case 18:
            a.xsave[XSAVE_HDR + 8] = 1;
            break;
        case 19:
            a.xsave[27] = 1;
            break;
        case 20:
            a.mp = (enum mp_state)7;
            break;
        case 21:
            a.exc_vector = 40;
            break;
        }
        assert_int_equal(save(&a, &buf, &len), 0);
        assert_true(load(&b, buf, len) < 0);
        free(buf);
    }
}

static void a_difference_is_named(void **state)
{
    struct cpu_state a, b = {0};
    char text[100];

    fill(&a);
    b = a;
    assert_null(cpu_state_diff(&a, &b, false, text, sizeof(text)));
    b.gpr[RBX]++;
    assert_string_equal(cpu_state_diff(&a, &b, false, text, sizeof(text)),
                        "gpr[3]: 0x1003 / 0x1004");
    b = a;
    b.tsc_off++;
    b.lapic[57]++;
    assert_non_null(cpu_state_diff(&a, &b, false, text, sizeof(text)));
    assert_null(cpu_state_diff(&a, &b, true, text, sizeof(text)));
    b.nmi_masked = false;
    assert_string_equal(cpu_state_diff(&a, &b, true, text, sizeof(text)), "nmi_masked: 0x1 / 0");
}

static void reset_values_are_those_of_the_manual(void **state)
{
    struct cpu_state s;

    cpu_state_reset(&s, 0, false);
    assert_int_equal(s.rip, 0xfff0);
    assert_int_equal(s.seg[SEG_CS].base, 0xffff0000);
    assert_int_equal(s.cr0, 0x60000010);
    assert_int_equal(s.dr[6], 0xffff0ff0);
    assert_int_equal(s.mp, MP_RUNNING);
    assert_true(s.apic_base & 1 << 8);
    cpu_state_reset(&s, 2, false);
    assert_int_equal(s.mp, MP_WAIT_SIPI);
    assert_int_equal(s.lapic[2], 2u << 24);
    assert_false(s.apic_base & 1 << 8);
    s.cr0 = CR0_ET | CR0_PE;
    s.xsave[200] = 7;
    s.tsc_off = 9;
    s.mtrr_base[1] = 11;
    s.gpr[RAX] = 1;
    s.efer = EFER_LME;
    cpu_state_reset(&s, 2, true);    /* INIT */
    assert_int_equal(s.cr0, CR0_ET); /* CD and NW as they were */
    assert_int_equal(s.xsave[200], 7);
    assert_int_equal(s.tsc_off, 9);
    assert_int_equal(s.mtrr_base[1], 11);
    assert_int_equal(s.gpr[RAX] | s.efer, 0);
    assert_int_equal(s.mp, MP_WAIT_SIPI);
}

int main(void)
{
    const struct CMUnitTest t[] = {
        cmocka_unit_test(everything_survives_a_round_trip),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(impossible_states_are_refused),
        cmocka_unit_test(a_difference_is_named),
        cmocka_unit_test(reset_values_are_those_of_the_manual),
    };

    return cmocka_run_group_tests(t, NULL, NULL);
}
