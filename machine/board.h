/* machine/board.h - the board: which devices sit where, and how a kernel is entered.
 *
 * Memory map (guest physical)
 *   0 .. min(RAM, 3 GiB)     RAM, with 0x9fc00 EBDA and 0xe0000..0xfffff ACPI tables and
 *                            generation ID reserved
 *   0xd0000000 + n * 0x1000  virtio-mmio slot n
 *   0xfec00000 IOAPIC        0xfee00000 LAPIC        4 GiB .. high RAM
 * Ports: 0x20/0xa0 PIC, 0x40 PIT, 0x60/0x64 i8042, 0x61, 0x70 RTC, 0x3f8 serial, 0x501 exit port,
 * 0x510 wall clock, 0x600 ACPI sleep and reset.
 * Interrupts: n < 16 reaches input n of the PIC and pin n of the IOAPIC, but IRQ 0 pin 2: PIT 0,
 * keyboard 1, serial 4, RTC 8; virtio slots have 5, 6, 7, 9, 10 ... 21; generation ID
 * 22.
 * The kernel learns this from ACPI (reduced hardware), or from virtio_mmio.device= on its command
 * line when asked.
 *
 * Thread: built and freed by the VM's owner; everything else under the board lock. */
#ifndef MACHINE_BOARD_H
#define MACHINE_BOARD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "block/block.h"
#include "cpu/cpu.h"
#include "hw/bus.h"
#include "hw/clock.h"
#include "hw/irq.h"
#include "hw/timer.h"
#include "mem/mem.h"

enum {
    BOARD_VIRTIO_BASE = 0xd0000000,
    BOARD_VIRTIO_MAX = 16,
    BOARD_EXIT_PORT = 0x501,
    BOARD_VMGENID = 0xfe000, /* gpa of the generation ID, in a page of its own */
    BOARD_VMGENID_PIN = 22,
    BOARD_CMDLINE_MAX = 2048,
};

struct board;
struct vmmio;
struct virtio_ops;

/* What the devices tell the machine. Called under the board lock, on a vCPU or I/O thread. */
struct board_events {
    void (*reset)(void *ctx);    /* i8042, ACPI reset, triple fault is the VM's own */
    void (*poweroff)(void *ctx); /* ACPI S5 */
    void (*exit_port)(void *ctx, uint32_t value); /* a write to BOARD_EXIT_PORT */
    void *ctx;
};

struct board_conf { /* all borrowed */
    struct mem *mem;
    struct clock *clock;
    struct timerq *timers;
    const struct cpu_model *model;
    struct msi_sink msi;     /* IOAPIC's output: the engine */
    struct irq_line pic_out; /* 8259 INTR: the engine */
    struct board_events events;
    /* serial port 0 output: bytes the guest sent. */
    void (*serial_out)(void *ctx, const uint8_t *bytes, size_t len);
    /* Input was refused for lack of room and there is some now. May be NULL. */
    void (*serial_room)(void *ctx);
    void *serial_ctx;
};

int board_new(const struct board_conf *c, struct board **ret, struct err *e) MUST_CHECK;
void board_free(struct board *b); /* frees attached devices */
struct bus *board_mmio(struct board *b);
struct bus *board_pio(struct board *b);

/* Put a virtio device in the next free slot (dev owned from here, also on failure). `notify` as in
 * vmmio_conf; gets the slot's ctx. *slot is its number: gpa BOARD_VIRTIO_BASE + slot * 0x1000.
 * Errors: -ENOSPC. */
int board_add_virtio(struct board *b, const struct virtio_ops *ops, void *dev,
                     void (*notify)(void *ctx, unsigned queue), void *notify_ctx, unsigned *slot,
                     struct err *e) MUST_CHECK;
struct vmmio *board_slot(struct board *b, unsigned slot);
/* IOAPIC pin (also global system interrupt) of a slot, also of one not yet filled. */
unsigned board_slot_pin(unsigned slot);

/* IOAPIC pin's current route as an MSI, for irqfd; false when masked or level. */
bool board_pin_msi(struct board *b, unsigned pin, struct msi *m);
void board_eoi(struct board *b, uint8_t vector); /* CPU_EXIT_EOI */
int board_pic_ack(void *board);                  /* vector of the 8259 */
void board_serial_in(struct board *b, const uint8_t *bytes, size_t len);
/* Room in the serial receive queue, bytes. */
size_t board_serial_room(struct board *b);

struct boot_conf {                 /* borrowed */
    const void *kernel, *initrd;   /* file images in memory (mapped) */
    size_t kernel_len, initrd_len; /* initrd 0 = none */
    const char *cmdline;
    bool mmio_on_cmdline; /* also say virtio_mmio.device=... for kernels without ACPI */
};

/* Load kernel, initrd, boot parameters and ACPI tables into RAM, which is fresh (zero), and set
 * *bsp, which is in its power-on state, to the entry state. By what the file is: bzImage: its
 * vmlinux, unpacked on the host and entered at its own 64-bit entry, or the bzImage's 64-bit entry
 * when the payload's compression is unknown (Linux Documentation/x86/boot.rst); ELF64 with a PVH
 * note: 32-bit entry with a start info (Xen docs/misc/pvh.pandoc); other ELF64: entered in long
 * mode, identity paging below 4 GiB, a small stack, RSI = boot_params. Errors, without the file's
 * name: -ENOEXEC what the file is instead; -EBADMSG truncated or broken; -E2BIG kernel, initrd or
 * command line do not fit; -ENOMEM. */
int board_boot(struct board *b, const struct boot_conf *c, struct cpu_state *bsp,
               struct err *e) MUST_CHECK;

/* This machine goes on alone from a state that others may go on from, too: a new generation ID, 16
 * bytes that never were one before. `tell`: the guest runs already. -EFAULT: RAM is too small. */
int board_set_generation(struct board *b, const uint8_t id[16], bool tell,
                         struct err *e) MUST_CHECK;

void board_drain(struct board *b);
/* The clock must be loaded before. Virtio devices must be the same, slot by slot. */
void board_visit(struct board *b, struct state_io *io);

#endif
