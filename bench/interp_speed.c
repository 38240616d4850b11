/* Speed of the interpreter on small loops: guest instructions a second. Not a test: prints, never
 * fails on a figure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/interp/interp.h"

#define LOOP(name, text)                                                        \
    __asm__(".pushsection .rodata\nloop_" #name ":\n" text "\nhlt\nloop_" #name \
            "_end:\n.popsection\n");                                            \
    extern const uint8_t loop_##name[], loop_##name##_end[];

/* Each counts RCX down; RBX points at data, RSP at a stack. */
LOOP(alu, "1: addq %rdx, %rax; xorq %rax, %rsi; leaq 3(%rsi,%rax), %rdx; shrq $3, %rdx; subq $1, "
          "%rcx; jnz 1b")
LOOP(memory, "1: movq (%rbx), %rax; addq 8(%rbx), %rax; movq %rax, 16(%rbx); movl 24(%rbx), %edx; "
             "addl $1, 24(%rbx); decq %rcx; jnz 1b")
LOOP(branchy,
     "4: testb $1, %cl; jz 2f; incl %eax; jmp 3f; 2: decl %eax; 3: cmpl $100, %eax; jg 1f; 1: "
     "subq $1, %rcx; jnz 4b")
LOOP(calls, "jmp 1f; 2: push %rbp; movq %rsp, %rbp; movl %edi, %eax; popq %rbp; ret; "
            "1: movl %ecx, %edi; call 2b; decq %rcx; jnz 1b")
LOOP(mix, "1: movzbl (%rbx,%rcx), %eax; cmpb $10, %al; je 2f; leal (%rax,%rdx,4), %edx; andl "
          "$0xfff, %edx; "
          "movl %edx, 0x100(%rbx,%rdx); 2: testl %edx, %edx; js 3f; imull $31, %edx, %esi; addl "
          "%esi, %edi; "
          "3: decq %rcx; jnz 1b")

enum { RAM = 16 << 20, CODE = 0x200000, DATA = 0x400000, STACK = 0x600000, TABLES = 0x100000 };

struct bench {
    struct mem *mem;
    struct clock clock;
    struct timerq timers;
    struct cpu_model model;
    struct soft_vm *vm;
    struct vcpu *v;
};

static void put64(struct bench *b, gpa_t at, uint64_t val)
{
    if (mem_write(b->mem, at, &val, 8))
        exit(1);
}

static void check(int r, const struct err *e)
{
    if (r < 0) {
        fprintf(stderr, "interp_speed: %s\n", e->msg);
        exit(1);
    }
}

static void setup(struct bench *b)
{
    struct err e = {0};

    clock_init(&b->clock, clock_host(), 0);
    timerq_init(&b->timers, NULL, NULL);
    check(cpu_model_init(&b->model, 1, b->clock.tsc_khz, &e), &e);
    b->mem = mem_new(RAM, &e);
    check(b->mem ? 0 : -1, &e);
    struct cpu_vm_conf conf = {
        .mem = b->mem, .clock = &b->clock, .timers = &b->timers, .model = &b->model};
    check(soft_vm_new(&conf, &interp_ops, &b->vm, &e), &e);
    check(soft_vcpu_new(b->vm, 0, &b->v, &e), &e);
    put64(b, TABLES, (TABLES + 0x1000) | 3);
    put64(b, TABLES + 0x1000, 0x83); /* one page of 1 GiB */
}

static void load(struct bench *b, const uint8_t *code, const uint8_t *end, uint64_t count)
{
    struct cpu_state s;
    struct err e;

    cpu_state_reset(&s, 0, false);
    for (unsigned n = 0; n < SEGS; n++)
        s.seg[n] =
            (struct x86_seg){.limit = UINT32_MAX, .attr = SEG_P | SEG_S | SEG_G | SEG_DB | 3};
    s.seg[SEG_CS].attr = SEG_P | SEG_S | SEG_G | SEG_L | 0xb;
    s.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
    s.cr4 = CR4_PAE;
    s.cr3 = TABLES;
    s.efer = EFER_LME | EFER_LMA;
    s.rip = CODE;
    s.gpr[RBX] = DATA;
    s.gpr[RSP] = STACK;
    s.gpr[RCX] = count;
    check(mem_write(b->mem, CODE, code, (size_t)(end - code)), &e);
    check(soft_set(b->v, &s, &e), &e);
}

static void run(struct bench *b, const char *name, const uint8_t *code, const uint8_t *end)
{
    struct cpu_exit x;
    struct timespec t0, t1;
    uint64_t before = b->v->insns;

    load(b, code, end, 5000000);
    atomic_store(&b->v->requests, 0);
    b->v->exit = &x;
    clock_gettime(CLOCK_MONOTONIC, &t0);
    while (b->v->s.mp == MP_RUNNING)
        if (interp_ops.exec(b->v) != SOFT_BREAK)
            break;
    clock_gettime(CLOCK_MONOTONIC, &t1);
    double s = (double)(t1.tv_sec - t0.tv_sec) + (double)(t1.tv_nsec - t0.tv_nsec) / 1e9;
    printf("%-8s %6.1f M instructions/s%s\n", name, (double)(b->v->insns - before) / s / 1e6,
           b->v->s.mp == MP_RUNNING ? " (stopped early)" : "");
}

#define RUN(name) run(&b, #name, loop_##name, loop_##name##_end)

int main(void)
{
    static struct bench b;

    setup(&b);
    RUN(alu);
    RUN(memory);
    RUN(branchy);
    RUN(calls);
    RUN(mix);
    soft_vcpu_free(b.v);
    soft_vm_free(b.vm);
    mem_free(b.mem);
    timerq_done(&b.timers);
    return 0;
}
