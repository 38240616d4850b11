/* The kvm engine with guests of a few bytes in real mode. Where /dev/kvm cannot be used each test
 * says why and is skipped. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cpu/cpu.h"
#include "test/unit/t.h"

enum { RAM = 0x20000, CODE = 0x1000, HANDLER = 0x1800, STACK = 0x8000, NO_RAM = 0x30000 };
enum {
    R_ID = 2,
    R_TPR = 8,
    R_LDR = 13,
    R_SVR = 15,
    R_ISR = 16,
    R_TMR = 24,
    R_LVT_TIMER = 0x32,
    R_LVT0 = 0x35
};

struct world {
    struct mem *mem;
    struct clock clock;
    struct timerq timers;
    struct cpu_model model;
    struct cpu_vm *vm;
    struct vcpu *v;
    struct cpu_exit x;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof(*w));
    struct cpu_vm_conf c = {.clock = &w->clock, .timers = &w->timers, .model = &w->model};
    struct err e = {0};
    bool hw;

    *state = w;
    if (cpu_kvm.probe(&hw, &e) < 0) {
        print_message("%s\n", e.msg);
        return 0;
    }
    clock_init(&w->clock, clock_host(), 0);
    timerq_init(&w->timers, NULL, NULL);
    c.mem = w->mem = mem_new(RAM, &e);
    if (!w->mem || cpu_model_init(&w->model, 2, w->clock.tsc_khz, &e) < 0 ||
        cpu_kvm.vm_new(&c, &w->vm, &e) < 0 || cpu_kvm.vcpu_new(w->vm, 0, &w->v, &e) < 0) {
        print_message("%s\n", e.msg);
        return -1;
    }
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    if (w->vm) {
        cpu_kvm.vcpu_free(w->v);
        cpu_kvm.vm_free(w->vm);
        mem_free(w->mem);
        timerq_done(&w->timers);
    }
    free(w);
    return 0;
}

static struct world *world_of(void **state)
{
    struct world *w = *state;

    if (!w->vm)
        skip();
    return w;
}

static void put(struct world *w, gpa_t gpa, const void *bytes, size_t len)
{
    assert_int_equal(mem_write(w->mem, gpa, bytes, len), 0);
}

static struct cpu_state get(struct world *w)
{
    struct cpu_state s;
    struct err e = {0};

    if (cpu_kvm.get(w->v, &s, &e) < 0)
        fail_msg("%s", e.msg);
    return s;
}

static void set(struct world *w, const struct cpu_state *s)
{
    struct err e = {0};

    if (cpu_kvm.set(w->v, s, &e) < 0)
        fail_msg("%s", e.msg);
}

/* Real mode, flat within 64 KiB, APIC on (x2APIC), interrupt vector n at HANDLER. */
static struct cpu_state entry(struct world *w)
{
    struct cpu_state s = get(w);

    s.seg[SEG_CS].base = 0;
    s.seg[SEG_CS].sel = 0;
    s.rip = CODE;
    s.gpr[RSP] = STACK;
    s.apic_base |= 0xc00;
    s.lapic[R_ID] = 0;
    s.lapic[R_SVR] = 0x1ff;
    return s;
}

#define GUEST(w, ...)                                 \
    do {                                              \
        static const uint8_t code_[] = {__VA_ARGS__}; \
        put(w, CODE, code_, sizeof(code_));           \
    } while (0)

#define ON_VECTOR(w, n, ...)                          \
    do {                                              \
        static const uint8_t code_[] = {__VA_ARGS__}; \
        static const uint16_t ivt_[] = {HANDLER, 0};  \
        put(w, HANDLER, code_, sizeof(code_));        \
        put(w, 4 * (n), ivt_, sizeof(ivt_));          \
    } while (0)

static void run(struct world *w, enum cpu_exit_kind want)
{
    struct err e = {0};

    if (cpu_kvm.run(w->v, &w->x, &e) < 0)
        fail_msg("%s", e.msg);
    if (w->x.kind == CPU_EXIT_STUCK && want != CPU_EXIT_STUCK)
        fail_msg("%s", w->x.u.stuck.why);
    assert_int_equal(w->x.kind, want);
}

static void start(struct world *w)
{
    struct cpu_state s = entry(w);

    set(w, &s);
}

static void expect_out(struct world *w, uint16_t port, unsigned len, uint32_t val)
{
    uint32_t got = 0;

    run(w, CPU_EXIT_PIO);
    assert_true(w->x.u.pio.write);
    assert_int_equal(w->x.u.pio.port, port);
    assert_int_equal(w->x.u.pio.len, len);
    assert_int_equal(w->x.u.pio.count, 1);
    memcpy(&got, w->x.u.pio.data, len);
    assert_int_equal(got, val);
}

/* Runs fn after some ms, on a thread of its own. */
struct later {
    pthread_t t;
    unsigned ms;
    void (*fn)(struct world *w);
    struct world *w;
};

static void *later_main(void *p)
{
    struct later *l = p;

    usleep(l->ms * 1000);
    l->fn(l->w);
    return NULL;
}

static void later(struct later *l, struct world *w, void (*fn)(struct world *w))
{
    *l = (struct later){.ms = 30, .fn = fn, .w = w};
    assert_int_equal(pthread_create(&l->t, NULL, later_main, l), 0);
}

/* --- ports and MMIO ------------------------------------------------------ */

static void ports_are_written_and_read(void **state)
{
    struct world *w = world_of(state);
    uint16_t in = 0xbeef;

    GUEST(w, 0xba, 0x01, 0x05, /* mov dx, 0x501 */
          0xb0, 0x42, 0xee,    /* mov al, 0x42; out dx, al */
          0xed, 0xef);         /* in ax, dx; out dx, ax */
    start(w);
    expect_out(w, 0x501, 1, 0x42);
    run(w, CPU_EXIT_PIO);
    assert_false(w->x.u.pio.write);
    assert_int_equal(w->x.u.pio.len, 2);
    memcpy(w->x.u.pio.data, &in, 2);
    expect_out(w, 0x501, 2, 0xbeef);
}

static void a_string_of_outs_is_handed_over_by_count(void **state)
{
    struct world *w = world_of(state);
    char got[16] = "";
    size_t n = 0;

    GUEST(w, 0xba, 0x01, 0x05, 0xbe, 0x00, 0x20, /* mov dx, 0x501; mov si, 0x2000 */
          0xb9, 0x05, 0x00, 0xf3, 0x6e, 0xf4);   /* mov cx, 5; rep outsb; hlt */
    put(w, 0x2000, "kiln!", 5);
    start(w);
    while (n < 5) {
        run(w, CPU_EXIT_PIO);
        assert_int_equal(w->x.u.pio.len, 1);
        assert_true(n + w->x.u.pio.count <= 5);
        memcpy(got + n, w->x.u.pio.data, w->x.u.pio.count);
        n += w->x.u.pio.count;
    }
    assert_string_equal(got, "kiln!");
}

static void mmio_is_written_and_read(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xb8, 0x00, 0x30, 0x8e, 0xd8,    /* mov ax, 0x3000; mov ds, ax */
          0xb8, 0x34, 0x12, 0xa3, 0x10, 0x00, /* mov ax, 0x1234; mov [0x10], ax */
          0x66, 0xa1, 0x14, 0x00,             /* mov eax, [0x14] */
          0xba, 0x01, 0x05, 0x66, 0xef);      /* mov dx, 0x501; out dx, eax */
    start(w);
    run(w, CPU_EXIT_MMIO);
    assert_true(w->x.u.mmio.write);
    assert_true(w->x.u.mmio.gpa == NO_RAM + 0x10);
    assert_int_equal(w->x.u.mmio.len, 2);
    assert_int_equal(w->x.u.mmio.val, 0x1234);
    run(w, CPU_EXIT_MMIO);
    assert_false(w->x.u.mmio.write);
    assert_true(w->x.u.mmio.gpa == NO_RAM + 0x14);
    assert_int_equal(w->x.u.mmio.len, 4);
    w->x.u.mmio.val = 0xcafe1234;
    expect_out(w, 0x501, 4, 0xcafe1234);
}

static void mmio_across_a_page_comes_in_pieces_of_legal_length(void **state)
{
    struct world *w = world_of(state);
    uint8_t got[8] = {0};
    unsigned n = 0;

    GUEST(w, 0xb8, 0x00, 0x30, 0x8e, 0xd8,                /* mov ax, 0x3000; mov ds, ax */
          0x66, 0xb8, 0x78, 0x56, 0x34, 0x12,             /* mov eax, 0x12345678 */
          0x66, 0xa3, 0xff, 0x0f, 0x66, 0xa1, 0xfd, 0x0f, /* mov [0xfff], eax; mov eax, [0xffd] */
          0xba, 0x01, 0x05, 0x66, 0xef);                  /* mov dx, 0x501; out dx, eax */
    start(w);
    while (n < 4) {
        run(w, CPU_EXIT_MMIO);
        assert_true(w->x.u.mmio.write);
        assert_true(w->x.u.mmio.gpa == NO_RAM + 0xfff + n);
        assert_true(w->x.u.mmio.len == 1 || w->x.u.mmio.len == 2);
        memcpy(got + n, &w->x.u.mmio.val, w->x.u.mmio.len);
        n += w->x.u.mmio.len;
    }
    assert_memory_equal(got, "\x78\x56\x34\x12", 4);
    for (n = 0; n < 4; n += w->x.u.mmio.len) {
        run(w, CPU_EXIT_MMIO);
        assert_false(w->x.u.mmio.write);
        assert_true(w->x.u.mmio.gpa == NO_RAM + 0xffd + n);
        w->x.u.mmio.val = 0xd4c3b2a1u >> (8 * n);
    }
    expect_out(w, 0x501, 4, 0xd4c3b2a1);
}

static void a_triple_fault_is_a_shutdown(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0x0f, 0x0b); /* ud2 */
    struct cpu_state s = entry(w);
    s.cr0 |= CR0_PE;
    s.seg[SEG_CS].attr |= SEG_DB;
    s.idtr = (struct x86_table){0};
    set(w, &s);
    run(w, CPU_EXIT_SHUTDOWN);
}

/* --- kicks --------------------------------------------------------------- */

static void kick_it(struct world *w)
{
    cpu_kvm.kick(w->v);
}

static void a_kick_ends_a_run_that_would_never_end(void **state)
{
    struct world *w = world_of(state);
    struct later l;

    GUEST(w, 0xeb, 0xfe); /* jmp $ */
    start(w);
    later(&l, w, kick_it);
    run(w, CPU_EXIT_KICKED);
    pthread_join(l.t, NULL);
    GUEST(w, 0xfa, 0xf4); /* cli; hlt */
    start(w);
    later(&l, w, kick_it);
    run(w, CPU_EXIT_KICKED);
    pthread_join(l.t, NULL);
}

static void a_kick_before_the_run_counts_once_and_access_is_finished_first(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xe5, 0x40, 0xe7, 0x41); /* in ax, 0x40; out 0x41, ax */
    start(w);
    kick_it(w);
    kick_it(w);
    run(w, CPU_EXIT_KICKED);
    run(w, CPU_EXIT_PIO);
    memcpy(w->x.u.pio.data, &(uint16_t){0x5678}, 2);
    kick_it(w);
    run(w, CPU_EXIT_KICKED);
    assert_int_equal(get(w).gpr[RAX] & 0xffff, 0x5678);
    expect_out(w, 0x41, 2, 0x5678);
}

/* --- interrupts ---------------------------------------------------------- */

static void send_msi(struct world *w)
{
    cpu_kvm.vm_msi(w->vm, (struct msi){.addr = 0xfee00000, .data = 0x40});
}

static void a_message_wakes_a_halted_cpu(void **state)
{
    struct world *w = world_of(state);
    struct later l;

    GUEST(w, 0xfb, 0xf4, 0xe6, 0x81);                 /* sti; hlt; out 0x81, al */
    ON_VECTOR(w, 0x40, 0xb0, 0x07, 0xe6, 0x80, 0xcf); /* mov al, 7; out 0x80, al; iret */
    start(w);
    later(&l, w, send_msi);
    expect_out(w, 0x80, 1, 7);
    pthread_join(l.t, NULL);
    expect_out(w, 0x81, 1, 7);
}

/* A KVM that emulates tells of it only when it next enters the guest for real. */
static void expect_eoi(struct world *w, uint8_t vector)
{
    struct err e = {0};

    assert_int_equal(cpu_kvm.run(w->v, &w->x, &e), 0);
    if (w->x.kind == CPU_EXIT_PIO)
        assert_int_equal(cpu_kvm.run(w->v, &w->x, &e), 0);
    assert_int_equal(w->x.kind, CPU_EXIT_EOI);
    assert_int_equal(w->x.u.eoi.vector, vector);
}

static void eoi_of_a_level_triggered_message_is_reported(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xfb, 0xf4);                                              /* sti; hlt */
    ON_VECTOR(w, 0x51, 0xe6, 0x80, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2, /* out; eax = edx = 0 */
              0x66, 0xb9, 0x0b, 0x08, 0, 0, 0x0f, 0x30, /* mov ecx, 0x80b; wrmsr: EOI */
              0xe6, 0x81, 0xcf);                        /* out 0x81, al; iret */
    start(w);
    cpu_kvm.vm_msi(w->vm, (struct msi){.addr = 0xfee00000, .data = 0x51 | 1 << 14 | 1 << 15});
    run(w, CPU_EXIT_PIO);
    expect_eoi(w, 0x51);
}

static void eoi_is_reported_too_when_the_message_came_before_the_state_was_loaded(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0x66, 0x31, 0xc0, 0x66, 0x31, 0xd2,    /* eax = edx = 0 */
          0x66, 0xb9, 0x0b, 0x08, 0, 0, 0x0f, 0x30, /* mov ecx, 0x80b; wrmsr: EOI */
          0xe6, 0x81, 0xeb, 0xfe);                  /* out 0x81, al; jmp $ */
    struct cpu_state s = entry(w);
    s.lapic[R_ISR + 0x62 / 32] = s.lapic[R_TMR + 0x62 / 32] = 1u << (0x62 % 32);
    set(w, &s);
    expect_eoi(w, 0x62);
}

static unsigned acks;
static int ack(void *ctx)
{
    struct world *w = ctx;

    acks++;
    cpu_kvm.vm_extint(w->vm, false);
    return 0x48;
}

static void raise_extint(struct world *w)
{
    cpu_kvm.vm_extint(w->vm, true);
}

static struct cpu_state entry_with_lint0(struct world *w)
{
    struct cpu_state s = entry(w);

    s.lapic[R_LVT0] = 0x700; /* ExtINT, not masked */
    acks = 0;
    cpu_kvm.vm_set_pic_ack(w->vm, ack, w);
    return s;
}

static void the_8259_is_asked_for_its_vector_when_the_cpu_takes_it(void **state)
{
    struct world *w = world_of(state);
    struct later l;

    GUEST(w, 0xe6, 0x10, 0xfb, 0xf4, 0xeb, 0xfd);     /* out 0x10, al; sti; 1: hlt; jmp 1b */
    ON_VECTOR(w, 0x48, 0xb0, 0x09, 0xe6, 0x80, 0xcf); /* mov al, 9; out 0x80, al; iret */
    struct cpu_state s = entry_with_lint0(w);
    set(w, &s);
    raise_extint(w);
    run(w, CPU_EXIT_PIO); /* IF is clear: not yet */
    assert_int_equal(acks, 0);
    expect_out(w, 0x80, 1, 9);
    assert_int_equal(acks, 1);
    later(&l, w, raise_extint); /* while it halts */
    expect_out(w, 0x80, 1, 9);
    pthread_join(l.t, NULL);
    assert_int_equal(acks, 2);
}

static void the_8259_wakes_a_cpu_whose_state_was_loaded_as_halted(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xe6, 0x81); /* out 0x81, al */
    ON_VECTOR(w, 0x48, 0xb0, 0x0a, 0xe6, 0x80, 0xcf);
    struct cpu_state s = entry_with_lint0(w);
    s.rflags |= FL_IF;
    s.mp = MP_HALTED;
    raise_extint(w);
    set(w, &s);
    expect_out(w, 0x80, 1, 10);
}

static void an_interrupt_handed_over_is_not_lost_by_a_stop(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xeb, 0xfe);
    ON_VECTOR(w, 0x48, 0xb0, 0x0b, 0xe6, 0x80, 0xcf);
    struct cpu_state s = entry_with_lint0(w);
    s.rflags |= FL_IF;
    set(w, &s);
    raise_extint(w);
    kick_it(w); /* the vector is fetched, then the entry is refused */
    run(w, CPU_EXIT_KICKED);
    s = get(w);
    assert_int_equal(acks, s.irq_injecting);
    set(w, &s);
    expect_out(w, 0x80, 1, 11);
    assert_int_equal(acks, 1);
}

/* --- eventfds ------------------------------------------------------------ */

static void a_doorbell_signals_its_eventfd_and_makes_no_exit(void **state)
{
    struct world *w = world_of(state);
    CLEANUP(fd) int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t n = 0;

    GUEST(w, 0xb8, 0x00, 0x30, 0x8e, 0xd8,                /* mov ax, 0x3000; mov ds, ax */
          0x66, 0xb8, 3, 0, 0, 0, 0x66, 0xa3, 0x50, 0x00, /* mov eax, 3; mov [0x50], eax */
          0x66, 0x40, 0x66, 0xa3, 0x50, 0x00,             /* inc eax; mov [0x50], eax */
          0xe6, 0x80);                                    /* out 0x80, al */
    start(w);
    assert_int_equal(cpu_kvm.vm_ioeventfd(w->vm, NO_RAM + 0x50, 4, true, 3, fd, true), 0);
    run(w, CPU_EXIT_MMIO); /* 4: not the value asked for */
    assert_int_equal(w->x.u.mmio.val, 4);
    assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
    assert_int_equal(n, 1);
    expect_out(w, 0x80, 1, 4);
    assert_int_equal(cpu_kvm.vm_ioeventfd(w->vm, NO_RAM + 0x50, 4, true, 3, fd, false), 0);
    start(w);
    run(w, CPU_EXIT_MMIO);
    assert_int_equal(w->x.u.mmio.val, 3);
}

static void an_irqfd_sends_its_message(void **state)
{
    struct world *w = world_of(state);
    CLEANUP(fd) int fd = eventfd(0, EFD_NONBLOCK);
    struct msi a = {.addr = 0xfee00000, .data = 0x40}, b = {.addr = 0xfee00000, .data = 0x41};

    GUEST(w, 0xfb, 0xf4, 0xeb, 0xfd);                 /* sti; 1: hlt; jmp 1b */
    ON_VECTOR(w, 0x41, 0xb0, 0x41, 0xe6, 0x80, 0xcf); /* mov al, 0x41; out 0x80, al; iret */
    start(w);
    assert_int_equal(cpu_kvm.vm_irqfd(w->vm, 5, &a, fd), 0);
    assert_int_equal(cpu_kvm.vm_irqfd(w->vm, 5, &b, fd), 0); /* the route moved */
    assert_int_equal(eventfd_write(fd, 1), 0);
    expect_out(w, 0x80, 1, 0x41);
    assert_int_equal(cpu_kvm.vm_irqfd(w->vm, 5, NULL, fd), 0);
    assert_int_equal(cpu_kvm.vm_irqfd(w->vm, 5, NULL, fd), 0);
    assert_int_equal(cpu_kvm.vm_irqfd(w->vm, 100000, &a, fd), -ENOTSUP);
}

/* --- memory -------------------------------------------------------------- */

static void pages_the_guest_wrote_are_in_the_dirty_log(void **state)
{
    struct world *w = world_of(state);
    uint64_t bits[1] = {0};
    struct err e = {0};

    GUEST(w, 0xa2, 0x34, 0x50, 0xe6, 0x80); /* mov [0x5034], al; out 0x80, al */
    start(w);
    assert_int_equal(mem_dirty_start(w->mem, &e), 0);
    cpu_kvm.vm_mem_changed(w->vm, true);
    run(w, CPU_EXIT_PIO);
    assert_int_equal(cpu_kvm.vm_dirty_sync(w->vm, &e), 0);
    (void)mem_dirty_fetch(w->mem, bits);
    assert_true(bits[0] >> 5 & 1);
    assert_false(bits[0] >> 6 & 1);
    mem_dirty_stop(w->mem);
    cpu_kvm.vm_mem_changed(w->vm, false);
}

/* --- state --------------------------------------------------------------- */

static void state_comes_back_as_it_was_set(void **state)
{
    struct world *w = world_of(state);
    struct cpu_state s = entry(w), t;
    char buf[200];

    for (unsigned i = 0; i < GPRS; i++)
        s.gpr[i] = 0x0102030405060708ull * (i + 1);
    s.rflags = FL_FIXED | FL_CF | FL_DF | FL_IF;
    s.cr2 = 0x123456789abcull;
    s.cr3 = 0x7000;
    s.star = 0x0023001000000000ull;
    s.lstar = 0xffffffff81000000ull;
    s.cstar = 0xffffffff81000100ull;
    s.sfmask = 0x47700;
    s.kernel_gs_base = 0xffff888000000000ull;
    s.sysenter_cs = 0x10;
    s.sysenter_eip = 0xffffffff81000200ull;
    s.dr[0] = 0x1111;
    s.dr[3] = 0x3333;
    s.seg[SEG_FS].base = 0x12340;
    s.seg[SEG_FS].sel = 0x1234;
    s.gdtr = (struct x86_table){.base = 0x5000, .limit = 0x7f};
    s.idtr = (struct x86_table){.base = 0x6000, .limit = 0xfff};
    memset(s.xsave + XSAVE_XMM, 0x5a, 256);
    s.xsave[XSAVE_HDR] = XCR0_X87 | XCR0_SSE;
    s.lapic[R_LDR] = 1; /* x2APIC: follows from the ID */
    s.lapic[R_TPR] = 0x20;
    s.lapic[R_ISR + 2] = 1u << 5;
    s.sti_shadow = true;
    s.nmi_pending = s.nmi_masked = true;
    set(w, &s);
    t = get(w);
    t.lapic[0xa] = s.lapic[0xa]; /* PPR follows from the others */
    const char *diff = cpu_state_diff(&s, &t, true, buf, sizeof(buf));
    if (diff)
        fail_msg("%s", diff);
}

static void events_in_delivery_are_part_of_the_state(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xeb, 0xfe);
    ON_VECTOR(w, 0x66, 0xb0, 0x66, 0xe6, 0x80, 0xcf);
    struct cpu_state s = entry(w), t;
    s.rflags |= FL_IF;
    s.irq_injecting = true;
    s.irq_vector = 0x66;
    set(w, &s);
    t = get(w);
    assert_true(t.irq_injecting);
    assert_int_equal(t.irq_vector, 0x66);
    expect_out(w, 0x80, 1, 0x66);
    t = entry(w);
    t.exc_pending = true;
    t.exc_vector = VEC_GP;
    ON_VECTOR(w, VEC_GP, 0xb0, 0x0d, 0xe6, 0x80, 0xcf);
    set(w, &t);
    s = get(w);
    assert_true(s.exc_pending);
    assert_int_equal(s.exc_vector, VEC_GP);
    expect_out(w, 0x80, 1, 0x0d);
}

static void another_cpu_waits_for_sipi_and_says_so(void **state)
{
    struct world *w = world_of(state);
    struct cpu_state s;
    struct vcpu *v = NULL;
    struct err e = {0};

    assert_int_equal(cpu_kvm.vcpu_new(w->vm, 1, &v, &e), 0);
    assert_int_equal(cpu_kvm.get(v, &s, &e), 0);
    assert_int_equal(s.mp, MP_WAIT_SIPI);
    assert_int_equal(cpu_kvm.set(v, &s, &e), 0);
    cpu_kvm.kick(v);
    assert_int_equal(cpu_kvm.run(v, &w->x, &e), 0);
    assert_int_equal(w->x.kind, CPU_EXIT_KICKED);
    /* INIT, then SIPI with vector 2, as messages: it starts at 0x2000. */
    put(w, 0x2000, (uint8_t[]){0xe6, 0x90}, 2); /* out 0x90, al */
    cpu_kvm.vm_msi(w->vm, (struct msi){.addr = 0xfee01000, .data = 0x4500});
    cpu_kvm.vm_msi(w->vm, (struct msi){.addr = 0xfee01000, .data = 0x4602});
    assert_int_equal(cpu_kvm.run(v, &w->x, &e), 0);
    assert_int_equal(w->x.kind, CPU_EXIT_PIO);
    assert_int_equal(w->x.u.pio.port, 0x90);
    cpu_kvm.vcpu_free(v);
}

static void nonsense_is_refused_with_a_sentence(void **state)
{
    struct world *w = world_of(state);
    struct cpu_state s = entry(w);
    struct err e = {0};

    s.cr0 = CR0_PG; /* without PE */
    assert_true(cpu_kvm.set(w->v, &s, &e) < 0);
    assert_non_null(strstr(e.msg, "cr0 0x80000000"));
}

/* The guest's time stands still with the machine's clock; an armed deadline stays in its future. */
static void a_deadline_survives_a_stop_of_the_clock(void **state)
{
    struct world *w = world_of(state);
    struct cpu_state s = entry(w);

    GUEST(w, 0xeb, 0xfe);
    s.lapic[R_LVT_TIMER] = 0x40040; /* TSC deadline, vector 0x40 */
    set(w, &s);
    clock_stop(&w->clock);
    s = get(w);
    s.tsc_deadline = clock_tsc(&w->clock) + s.tsc_off + w->clock.tsc_khz * 60000; /* a minute */
    set(w, &s);
    clock_start(&w->clock);
    kick_it(w);
    run(w, CPU_EXIT_KICKED);
    assert_true(get(w).tsc_deadline == s.tsc_deadline);
}

/* Loaded state is hostile: whatever it says, set() refuses it or run() comes back. */
static void any_state_is_refused_or_runs(void **state)
{
    struct world *w = world_of(state);
    struct cpu_state s, good = entry(w);
    struct err e = {0};
    unsigned taken = 0, seed = 1;

    for (unsigned i = 0; i < 400; i++) {
        struct later l;

        s = good;
        for (unsigned n = 0; n <= i % 4; n++) /* a few bytes, of anything but the booleans */
            ((uint8_t *)&s)[(unsigned)rand_r(&seed) % offsetof(struct cpu_state, mp)] =
                (uint8_t)rand_r(&seed);
        if (cpu_kvm.set(w->v, &s, &e) < 0)
            continue;
        taken++;
        l = (struct later){.ms = 1, .fn = kick_it, .w = w};
        assert_int_equal(pthread_create(&l.t, NULL, later_main, &l), 0);
        int r;
        do
            r = cpu_kvm.run(w->v, &w->x, &e);
        while (r == 0 && w->x.kind != CPU_EXIT_KICKED && w->x.kind != CPU_EXIT_STUCK &&
               w->x.kind != CPU_EXIT_SHUTDOWN);
        pthread_join(l.t, NULL);
        if (r < 0 || w->x.kind != CPU_EXIT_KICKED) {
            set(w, &good);
            run(w, CPU_EXIT_KICKED); /* the kick is still to be answered */
        }
        assert_int_equal(cpu_kvm.get(w->v, &s, &e), 0);
    }
    assert_true(taken > 100);
}

/* --- what KVM cannot emulate ---------------------------------------------- */

static uint64_t fallbacks(struct world *w)
{
    struct cpu_stats st;

    cpu_kvm.stats(w->v, &st);
    return st.fallbacks;
}

static void an_instruction_kvm_does_not_know_is_executed_all_the_same(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xb8, 0xff, 0x0f, 0xf3, 0x0f, 0xb8, 0xd8, /* mov ax, 0xfff; popcnt bx, ax */
          0x89, 0xd8, 0xe7, 0x80, 0xcc, 0xe7, 0x81);   /* mov ax, bx; out 0x80, ax; int3; out */
    ON_VECTOR(w, VEC_BP, 0xb8, 0x33, 0x33, 0xcf);      /* mov ax, 0x3333; iret */
    start(w);
    expect_out(w, 0x80, 2, 12);
    expect_out(w, 0x81, 2, 0x3333);
}

static void its_access_to_a_device_is_an_exit_like_any_other(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xb8, 0x00, 0x30, 0x8e, 0xd8,          /* mov ax, 0x3000; mov ds, ax */
          0xf3, 0x66, 0x0f, 0xb8, 0x06, 0x20, 0x00, /* popcnt eax, [0x20] */
          0xe7, 0x80);                              /* out 0x80, ax */
    start(w);
    run(w, CPU_EXIT_MMIO);
    assert_false(w->x.u.mmio.write);
    assert_true(w->x.u.mmio.gpa == NO_RAM + 0x20);
    assert_int_equal(w->x.u.mmio.len, 4);
    w->x.u.mmio.val = 0x80000001;
    kick_it(w); /* the instruction is finished before the kick is */
    run(w, CPU_EXIT_KICKED);
    assert_int_equal(get(w).gpr[RAX], 2);
    expect_out(w, 0x80, 2, 2);
    assert_int_equal(fallbacks(w), 1);
}

static void its_access_to_the_local_apic_reaches_the_kernels(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xf3, 0x66, 0x0f, 0xb8, 0x06, 0xf0, 0x00, /* popcnt eax, [0xf0]: SVR */
          0xe7, 0x80);                                 /* out 0x80, ax */
    struct cpu_state s = entry(w);
    s.apic_base &= ~0x400ull; /* xAPIC */
    s.seg[SEG_DS].base = 0xfee00000;
    set(w, &s);
    expect_out(w, 0x80, 2, 9); /* 0x1ff */
}

static void a_fault_of_it_is_delivered(void **state)
{
    struct world *w = world_of(state);

    GUEST(w, 0xf3, 0x66, 0x0f, 0xb8, 0x06, 0xfe, 0xff, 0xf4); /* popcnt eax, [0xfffe] */
    ON_VECTOR(w, VEC_GP, 0xe7, 0x80);                         /* out 0x80, ax */
    start(w);
    expect_out(w, 0x80, 2, 0);
    struct cpu_state s = get(w);
    uint16_t frame;
    assert_int_equal(mem_read(w->mem, (s.gpr[RSP] & 0xffff), &frame, 2), 0);
    assert_int_equal(frame, CODE);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(ports_are_written_and_read),
        T(a_string_of_outs_is_handed_over_by_count),
        T(mmio_is_written_and_read),
        T(mmio_across_a_page_comes_in_pieces_of_legal_length),
        T(a_triple_fault_is_a_shutdown),
        T(a_kick_ends_a_run_that_would_never_end),
        T(a_kick_before_the_run_counts_once_and_access_is_finished_first),
        T(a_message_wakes_a_halted_cpu),
        T(eoi_of_a_level_triggered_message_is_reported),
        T(eoi_is_reported_too_when_the_message_came_before_the_state_was_loaded),
        T(the_8259_is_asked_for_its_vector_when_the_cpu_takes_it),
        T(the_8259_wakes_a_cpu_whose_state_was_loaded_as_halted),
        T(an_interrupt_handed_over_is_not_lost_by_a_stop),
        T(a_doorbell_signals_its_eventfd_and_makes_no_exit),
        T(an_irqfd_sends_its_message),
        T(pages_the_guest_wrote_are_in_the_dirty_log),
        T(state_comes_back_as_it_was_set),
        T(events_in_delivery_are_part_of_the_state),
        T(another_cpu_waits_for_sipi_and_says_so),
        T(nonsense_is_refused_with_a_sentence),
        T(a_deadline_survives_a_stop_of_the_clock),
        T(any_state_is_refused_or_runs),
        T(an_instruction_kvm_does_not_know_is_executed_all_the_same),
        T(its_access_to_a_device_is_an_exit_like_any_other),
        T(its_access_to_the_local_apic_reaches_the_kernels),
        T(a_fault_of_it_is_delivered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
