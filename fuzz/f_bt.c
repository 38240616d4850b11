/* The guest is the fuzzer, and runs on bt and interp in lockstep: whatever its 64-bit code does,
 * both do the same, and the host side stays whole. Layout of an input: 1 byte mode, 16 bytes that
 * seed registers, the rest is RAM from LOAD_AT on: code, then data, descriptor tables and, if the
 * mode says so, page tables. Time stands still. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "hw/clock.h"
#include "hw/timer.h"

enum {
    RAM = 1 << 20,
    LOAD_AT = 0x1000,
    INPUT_MAX = 0x4000,
    TABLES = 0x80000, /* a sane set of page tables */
    KICKS_MAX = 2,    /* milliseconds */
    EXITS_MAX = 16,
};
enum {
    MODE_USER = 1,
    MODE_OWN_TABLES = 2,
    MODE_GUARDED = 4,
    MODE_NO_VECTORS = 8,
    MODE_UNMASKED = 16
};

struct world {
    struct clock clock;
    struct timerq timers;
    struct cpu_model model;
    struct mem *mem;
    timer_t alarm; /* for this thread: the fuzzer has others */
    struct vcpu *v;
};

static struct vcpu *volatile the_vcpu; /* for the alarm; NULL: none runs */

static void on_alarm(int sig)
{
    if (the_vcpu)
        cpu_lockstep.kick(the_vcpu);
}

static void on_difference(void *ctx, const char *text)
{
    fputs(text, stderr);
    abort();
}

static uint64_t no_time(void *ctx)
{
    return 1000000;
}

static struct world *world(void)
{
    static struct world w;
    struct err e;

    if (w.mem)
        return &w;
    clock_init(&w.clock, &(struct clock_source){no_time, no_time, no_time, NULL, 1000000}, 0);
    timerq_init(&w.timers, NULL, NULL);
    w.mem = mem_new(RAM, &e);
    if (!w.mem || cpu_model_init(&w.model, 1, 1000000, &e) < 0)
        abort();
    struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &sa, NULL);
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
    ev._sigev_un._tid = gettid();
    if (timer_create(CLOCK_MONOTONIC, &ev, &w.alarm) < 0)
        abort();
    return &w;
}

static void put64(struct mem *m, gpa_t at, uint64_t val)
{
    if (mem_write(m, at, &val, 8) < 0)
        abort();
}

/* The first 2 MiB, user's too: one large page, but for the input's and the page behind it, which
 * are small, and the last of which is absent. */
static void make_tables(struct mem *m)
{
    put64(m, TABLES, (TABLES + 0x1000) | 7);
    put64(m, TABLES + 0x1000, (TABLES + 0x2000) | 7);
    put64(m, TABLES + 0x2000, (TABLES + 0x3000) | 7);
    for (unsigned n = 0; n < 512; n++)
        put64(m, TABLES + 0x3000 + 8 * n, n * MEM_PAGE < RAM ? n * MEM_PAGE | 7 : 0);
    put64(m, TABLES + 0x3000 + 8 * (LOAD_AT + INPUT_MAX) / MEM_PAGE, 0);
}

static void state_of(struct cpu_state *s, uint8_t mode, const uint8_t seed[16])
{
    uint32_t dpl = mode & MODE_USER ? 3u << SEG_DPL_SHIFT : 0;

    cpu_state_reset(s, 0, false);
    for (unsigned n = 0; n < SEGS; n++)
        s->seg[n] = (struct x86_seg){.limit = UINT32_MAX,
                                     .attr = SEG_P | SEG_S | SEG_G | dpl |
                                             (n == SEG_CS ? 0xb | SEG_L : 3 | SEG_DB),
                                     .sel = (uint16_t)((n == SEG_CS ? 8 : 16) | (dpl ? 3 : 0)),
                                     .base = n == SEG_FS   ? LOAD_AT + 0x100
                                             : n == SEG_GS ? LOAD_AT + 0x2000
                                                           : 0};
    s->cr0 =
        CR0_ET | CR0_NE | CR0_PE | CR0_PG | CR0_WP | CR0_AM | (mode & MODE_NO_VECTORS ? CR0_TS : 0);
    s->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_PAE | CR4_PGE | CR4_FSGSBASE |
             (mode & MODE_GUARDED ? CR4_SMAP | CR4_SMEP | CR4_UMIP : 0);
    s->xcr0 = XCR0_ALL;
    s->efer = EFER_LME | EFER_LMA | EFER_SCE | EFER_NXE;
    s->cr3 = mode & MODE_OWN_TABLES ? LOAD_AT + 0x1000 : TABLES;
    s->gdtr = (struct x86_table){LOAD_AT + 0x800, 0xff};
    s->idtr = (struct x86_table){LOAD_AT + 0x900, 0x1ff};
    s->tr = (struct x86_seg){.sel = 0x20, .base = LOAD_AT + 0xb00, .limit = 0x67, .attr = 0x8b};
    s->star = 0x0013000800000000;
    s->lstar = LOAD_AT + 0x40;
    s->rip = LOAD_AT;
    s->rflags = FL_FIXED | (seed[15] & 0xd5) | (seed[14] & 8 ? FL_OF : 0);
    for (unsigned n = 0; n < GPRS; n++)
        s->gpr[n] = n & 1 ? (uint64_t)(int8_t)seed[n] : LOAD_AT + seed[n] * 0x42u;
    if (mode & MODE_UNMASKED)
        memcpy(s->xsave, "\x00\x03", 2);
}

static void run(struct world *w)
{
    struct itimerspec ms = {{0, 1000000}, {0, 1000000}}, off = {{0}, {0}};
    struct cpu_exit x = {0};
    struct err e;

    the_vcpu = w->v;
    timer_settime(w->alarm, 0, &ms, NULL);
    for (unsigned kicks = 0, exits = 0; kicks < KICKS_MAX && exits < EXITS_MAX; exits++) {
        uint32_t data = 0x01020304;

        if (cpu_lockstep.run(w->v, &x, &e) < 0 || x.kind == CPU_EXIT_SHUTDOWN ||
            x.kind == CPU_EXIT_STUCK)
            break;
        kicks += x.kind == CPU_EXIT_KICKED;
        if (x.kind == CPU_EXIT_MMIO && !x.u.mmio.write)
            x.u.mmio.val = data;
        if (x.kind == CPU_EXIT_PIO && !x.u.pio.write)
            memcpy(x.u.pio.data, &data, x.u.pio.len);
    }
    timer_settime(w->alarm, 0, &off, NULL);
    the_vcpu = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct world *w = world();
    struct cpu_vm_conf conf = {.mem = w->mem,
                               .clock = &w->clock,
                               .timers = &w->timers,
                               .model = &w->model,
                               .code_cache_bytes = CPU_CODE_CACHE_MIN,
                               .differs = on_difference};
    struct cpu_vm *vm;
    struct cpu_state s;
    struct err e;

    if (n < 18 || n - 17 > INPUT_MAX)
        return 0;
    /* Anew each time: code that changes often would soon be left to the interpreter alone. */
    if (mem_fill(w->mem, 0, 0, RAM) < 0 || mem_write(w->mem, LOAD_AT, p + 17, n - 17) < 0 ||
        cpu_lockstep.vm_new(&conf, &vm, &e) < 0 || cpu_lockstep.vcpu_new(vm, 0, &w->v, &e) < 0)
        abort();
    make_tables(w->mem);
    state_of(&s, p[0], p + 1);
    if (cpu_lockstep.set(w->v, &s, &e) < 0)
        abort();
    run(w);
    cpu_lockstep.vcpu_free(w->v);
    cpu_lockstep.vm_free(vm);
    return 0;
}
