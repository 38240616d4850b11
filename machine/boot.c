/* Which protocol a file wants, where everything goes, and how the boot CPU is entered. */
#include "machine/boot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "machine/acpi.h"
#include "machine/le.h"

enum { /* selectors: boot.rst wants __BOOT_CS 0x10 and __BOOT_DS 0x18 */
       SEL_CODE32 = 0x08,
       SEL_CODE64 = 0x10,
       SEL_DATA = 0x18,
       SEL_TSS = 0x20,
       GDT_ENTRIES = 6,
       TYPE_CODE = 0xb, /* execute, read, accessed */
       TYPE_DATA = 0x3, /* read, write, accessed */
       TYPE_TSS = 0xb,  /* busy */
       TSS_LIMIT = 0x67,
       BDA_EBDA = BOOT_BDA + 0x0e,     /* segment of the EBDA */
       BDA_BASE_KIB = BOOT_BDA + 0x13, /* memory below the EBDA */
       PAGE = 4096,
       PTE_P_RW = 3,
       PTE_PS = 0x80,
       IDENTITY_GIB = 4,
       VIRTIO_ARG_MAX = 64, /* bytes of one virtio_mmio.device= */
};

unsigned boot_memmap(const struct mem *m, struct boot_range out[BOOT_MEMMAP_MAX])
{
    struct mem_region ram[MEM_REGIONS_MAX];
    unsigned regions = mem_regions(m, ram), n = 0;

    out[n++] = (struct boot_range){0, BOOT_EBDA, E820_RAM};
    out[n++] = (struct boot_range){BOOT_EBDA, 0xa0000 - BOOT_EBDA, E820_RESERVED};
    out[n++] = (struct boot_range){BOOT_ACPI, BOOT_HIGH - BOOT_ACPI, E820_RESERVED};
    out[n++] = (struct boot_range){BOOT_HIGH, ram[0].size - BOOT_HIGH, E820_RAM};
    if (regions > 1)
        out[n++] = (struct boot_range){ram[1].gpa, ram[1].size, E820_RAM};
    return n;
}

/* --- the file --------------------------------------------------------------- */

static int what_it_is_instead(const uint8_t *p, size_t len, struct err *e)
{
    if (len >= 60 && memcmp(p + 56, "ARM\x64", 4) == 0)
        return err_set(e, -ENOEXEC, "is a kernel for AArch64, not x86-64");
    if (len >= 0x34 && memcmp(p + 0x30, "RISCV", 4) == 0)
        return err_set(e, -ENOEXEC, "is a kernel for RISC-V, not x86-64");
    if (len >= 2 && p[0] == 0x1f && p[1] == 0x8b)
        return err_set(e, -ENOEXEC, "is not a kernel: it is a gzip file");
    return err_set(e, -ENOEXEC, "is not a kernel: neither a bzImage nor an ELF file");
}

static int load_kernel(const struct boot_machine *m, const struct boot_conf *c,
                       struct boot_image *k, struct err *e)
{
    if (elf_is(c->kernel, c->kernel_len)) {
        bootparams_header(k);
        return elf_load(m, c->kernel, c->kernel_len, true, k, e);
    }
    if (bzimage_is(c->kernel, c->kernel_len))
        return bzimage_load(m, c->kernel, c->kernel_len, k, e);
    return what_it_is_instead(c->kernel, c->kernel_len, e);
}

/* As high as the kernel allows, so that it is in nobody's way. */
static int load_initrd(const struct boot_machine *m, const struct boot_conf *c,
                       const struct boot_image *k, struct boot_files *f, struct err *e)
{
    struct mem_region ram[MEM_REGIONS_MAX];

    if (!c->initrd_len)
        return 0;
    mem_regions(m->mem, ram);
    uint64_t top = ram[0].size;
    if (k->initrd_max < top - 1)
        top = k->initrd_max + 1;
    uint64_t floor = (k->end + PAGE - 1) & ~(uint64_t)(PAGE - 1);
    if (floor < BOOT_HIGH)
        floor = BOOT_HIGH;
    if (floor >= top || c->initrd_len > top - floor)
        return err_set(
            e, -E2BIG, "initrd of %zu MiB does not fit beside the kernel into %llu MiB of RAM",
            (c->initrd_len + (1 << 20) - 1) >> 20, (unsigned long long)(mem_size(m->mem) >> 20));
    f->initrd = (top - c->initrd_len) & ~(uint64_t)(PAGE - 1);
    f->initrd_len = c->initrd_len;
    if (f->initrd < floor)
        f->initrd = floor;
    int r = mem_write(m->mem, f->initrd, c->initrd, c->initrd_len);
    return r < 0 ? err_set(e, r, "write the initrd") : 0;
}

/* Devices first: what stands behind " -- " is for init. */
static int write_cmdline(const struct boot_machine *m, const struct boot_conf *c,
                         const struct boot_image *k, struct err *e)
{
    char text[BOARD_VIRTIO_MAX * VIRTIO_ARG_MAX + BOARD_CMDLINE_MAX];
    size_t max = k->cmdline_max < BOARD_CMDLINE_MAX - 1 ? k->cmdline_max : BOARD_CMDLINE_MAX - 1;
    size_t len = 0, user = c->cmdline ? strlen(c->cmdline) : 0;

    for (unsigned i = 0; c->mmio_on_cmdline && i < m->n_virtio; i++)
        len += (size_t)snprintf(text + len, VIRTIO_ARG_MAX, "virtio_mmio.device=%uK@0x%x:%u ",
                                m->virtio[i].size >> 10, m->virtio[i].base, m->virtio[i].gsi);
    if (user > max || len > max - user)
        return err_set(e, -E2BIG, "command line of %zu bytes is too long: the limit is %zu",
                       len + user, max);
    memcpy(text + len, c->cmdline ? c->cmdline : "", user);
    text[len + user] = '\0';
    int r = mem_write(m->mem, BOOT_CMDLINE, text, len + user + 1);
    return r < 0 ? err_set(e, r, "write the command line") : 0;
}

/* --- low memory ------------------------------------------------------------- */

static int write_acpi(const struct boot_machine *m, struct boot_files *f, struct err *e)
{
    size_t cap = BOARD_VMGENID - BOOT_ACPI;
    CLEANUP(mem) uint8_t *buf = calloc(1, cap);

    if (!buf)
        return err_set(e, -ENOMEM, "out of memory");
    int len = acpi_build(m, BOOT_ACPI, buf, cap, e);
    if (len < 0)
        return len;
    f->rsdp = BOOT_ACPI;
    int r = mem_write(m->mem, BOOT_ACPI, buf, (size_t)len);
    return r < 0 ? err_set(e, r, "write the ACPI tables") : 0;
}

/* A descriptor from its parts, as SDM vol 3A figure 3-8 spreads them. */
static uint64_t descriptor(const struct x86_seg *s)
{
    uint64_t limit = s->attr & SEG_G ? s->limit >> 12 : s->limit;
    uint64_t base = s->base;

    return (limit & 0xffff) | (base & 0xffffff) << 16 | (uint64_t)(s->attr & 0xff) << 40 |
           (limit >> 16 & 15) << 48 | (uint64_t)(s->attr >> 12 & 15) << 52 | (base >> 24) << 56;
}

static struct x86_seg segment(uint16_t sel, uint32_t limit, uint32_t attr)
{
    return (struct x86_seg){.sel = sel, .limit = limit, .attr = attr};
}

static struct x86_seg code32(void)
{
    return segment(SEL_CODE32, UINT32_MAX, TYPE_CODE | SEG_S | SEG_P | SEG_DB | SEG_G);
}

static struct x86_seg code64(void)
{
    return segment(SEL_CODE64, UINT32_MAX, TYPE_CODE | SEG_S | SEG_P | SEG_L | SEG_G);
}

static struct x86_seg data(void)
{
    return segment(SEL_DATA, UINT32_MAX, TYPE_DATA | SEG_S | SEG_P | SEG_DB | SEG_G);
}

static struct x86_seg tss(void)
{
    return segment(SEL_TSS, TSS_LIMIT, TYPE_TSS | SEG_P);
}

/* F000:FFF0, where kernels jump to restart by the BIOS (Linux with reduced hardware ACPI and EFI
 * support built in does): the keyboard controller's reset.  mov $0xfe, %al; out %al, $0x64; cli;
 * 1: hlt; jmp 1b */
static const uint8_t reset_code[] = {0xb0, 0xfe, 0xe6, 0x64, 0xfa, 0xf4, 0xeb, 0xfd};

/* GDT, identity page tables of 2 MiB pages, the BIOS's entry, and the two BIOS data words kernels
 * look at. */
static int write_low(struct mem *m, struct err *e)
{
    struct x86_seg s[] = {{0}, code32(), code64(), data(), tss()};
    uint8_t gdt[GDT_ENTRIES * 8] = {0}, table[PAGE] = {0}, word[2];
    int r = 0;

    for (size_t i = 1; i < ARRAY_LEN(s); i++)
        le_put(gdt + 8 * i, descriptor(&s[i]), 8);
    r |= mem_write(m, BOOT_GDT, gdt, sizeof(gdt));
    le_put(table, (BOOT_PAGE_TABLES + PAGE) | PTE_P_RW, 8);
    r |= mem_write(m, BOOT_PAGE_TABLES, table, PAGE);
    for (unsigned g = 0; g < IDENTITY_GIB; g++)
        le_put(table + 8 * g, (BOOT_PAGE_TABLES + (2 + g) * PAGE) | PTE_P_RW, 8);
    r |= mem_write(m, BOOT_PAGE_TABLES + PAGE, table, PAGE);
    for (unsigned g = 0; g < IDENTITY_GIB; g++) {
        for (unsigned i = 0; i < 512; i++)
            le_put(table + 8 * i, ((uint64_t)g << 30 | (uint64_t)i << 21) | PTE_PS | PTE_P_RW, 8);
        r |= mem_write(m, BOOT_PAGE_TABLES + (2 + g) * PAGE, table, PAGE);
    }
    r |= mem_write(m, BOOT_RESET, reset_code, sizeof(reset_code));
    le_put(word, BOOT_EBDA >> 4, 2);
    r |= mem_write(m, BDA_EBDA, word, 2);
    le_put(word, BOOT_EBDA >> 10, 2);
    r |= mem_write(m, BDA_BASE_KIB, word, 2);
    return r < 0 ? err_set(e, -EFAULT, "write the boot tables") : 0;
}

/* --- entry ------------------------------------------------------------------- */

static void enter_flat(struct cpu_state *s, uint64_t entry)
{
    for (unsigned i = 0; i < SEGS; i++)
        s->seg[i] = data();
    s->tr = tss();
    s->gdtr = (struct x86_table){BOOT_GDT, GDT_ENTRIES * 8 - 1};
    s->idtr = (struct x86_table){0, 0};
    s->rflags = FL_FIXED; /* interrupts off */
    s->rip = entry;
    s->gpr[RSP] = BOOT_STACK_TOP;
}

/* boot.rst, "64-bit BOOT PROTOCOL"; also how a plain ELF64 is entered. */
static void enter_long(struct cpu_state *s, uint64_t entry)
{
    enter_flat(s, entry);
    s->seg[SEG_CS] = code64();
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    s->cr3 = BOOT_PAGE_TABLES;
    s->cr4 = CR4_PAE;
    s->efer = EFER_LME | EFER_LMA;
    s->gpr[RSI] = BOOT_PARAMS;
}

/* pvh.pandoc, "x86/HVM direct boot ABI": 32 bits, no paging. */
static void enter_pvh(struct cpu_state *s, uint64_t entry)
{
    enter_flat(s, entry);
    s->seg[SEG_CS] = code32();
    s->cr0 = CR0_PE | CR0_ET;
    s->cr4 = 0;
    s->efer = 0;
    s->gpr[RBX] = BOOT_START_INFO;
}

int boot_load(const struct boot_machine *m, const struct boot_conf *c, struct cpu_state *bsp,
              struct err *e)
{
    struct boot_image k = {0};
    struct boot_files f = {0};

    if (mem_size(m->mem) < BOOT_RAM_MIN)
        return err_set(e, -E2BIG, "a kernel needs %d MiB of RAM at least", BOOT_RAM_MIN >> 20);
    int r = load_kernel(m, c, &k, e);
    if (r >= 0)
        r = load_initrd(m, c, &k, &f, e);
    if (r >= 0)
        r = write_cmdline(m, c, &k, e);
    if (r >= 0)
        r = write_acpi(m, &f, e);
    if (r >= 0)
        r = write_low(m->mem, e);
    if (r >= 0)
        r = k.how == BOOT_PVH ? startinfo_write(m, &f, e) : bootparams_write(m, &k, &f, e);
    if (r < 0)
        return r;
    if (k.how == BOOT_PVH)
        enter_pvh(bsp, k.entry);
    else
        enter_long(bsp, k.entry);
    return 0;
}
