/* What a kernel is told in memory: Linux's boot_params (Documentation/x86/zero-page.rst, boot.rst)
 * and PVH's hvm_start_info (Xen public/arch-x86/hvm/start_info.h). */
#include <errno.h>
#include <string.h>

#include "machine/boot.h"
#include "machine/le.h"

enum { /* boot_params, zero-page.rst; 0x1f1 on is the setup header of boot.rst */
       PARAMS_BYTES = 4096,
       ACPI_RSDP_ADDR = 0x70,
       E820_ENTRIES = 0x1e8,
       SETUP_HEADER = 0x1f1,
       BOOT_FLAG = 0x1fe,
       HEADER_MAGIC = 0x202,
       VERSION = 0x206,
       TYPE_OF_LOADER = 0x210,
       LOADFLAGS = 0x211,
       RAMDISK_IMAGE = 0x218,
       RAMDISK_SIZE = 0x21c,
       CMD_LINE_PTR = 0x228,
       INITRD_ADDR_MAX = 0x22c,
       KERNEL_ALIGNMENT = 0x230,
       CMDLINE_SIZE = 0x238,
       SETUP_DATA = 0x250,
       E820_TABLE = 0x2d0,
       E820_BYTES = 20,
       VID_MODE = 0x1fa,
       VID_MODE_NORMAL = 0xffff,
       LOADER_OTHER = 0xff,
       LOADED_HIGH = 0x01,
       KASLR_FLAG = 0x02,
       CAN_USE_HEAP = 0x80,
       HEADER_2_15 = 0x20f,
       INITRD_MAX = 0x7fffffff,
};

enum { /* hvm_start_info version 1 */
       START_MAGIC = 0x336ec578,
       MODULE_BYTES = 32,
       MEMMAP_BYTES = 24,
       MODULES_AT = BOOT_START_INFO + 64,
       MEMMAP_AT = MODULES_AT + MODULE_BYTES,
};

void bootparams_header(struct boot_image *k)
{
    uint8_t *h = k->header; /* begins at 0x1f1 of boot_params */

    memset(k->header, 0, sizeof(k->header));
    k->header_len = SETUP_DATA + 8 - SETUP_HEADER;
    le_put(h + BOOT_FLAG - SETUP_HEADER, 0xaa55, 2);
    memcpy(h + HEADER_MAGIC - SETUP_HEADER, "HdrS", 4);
    le_put(h + VERSION - SETUP_HEADER, HEADER_2_15, 2);
    h[LOADFLAGS - SETUP_HEADER] = LOADED_HIGH;
    le_put(h + INITRD_ADDR_MAX - SETUP_HEADER, INITRD_MAX, 4);
    le_put(h + KERNEL_ALIGNMENT - SETUP_HEADER, 2 << 20, 4);
    le_put(h + CMDLINE_SIZE - SETUP_HEADER, BOARD_CMDLINE_MAX - 1, 4);
    k->initrd_max = INITRD_MAX;
    k->cmdline_max = BOARD_CMDLINE_MAX - 1;
}

int bootparams_write(const struct boot_machine *m, const struct boot_image *k,
                     const struct boot_files *f, struct err *e)
{
    struct boot_range map[BOOT_MEMMAP_MAX];
    unsigned n = boot_memmap(m->mem, map);
    uint8_t z[PARAMS_BYTES] = {0};

    memcpy(z + SETUP_HEADER, k->header, k->header_len);
    le_put(z + ACPI_RSDP_ADDR, f->rsdp, 8);
    le_put(z + VID_MODE, VID_MODE_NORMAL, 2);
    z[TYPE_OF_LOADER] = LOADER_OTHER;
    z[LOADFLAGS] &= (uint8_t) ~(KASLR_FLAG | CAN_USE_HEAP);
    le_put(z + RAMDISK_IMAGE, f->initrd, 4);
    le_put(z + RAMDISK_SIZE, f->initrd_len, 4);
    le_put(z + CMD_LINE_PTR, BOOT_CMDLINE, 4);
    le_put(z + SETUP_DATA, 0, 8); /* a file has no say in what is chained here */
    z[E820_ENTRIES] = (uint8_t)n;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = z + E820_TABLE + i * E820_BYTES;

        le_put(p, map[i].base, 8);
        le_put(p + 8, map[i].size, 8);
        le_put(p + 16, map[i].type, 4);
    }
    int r = mem_write(m->mem, BOOT_PARAMS, z, sizeof(z));
    return r < 0 ? err_set(e, r, "write the boot parameters") : 0;
}

int startinfo_write(const struct boot_machine *m, const struct boot_files *f, struct err *e)
{
    struct boot_range map[BOOT_MEMMAP_MAX];
    unsigned n = boot_memmap(m->mem, map);
    uint8_t s[MEMMAP_AT - BOOT_START_INFO + BOOT_MEMMAP_MAX * MEMMAP_BYTES] = {0};
    uint8_t *mod = s + (MODULES_AT - BOOT_START_INFO);

    le_put(s, START_MAGIC, 4);
    le_put(s + 4, 1, 4);                      /* version */
    le_put(s + 12, f->initrd_len ? 1 : 0, 4); /* modules */
    le_put(s + 16, MODULES_AT, 8);
    le_put(s + 24, BOOT_CMDLINE, 8);
    le_put(s + 32, f->rsdp, 8);
    le_put(s + 40, MEMMAP_AT, 8);
    le_put(s + 48, n, 4);
    le_put(mod, f->initrd, 8);
    le_put(mod + 8, f->initrd_len, 8);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = s + (MEMMAP_AT - BOOT_START_INFO) + i * MEMMAP_BYTES;

        le_put(p, map[i].base, 8);
        le_put(p + 8, map[i].size, 8);
        le_put(p + 16, map[i].type, 4);
    }
    int r = mem_write(m->mem, BOOT_START_INFO, s, sizeof(s));
    return r < 0 ? err_set(e, r, "write the start info") : 0;
}
