/* machine/boot.h - from the bytes of a kernel file to RAM and an entry state: what the boot
 * protocols (boot_bzimage.c, boot_elf.c, bootparams.c) share.
 *
 * All file bytes are hostile. Low memory while a kernel starts:
 *   0x400 BIOS data   0x500 GDT   0x6000 PVH start info   0x7000 boot_params (zero page)
 *   0x9000 page tables   0x10000 stack   0x20000 command line   0x9fc00 EBDA   0xe0000 ACPI
 *   0xfe000 generation ID */
#ifndef MACHINE_BOOT_H
#define MACHINE_BOOT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "cpu/state.h"
#include "machine/board.h"
#include "mem/mem.h"

enum {
    BOOT_BDA = 0x400,
    BOOT_GDT = 0x500,
    BOOT_START_INFO = 0x6000,
    BOOT_PARAMS = 0x7000,
    BOOT_PAGE_TABLES = 0x9000, /* PML4, PDPT, 4 page directories */
    BOOT_STACK_TOP = 0x20000,
    BOOT_CMDLINE = 0x20000,
    BOOT_LOW_END = 0x30000, /* a kernel's segments may begin here */
    BOOT_EBDA = 0x9fc00,
    BOOT_ACPI = 0xe0000,
    BOOT_RESET = 0xffff0, /* code that resets the machine */
    BOOT_HIGH = 0x100000,
    BOOT_RAM_MIN = 2 << 20, /* bytes */
    BOOT_MEMMAP_MAX = 8,
    BOOT_SETUP_HEADER_MAX = 0x290 - 0x1f1, /* bytes from 0x1f1 on in boot_params */
};

enum { E820_RAM = 1, E820_RESERVED = 2 };

struct boot_virtio {
    uint32_t base, size, gsi;
};

struct boot_machine { /* what the kernel is told about */
    struct mem *mem;  /* borrowed */
    unsigned cpus;
    struct boot_virtio virtio[BOARD_VIRTIO_MAX];
    unsigned n_virtio;
};

struct boot_range {
    uint64_t base, size;
    uint32_t type;
};

enum boot_entry { BOOT_LONG, BOOT_PVH };

/* A kernel that lies in RAM. */
struct boot_image {
    enum boot_entry how;
    uint64_t entry;       /* gpa */
    uint64_t end;         /* first byte above all that the kernel needs for itself */
    uint64_t initrd_max;  /* last byte an initrd may have */
    uint32_t cmdline_max; /* bytes without the NUL */
    uint8_t header[BOOT_SETUP_HEADER_MAX]; /* setup header for boot_params */
    size_t header_len;
};

struct bzimage {                       /* where things lie in the file */
    uint64_t kernel_off, kernel_len;   /* protected-mode code */
    uint64_t payload_off, payload_len; /* compressed vmlinux; len 0 = not told */
    uint64_t pref_address;
    uint32_t init_size;
    uint32_t initrd_max, cmdline_max;
    uint16_t protocol;
};

/* --- boot.c --- */
int boot_load(const struct boot_machine *m, const struct boot_conf *c, struct cpu_state *bsp,
              struct err *e) MUST_CHECK;
/* RAM and reserved ranges in ascending order; returns how many. */
unsigned boot_memmap(const struct mem *m, struct boot_range out[BOOT_MEMMAP_MAX]);
/* "ELF machine 183 is AArch64": the name of an e_machine value, or NULL. */
const char *boot_elf_machine(unsigned machine);

/* --- boot_bzimage.c --- */
/* Is this the head of a Linux x86 image at all? */
bool bzimage_is(const uint8_t *p, size_t len);
/* Errors: -ENOEXEC 32-bit or too old; -EBADMSG truncated. */
int bzimage_parse(const uint8_t *p, size_t len, struct bzimage *out, struct err *e) MUST_CHECK;
/* Load it, unpacked where possible. Errors: those, and -E2BIG. */
int bzimage_load(const struct boot_machine *m, const uint8_t *p, size_t len, struct boot_image *out,
                 struct err *e) MUST_CHECK;

/* --- boot_elf.c --- */
bool elf_is(const uint8_t *p, size_t len);
/* Load all segments; entry is PVH's if `pvh` and the note is there. Header is not set.
 * Errors: -ENOEXEC, -EBADMSG, -E2BIG. */
int elf_load(const struct boot_machine *m, const uint8_t *p, size_t len, bool pvh,
             struct boot_image *out, struct err *e) MUST_CHECK;

/* --- bootparams.c --- */
struct boot_files {              /* where they were put */
    uint64_t initrd, initrd_len; /* len 0 = none */
    uint64_t rsdp;
};
/* Write boot_params (Linux zero page). */
int bootparams_write(const struct boot_machine *m, const struct boot_image *k,
                     const struct boot_files *f, struct err *e) MUST_CHECK;
/* A setup header for a kernel that brought none. */
void bootparams_header(struct boot_image *k);
/* Write a PVH start info. */
int startinfo_write(const struct boot_machine *m, const struct boot_files *f,
                    struct err *e) MUST_CHECK;

#endif
