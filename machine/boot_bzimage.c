/* Linux bzImages. Source: Linux Documentation/x86/boot.rst. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "machine/boot.h"
#include "machine/le.h"
#include "machine/vmlinux.h"

enum { /* offsets of the real-mode kernel header */
       SETUP_SECTS = 0x1f1,
       SYSSIZE = 0x1f4,
       BOOT_FLAG = 0x1fe,
       JUMP_LEN = 0x201,
       HEADER = 0x202,
       VERSION = 0x206,
       LOADFLAGS = 0x211,
       INITRD_ADDR_MAX = 0x22c,
       XLOADFLAGS = 0x236,
       CMDLINE_SIZE = 0x238,
       PAYLOAD_OFFSET = 0x248,
       PAYLOAD_LENGTH = 0x24c,
       PREF_ADDRESS = 0x258,
       INIT_SIZE = 0x260,
       HEADER_END = 0x268, /* of protocol 2.12 */
       SECTOR = 512,
       LOADED_HIGH = 1,
       XLF_KERNEL_64 = 1,
       PROTOCOL_MIN = 0x20c, /* 2.12: the 64-bit entry */
       ENTRY_64 = 0x200,
       SYSSIZE_SLACK = 16, /* the last paragraph need not be in the file whole */
};

bool bzimage_is(const uint8_t *p, size_t len)
{
    return len >= HEADER + 4 && le16(p + BOOT_FLAG) == 0xaa55 && memcmp(p + HEADER, "HdrS", 4) == 0;
}

int bzimage_parse(const uint8_t *p, size_t len, struct bzimage *out, struct err *e)
{
    if (len < HEADER_END)
        return err_set(e, -EBADMSG, "is a truncated bzImage: %zu bytes", len);
    uint16_t protocol = le16(p + VERSION);
    if (!(p[LOADFLAGS] & LOADED_HIGH))
        return err_set(e, -ENOEXEC, "is a zImage, an old kind of 32-bit kernel");
    if (protocol < PROTOCOL_MIN)
        return err_set(e, -ENOEXEC, "is too old: boot protocol %u.%02u, 2.12 is needed",
                       protocol >> 8, protocol & 0xff);
    if (!(le16(p + XLOADFLAGS) & XLF_KERNEL_64))
        return err_set(e, -ENOEXEC, "is a 32-bit kernel; a 64-bit one is needed");

    size_t sects = p[SETUP_SECTS] ? p[SETUP_SECTS] : 4; /* "if 0, the real value is 4" */
    size_t off = (sects + 1) * SECTOR;
    uint64_t want = off + 16ull * le32(p + SYSSIZE);
    if (off + ENTRY_64 >= len || want > (uint64_t)len + SYSSIZE_SLACK)
        return err_set(e, -EBADMSG, "is truncated: %zu bytes of %llu", len,
                       (unsigned long long)want);
    struct bzimage b = {
        .protocol = protocol,
        .kernel_off = off,
        .kernel_len = len - off,
        .payload_off = off + le32(p + PAYLOAD_OFFSET),
        .payload_len = le32(p + PAYLOAD_LENGTH),
        .pref_address = le64(p + PREF_ADDRESS),
        .init_size = le32(p + INIT_SIZE),
        .initrd_max = le32(p + INITRD_ADDR_MAX),
        .cmdline_max = le32(p + CMDLINE_SIZE),
    };
    if (b.payload_off > len || b.payload_len > len - b.payload_off)
        return err_set(e, -EBADMSG, "is truncated: its payload ends beyond %zu bytes", len);
    *out = b;
    return 0;
}

/* What boot_params keeps of the file: 0x1f1 up to the end that the jump instruction tells. */
static void keep_header(const uint8_t *p, size_t len, struct boot_image *out)
{
    size_t end = JUMP_LEN + 1 + (size_t)p[JUMP_LEN];

    if (end > len)
        end = len;
    if (end > SETUP_SECTS + BOOT_SETUP_HEADER_MAX)
        end = SETUP_SECTS + BOOT_SETUP_HEADER_MAX;
    out->header_len = end - SETUP_SECTS;
    memcpy(out->header, p + SETUP_SECTS, out->header_len);
}

/* Put the compressed image into RAM as it is and let it unpack itself. */
static int load_packed(const struct boot_machine *m, const uint8_t *p, const struct bzimage *b,
                       struct boot_image *out, struct err *e)
{
    uint64_t at = b->pref_address, need = b->init_size;
    struct iovec whole;

    if (need < b->kernel_len)
        need = b->kernel_len;
    if (at < BOOT_HIGH || mem_iov(m->mem, at, need, &whole) < 0)
        return err_set(e, -E2BIG, "does not fit into %llu MiB of RAM: it needs %llu MiB at 0x%llx",
                       (unsigned long long)(mem_size(m->mem) >> 20),
                       (unsigned long long)(need + (1 << 20) - 1) >> 20, (unsigned long long)at);
    out->how = BOOT_LONG;
    out->entry = at + ENTRY_64;
    out->end = at + need;
    return mem_write(m->mem, at, p + b->kernel_off, b->kernel_len);
}

int bzimage_load(const struct boot_machine *m, const uint8_t *p, size_t len, struct boot_image *out,
                 struct err *e)
{
    CLEANUP(mem) uint8_t *vmlinux = NULL;
    size_t vmlinux_len = 0;
    struct bzimage b;
    int r = bzimage_parse(p, len, &b, e);

    if (r < 0)
        return r;
    keep_header(p, len, out);
    out->initrd_max = b.initrd_max;
    out->cmdline_max = b.cmdline_max;
    r = vmlinux_unpack(p + b.payload_off, b.payload_len, &vmlinux, &vmlinux_len, e);
    if (r == -ENOTSUP || (r == 0 && !elf_is(vmlinux, vmlinux_len)))
        return load_packed(m, p, &b, out, e);
    if (r < 0)
        return r;
    r = elf_load(m, vmlinux, vmlinux_len, false, out, e);
    if (r == 0 && b.init_size && out->end < b.pref_address + b.init_size &&
        b.pref_address < UINT64_MAX - b.init_size)
        out->end = b.pref_address + b.init_size; /* it grows while it starts */
    return r;
}
