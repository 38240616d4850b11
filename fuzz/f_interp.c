/* The guest is the fuzzer: the input is its code, data, page tables and descriptor tables. Whatever
 * it does, the host side must stay whole. Layout of an input: 1 byte mode, 16 bytes that seed
 * registers, the rest goes to RAM. */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "cpu/interp/interp.h"

enum {
    RAM = 1 << 20,
    LOAD_AT = 0x1000, /* where the input goes */
    TABLES = 0x80000, /* a sane set of page tables, used unless the mode byte says otherwise */
    KICKS_MAX = 2,    /* milliseconds of guest time */
    EXITS_MAX = 64,
};

static struct vcpu *the_vcpu;

static void on_alarm(int sig)
{
    soft_kick(the_vcpu);
}

static struct soft_vm *machine(void)
{
    static struct clock clock;
    static struct timerq timers;
    static struct cpu_model model;
    static struct soft_vm *vm;
    struct err e;

    if (vm)
        return vm;
    clock_init(&clock, clock_host(), 0);
    timerq_init(&timers, NULL, NULL);
    struct mem *mem = mem_new(RAM, &e);
    if (!mem || cpu_model_init(&model, 1, clock.tsc_khz, &e) < 0)
        abort();
    struct cpu_vm_conf conf = {.mem = mem, .clock = &clock, .timers = &timers, .model = &model};
    if (soft_vm_new(&conf, &interp_ops, &vm, &e) < 0 || soft_vcpu_new(vm, 0, &the_vcpu, &e) < 0)
        abort();
    struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    return vm;
}

static void put64(struct mem *m, gpa_t at, uint64_t val)
{
    if (mem_write(m, at, &val, 8) < 0)
        abort();
}

/* Bits of the mode byte: 0-1 real, protected 16, protected 32, long; 2 CPL 3; 3 paging by the
 * input's own tables. */
static void state_of(struct cpu_state *s, struct mem *mem, uint8_t mode, const uint8_t seed[16])
{
    uint32_t dpl = mode & 4 && mode & 3 ? 3u << SEG_DPL_SHIFT : 0;
    static const uint32_t code[4] = {0, 0, SEG_DB | SEG_G, SEG_L | SEG_G};

    cpu_state_reset(s, 0, false);
    for (unsigned n = 0; n < SEGS; n++)
        s->seg[n] = (struct x86_seg){
            .limit = (mode & 3) < 2 ? 0xffff : UINT32_MAX,
            .attr = SEG_P | SEG_S | dpl |
                    (n == SEG_CS ? 0xb | code[mode & 3] : 3 | ((mode & 3) < 2 ? 0 : SEG_DB)),
            .sel = (uint16_t)(mode & 3 ? (n == SEG_CS ? 8 : 16) | (dpl ? 3 : 0) : 0)};
    s->cr0 = CR0_ET | CR0_NE | (mode & 3 ? CR0_PE : 0);
    s->cr4 = CR4_OSFXSR | CR4_OSXSAVE | CR4_PAE;
    s->xcr0 = XCR0_ALL;
    s->gdtr = (struct x86_table){LOAD_AT + 0x800, 0xff};
    s->idtr = (struct x86_table){LOAD_AT + 0x900, 0xfff};
    if ((mode & 3) == 3) {
        s->cr0 |= CR0_PG | CR0_WP;
        s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
        s->cr3 = mode & 8 ? LOAD_AT + 0x1000 : TABLES;
    }
    put64(mem, TABLES, (TABLES + 0x1000) | 7);
    put64(mem, TABLES + 0x1000, 0x87 | (TABLES + 0x2000));
    put64(mem, TABLES + 0x1000, 0x87);
    s->rip = LOAD_AT;
    for (unsigned n = 0; n < GPRS; n++)
        s->gpr[n] = n & 1 ? (uint64_t)(int8_t)seed[n] : LOAD_AT + seed[n] * 16u;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static const uint8_t zero[0x4000];
    struct soft_vm *vm = machine();
    struct vcpu *v = the_vcpu;
    struct cpu_state s;
    struct cpu_exit x = {0};
    struct err e;

    if (n < 18 || n > 0x4000)
        return 0;
    if (mem_write(vm->c.mem, LOAD_AT, zero, sizeof(zero)) < 0 ||
        mem_write(vm->c.mem, LOAD_AT, p + 17, n - 17) < 0)
        abort();
    state_of(&s, vm->c.mem, p[0], p + 1);
    if (soft_set(v, &s, &e) < 0)
        abort();
    struct itimerval ms = {{0, 1000}, {0, 1000}}, off = {0};
    setitimer(ITIMER_REAL, &ms, NULL);
    for (unsigned kicks = 0, exits = 0; kicks < KICKS_MAX && exits < EXITS_MAX; exits++) {
        uint32_t data = 0x01020304;

        if (soft_run(v, &x, &e) < 0 || x.kind == CPU_EXIT_SHUTDOWN || x.kind == CPU_EXIT_STUCK)
            break;
        kicks += x.kind == CPU_EXIT_KICKED;
        if (x.kind == CPU_EXIT_MMIO && !x.u.mmio.write)
            x.u.mmio.val = data;
        if (x.kind == CPU_EXIT_PIO && !x.u.pio.write)
            memcpy(x.u.pio.data, &data, x.u.pio.len);
    }
    setitimer(ITIMER_REAL, &off, NULL);
    return 0;
}
