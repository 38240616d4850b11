/* test/unit/guestcode.h - guest programs as assembly inside a test, and a CPU to run them on.
 *
 *   GUEST(add, ".code64; movl $1, %eax; incl %eax; hlt")
 *
 * defines `add` (its bytes) and `add_end`. The programs are never run by the host: they are copied
 * into guest RAM. */
#ifndef TEST_UNIT_GUESTCODE_H
#define TEST_UNIT_GUESTCODE_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/soft/soft.h"
#include "hw/clock.h"
#include "hw/timer.h"

#define GUEST(name, text)                                                                  \
    __asm__(".pushsection .rodata\n.globl guest_" #name "\nguest_" #name ":\n" text        \
            "\n.globl guest_" #name "_end\nguest_" #name "_end:\n.code64\n.popsection\n"); \
    extern const uint8_t guest_##name[], guest_##name##_end[];

enum {
    GUEST_RAM = 16 << 20,
    GUEST_TABLES = 0x100000, /* page tables: PML4, PDPT, 2 MiB pages; then one 4 KiB table */
    GUEST_CODE = 0x200000,
    GUEST_DATA = 0x400000,
    GUEST_STACK = 0x600000, /* top */
    GUEST_SMALL = 0x800000, /* mapped by 4 KiB pages: guestcode_pte() */
};

struct guest {
    struct mem *mem;
    struct clock clock;
    struct timerq timers;
    struct cpu_model model;
    struct soft_vm *vm;
    struct vcpu *v;
    struct cpu_state s; /* what guestcode_start() loads */
};

enum guest_mode { GUEST_REAL, GUEST_PROT16, GUEST_PROT32, GUEST_COMPAT32, GUEST_LONG };

/* A machine with one vCPU of the interpreter, its state in `mode` at ring 0, identity-mapped in
 * long mode. */
void guestcode_new(struct guest *g, enum guest_mode mode);
void guestcode_free(struct guest *g);
/* Copy the program to GUEST_CODE (0x7c00 in real mode) and load g->s. */
void guestcode_load(struct guest *g, const uint8_t *code, const uint8_t *end);
/* Run until HLT (returns SOFT_BREAK), a fault (SOFT_FAULT: g->v->exc) or an exit. */
int guestcode_run(struct guest *g);
/* Both; the program must end with HLT. */
void guestcode_do(struct guest *g, const uint8_t *code, const uint8_t *end);
/* Page table entry of the 4 KiB page GUEST_SMALL + n * 4096, n < 512. */
void guestcode_pte(struct guest *g, unsigned n, uint64_t pte);

#define GUEST_DO(g, name) guestcode_do(g, guest_##name, guest_##name##_end)
#define GUEST_LOAD(g, name) guestcode_load(g, guest_##name, guest_##name##_end)

#endif
