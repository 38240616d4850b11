/* From kernel files, good and bad, to RAM and an entry state. */
#include <elf.h>
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/cleanup.h"
#include "machine/boot.h"
#include "machine/le.h"
#include "machine/vmlinux.h"
#include "test/unit/t.h"

enum { MIB = 1 << 20, RAM = 32 * MIB, LOAD = 0x1000000 };

static struct boot_machine m;
static struct cpu_state *bsp;
static struct err e;

static int setup(void **state)
{
    m = (struct boot_machine){.mem = mem_new(RAM, NULL), .cpus = 1};
    assert_non_null(m.mem);
    bsp = aligned_alloc(64, (sizeof(*bsp) + 63) / 64 * 64);
    assert_non_null(bsp);
    cpu_state_reset(bsp, 0, false);
    e = (struct err){0};
    return 0;
}

static int teardown(void **state)
{
    mem_free(m.mem);
    free(bsp);
    return 0;
}

/* --- files ------------------------------------------------------------------ */

struct elf_file {
    Elf64_Ehdr h;
    Elf64_Phdr ph[2];
    uint8_t note[20];
    uint8_t code[108];
};

static struct elf_file an_elf(void)
{
    struct elf_file f = {
        .h = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
              .e_type = ET_EXEC,
              .e_machine = EM_X86_64,
              .e_version = EV_CURRENT,
              .e_entry = LOAD + 4,
              .e_phoff = offsetof(struct elf_file, ph),
              .e_ehsize = sizeof(Elf64_Ehdr),
              .e_phentsize = sizeof(Elf64_Phdr),
              .e_phnum = 2},
        .ph = {{.p_type = PT_LOAD,
                .p_offset = offsetof(struct elf_file, code),
                .p_vaddr = 0xffffffff81000000,
                .p_paddr = LOAD,
                .p_filesz = sizeof(f.code),
                .p_memsz = 0x3000},
               {.p_type = PT_NULL,
                .p_offset = offsetof(struct elf_file, note),
                .p_filesz = sizeof(f.note)}},
        .note = {4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0, 0x10, 0, 0, 1},
    };

    for (size_t i = 0; i < sizeof(f.code); i++)
        f.code[i] = (uint8_t)(i + 1);
    return f;
}

enum { SETUP = 5 * 512 };

/* A bzImage around `payload`, which says its own unpacked size. */
static uint8_t *a_bzimage(const uint8_t *payload, size_t n, size_t *len)
{
    size_t body = (0x400 + n + 15) / 16 * 16;
    uint8_t *b = calloc(1, SETUP + body);

    assert_non_null(b);
    b[0x1f1] = 4;
    le_put(b + 0x1f4, body / 16, 4);
    le_put(b + 0x1fe, 0xaa55, 2);
    b[0x201] = 0x6a;
    memcpy(b + 0x202, "HdrS", 4);
    le_put(b + 0x206, 0x20f, 2);
    b[0x211] = 1;
    le_put(b + 0x22c, 0x7fffffff, 4);
    le_put(b + 0x236, 1, 2);
    le_put(b + 0x238, 255, 4);
    le_put(b + 0x248, 0x400, 4);
    le_put(b + 0x24c, n, 4);
    le_put(b + 0x250, 0x1234, 8); /* setup_data: must not survive */
    le_put(b + 0x258, LOAD, 8);
    le_put(b + 0x260, 4 * MIB, 4);
    memcpy(b + SETUP + 0x400, payload, n);
    b[SETUP + 0x200] = 0xf4;
    *len = SETUP + body;
    return b;
}

static int boot(const void *kernel, size_t len)
{
    struct boot_conf c = {.kernel = kernel, .kernel_len = len, .cmdline = "quiet"};

    return boot_load(&m, &c, bsp, &e);
}

static uint64_t ram(uint64_t gpa, unsigned n)
{
    uint8_t b[8];

    assert_int_equal(mem_read(m.mem, gpa, b, n), 0);
    return le_get(b, n);
}

static void assert_refused(const void *kernel, size_t len, int code, const char *says)
{
    assert_int_equal(boot(kernel, len), code);
    if (!strstr(e.msg, says))
        fail_msg("'%s' does not say '%s'", e.msg, says);
}

/* --- good kernels ------------------------------------------------------------ */

static void assert_long_entry(uint64_t rip)
{
    assert_int_equal(bsp->rip, rip);
    assert_int_equal(bsp->gpr[RSI], BOOT_PARAMS);
    assert_int_equal(bsp->efer & (EFER_LME | EFER_LMA), EFER_LME | EFER_LMA);
    assert_true(bsp->cr0 & CR0_PG);
    assert_true(bsp->seg[SEG_CS].attr & SEG_L);
    assert_int_equal(bsp->seg[SEG_CS].sel, 0x10);
    assert_int_equal(bsp->seg[SEG_DS].sel, 0x18);
    assert_int_equal(bsp->rflags, FL_FIXED);
    assert_int_equal(ram(BOOT_GDT + 0x10, 8), 0x00af9b000000ffff);
    assert_int_equal(ram(BOOT_GDT + 0x18, 8), 0x00cf93000000ffff);
    assert_int_equal(ram(BOOT_RESET, 4), 0x64e6feb0); /* a jump to the BIOS resets */
}

/* Walk the page tables by hand. */
static uint64_t translate(uint64_t va)
{
    uint64_t e4 = ram(bsp->cr3 + 8 * (va >> 39 & 511), 8);
    uint64_t e3 = ram((e4 & ~0xfffull) + 8 * (va >> 30 & 511), 8);
    uint64_t e2 = ram((e3 & ~0xfffull) + 8 * (va >> 21 & 511), 8);

    assert_true(e4 & e3 & e2 & 1);
    assert_true(e2 & 0x80);
    return (e2 & ~0x1fffffull) + (va & 0x1fffff);
}

static void a_plain_elf_enters_long_mode(void **state)
{
    struct elf_file f = an_elf();

    assert_int_equal(boot(&f, sizeof(f)), 0);
    assert_long_entry(LOAD + 4);
    assert_int_equal(ram(LOAD, 4), 0x04030201);
    for (uint64_t va = 0x1234; va < 4ull << 30; va += 0x12345678)
        assert_int_equal(translate(va), va);
    char cmdline[6];
    assert_int_equal(ram(BOOT_PARAMS + 0x228, 4), BOOT_CMDLINE);
    assert_int_equal(mem_read(m.mem, BOOT_CMDLINE, cmdline, 6), 0);
    assert_string_equal(cmdline, "quiet");
    assert_int_equal(ram(BOOT_PARAMS + 0x202, 4), 0x53726448);
    assert_int_equal(ram(BOOT_PARAMS + 0x70, 8), BOOT_ACPI);
    assert_int_equal(ram(BOOT_ACPI, 4), 0x20445352); /* "RSD " */
}

static void a_virtual_entry_becomes_physical(void **state)
{
    struct elf_file f = an_elf();

    f.h.e_entry = 0xffffffff81000008;
    assert_int_equal(boot(&f, sizeof(f)), 0);
    assert_int_equal(bsp->rip, LOAD + 8);
}

static void a_pvh_note_enters_32_bits_with_a_start_info(void **state)
{
    struct elf_file f = an_elf();
    struct boot_conf c = {
        .kernel = &f, .kernel_len = sizeof(f), .initrd = "initrd", .initrd_len = 6, .cmdline = "x"};

    f.ph[1].p_type = PT_NOTE;
    assert_int_equal(boot_load(&m, &c, bsp, &e), 0);
    assert_int_equal(bsp->rip, 0x01000010);
    assert_int_equal(bsp->gpr[RBX], BOOT_START_INFO);
    assert_int_equal(bsp->cr0, CR0_PE | CR0_ET);
    assert_int_equal(bsp->efer, 0);
    assert_true(bsp->seg[SEG_CS].attr & SEG_DB);
    assert_int_equal(ram(BOOT_START_INFO, 4), 0x336ec578);
    assert_int_equal(ram(BOOT_START_INFO + 12, 4), 1);
    uint64_t mod = ram(BOOT_START_INFO + 16, 8);
    assert_int_equal(ram(ram(mod, 8), 4), 0x74696e69);
    assert_int_equal(ram(mod + 8, 8), 6);
    assert_int_equal(ram(ram(BOOT_START_INFO + 24, 8), 1), 'x');
    uint64_t map = ram(BOOT_START_INFO + 40, 8);
    assert_int_equal(ram(BOOT_START_INFO + 48, 4), 4);
    assert_int_equal(ram(map + 3 * 24, 8), BOOT_HIGH);
    assert_int_equal(ram(map + 3 * 24 + 8, 8), RAM - BOOT_HIGH);
}

/* --- bzImages ------------------------------------------------------------------ */

static size_t pack(const char *how, const void *src, size_t n, uint8_t *dst, size_t cap)
{
    if (strcmp(how, "gzip") == 0) {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)src,
                      .avail_in = (uInt)n,
                      .next_out = dst,
                      .avail_out = (uInt)cap};
        assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        deflateEnd(&z);
        return z.total_out; /* ends with the size by itself */
    }
    size_t out = 0;
    if (strcmp(how, "xz") == 0) {
        assert_int_equal(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, NULL, src, n, dst, &out, cap),
                         LZMA_OK);
    } else if (strcmp(how, "lzma") == 0) {
        lzma_stream s = LZMA_STREAM_INIT;
        lzma_options_lzma opt;
        lzma_lzma_preset(&opt, 6);
        assert_int_equal(lzma_alone_encoder(&s, &opt), LZMA_OK);
        s.next_in = src;
        s.avail_in = n;
        s.next_out = dst;
        s.avail_out = cap;
        assert_int_equal(lzma_code(&s, LZMA_FINISH), LZMA_STREAM_END);
        out = s.total_out;
        lzma_end(&s);
    } else if (strcmp(how, "zstd") == 0) {
        out = ZSTD_compress(dst, cap, src, n, 3);
        assert_false(ZSTD_isError(out));
    } else {
        int r = LZ4_compress_default(src, (char *)dst + 8, (int)n, (int)cap - 8);
        assert_true(r > 0);
        le_put(dst, 0x184c2102, 4);
        le_put(dst + 4, (uint64_t)r, 4);
        out = 8 + (size_t)r;
    }
    le_put(dst + out, n, 4);
    return out + 4;
}

static void each_compression_is_unpacked_on_the_host(void **state)
{
    static const char *const how[] = {"gzip", "xz", "lzma", "zstd", "lz4"};
    struct elf_file f = an_elf();

    for (size_t i = 0; i < ARRAY_LEN(how); i++) {
        uint8_t payload[4096];
        size_t n = pack(how[i], &f, sizeof(f), payload, sizeof(payload)), len;
        uint8_t *bz = a_bzimage(payload, n, &len);

        assert_int_equal(mem_fill(m.mem, LOAD, 0, 4096), 0);
        if (boot(bz, len) < 0)
            fail_msg("%s: %s", how[i], e.msg);
        assert_long_entry(LOAD + 4);
        assert_int_equal(ram(LOAD, 4), 0x04030201);
        assert_int_equal(ram(BOOT_PARAMS + 0x1f1, 1), 4);
        assert_int_equal(ram(BOOT_PARAMS + 0x210, 1), 0xff);
        assert_int_equal(ram(BOOT_PARAMS + 0x250, 8), 0);

        /* Every damage is told from success, none harms. */
        for (size_t at = 0; at < n; at++) {
            bz[SETUP + 0x400 + at] ^= 0x55;
            int r = boot(bz, len);
            assert_true(r == 0 || r == -EBADMSG || r == -ENOEXEC || r == -E2BIG || r == -ENOMEM);
            bz[SETUP + 0x400 + at] ^= 0x55;
        }
        free(bz);
    }
}

static void an_unknown_compression_is_left_to_the_kernel(void **state)
{
    uint8_t payload[64] = "BZh9";
    size_t len;
    uint8_t *bz = a_bzimage(payload, sizeof(payload), &len);

    assert_int_equal(boot(bz, len), 0);
    assert_long_entry(LOAD + 0x200);
    assert_int_equal(ram(LOAD + 0x200, 1), 0xf4);
    free(bz);
}

static void a_bomb_is_refused(void **state)
{
    uint8_t payload[64] = {0x28, 0xb5, 0x2f, 0xfd};
    size_t len;
    uint8_t *bz;

    le_put(payload + 60, VMLINUX_MAX + 1u, 4);
    bz = a_bzimage(payload, sizeof(payload), &len);
    assert_refused(bz, len, -E2BIG, "unpacks to 512 MiB");
    free(bz);
}

/* --- the rest of the machine ---------------------------------------------------- */

static void ram_above_4_gib_is_in_the_map(void **state)
{
    struct elf_file f = an_elf();

    mem_free(m.mem);
    m.mem = mem_new(5ull << 30, NULL);
    assert_non_null(m.mem);
    assert_int_equal(boot(&f, sizeof(f)), 0);
    assert_int_equal(ram(BOOT_PARAMS + 0x1e8, 1), 5);
    assert_int_equal(ram(BOOT_PARAMS + 0x2d0 + 3 * 20 + 8, 8), MEM_LOW_MAX - BOOT_HIGH);
    assert_int_equal(ram(BOOT_PARAMS + 0x2d0 + 4 * 20, 8), MEM_HIGH_BASE);
    assert_int_equal(ram(BOOT_PARAMS + 0x2d0 + 4 * 20 + 8, 8), 2ull << 30);
}

static void an_initrd_lies_at_the_top_and_must_fit(void **state)
{
    static uint8_t initrd[16 * MIB];
    struct elf_file f = an_elf();
    struct boot_conf c = {
        .kernel = &f, .kernel_len = sizeof(f), .initrd = initrd, .initrd_len = 5001, .cmdline = ""};

    initrd[0] = 0x77;
    assert_int_equal(boot_load(&m, &c, bsp, &e), 0);
    assert_int_equal(ram(BOOT_PARAMS + 0x218, 4), RAM - 0x2000);
    assert_int_equal(ram(BOOT_PARAMS + 0x21c, 4), 5001);
    assert_int_equal(ram(RAM - 0x2000, 1), 0x77);
    c.initrd_len = sizeof(initrd) - 0x3000;
    assert_int_equal(boot_load(&m, &c, bsp, &e), 0);
    c.initrd_len++;
    assert_int_equal(boot_load(&m, &c, bsp, &e), -E2BIG);
    assert_non_null(strstr(e.msg, "initrd of 16 MiB does not fit beside the kernel"));
}

static void devices_go_on_the_command_line_when_asked(void **state)
{
    struct elf_file f = an_elf();
    char text[128], longest[BOARD_CMDLINE_MAX + 1];
    struct boot_conf c = {
        .kernel = &f, .kernel_len = sizeof(f), .cmdline = "quiet", .mmio_on_cmdline = true};

    m.n_virtio = 2;
    m.virtio[0] = (struct boot_virtio){0xd0000000, 0x1000, 5};
    m.virtio[1] = (struct boot_virtio){0xd0001000, 0x1000, 6};
    assert_int_equal(boot_load(&m, &c, bsp, &e), 0);
    assert_int_equal(mem_read(m.mem, BOOT_CMDLINE, text, sizeof(text)), 0);
    assert_string_equal(text, "virtio_mmio.device=4K@0xd0000000:5 "
                              "virtio_mmio.device=4K@0xd0001000:6 quiet");
    memset(longest, 'a', sizeof(longest));
    longest[BOARD_CMDLINE_MAX] = 0;
    c.cmdline = longest;
    assert_int_equal(boot_load(&m, &c, bsp, &e), -E2BIG);
    c.mmio_on_cmdline = false;
    assert_int_equal(boot_load(&m, &c, bsp, &e), -E2BIG);
    assert_non_null(strstr(e.msg, "command line of 2048 bytes is too long: the limit is 2047"));
    longest[BOARD_CMDLINE_MAX - 1] = 0;
    assert_int_equal(boot_load(&m, &c, bsp, &e), 0);
}

/* --- bad kernels ------------------------------------------------------------------ */

static void what_is_no_kernel_is_told_what_it_is(void **state)
{
    struct elf_file f = an_elf();
    uint8_t image[64] = {0};

    assert_refused("hello, world", 12, -ENOEXEC, "is not a kernel: neither");
    assert_refused("", 0, -ENOEXEC, "is not a kernel");
    memcpy(image + 56, "ARM\x64", 4);
    assert_refused(image, sizeof(image), -ENOEXEC, "is a kernel for AArch64");
    f.h.e_machine = EM_AARCH64;
    assert_refused(&f, sizeof(f), -ENOEXEC, "is an ELF for AArch64, not x86-64");
    f.h.e_machine = EM_386;
    assert_refused(&f, sizeof(f), -ENOEXEC, "is a 32-bit kernel");
    f.h.e_machine = 9999;
    assert_refused(&f, sizeof(f), -ENOEXEC, "is an ELF for machine 9999");
    f = an_elf();
    f.h.e_type = ET_REL;
    assert_refused(&f, sizeof(f), -ENOEXEC, "not linked");
    f = an_elf();
    f.h.e_phnum = 0;
    assert_refused(&f, sizeof(f), -ENOEXEC, "without segments");
    f = an_elf();
    f.h.e_entry = 0x5000000;
    assert_refused(&f, sizeof(f), -ENOEXEC, "lies in no segment");
}

static void a_truncated_elf_is_told_so_at_every_length(void **state)
{
    struct elf_file f = an_elf();

    for (size_t n = 4; n < sizeof(f); n++)
        assert_refused(&f, n, -EBADMSG, "truncated");
}

static void a_truncated_bzimage_is_told_so(void **state)
{
    struct elf_file f = an_elf();
    uint8_t payload[4096];
    size_t n = pack("lz4", &f, sizeof(f), payload, sizeof(payload)), len;
    uint8_t *bz = a_bzimage(payload, n, &len);

    for (size_t k = 0x206; k < len - 16; k += 7)
        assert_refused(bz, k, -EBADMSG, "truncated");
    free(bz);
}

static void segments_that_do_not_fit_are_refused(void **state)
{
    struct elf_file f = an_elf();

    f.ph[0].p_memsz = RAM;
    assert_refused(&f, sizeof(f), -E2BIG, "does not fit into 32 MiB of RAM");
    f.ph[0].p_memsz = UINT64_MAX;
    assert_refused(&f, sizeof(f), -EBADMSG, "impossible address");
    f.ph[0].p_memsz = 1;
    assert_refused(&f, sizeof(f), -EBADMSG, "larger in the file");
    f = an_elf();
    f.ph[0].p_offset = UINT64_MAX;
    assert_refused(&f, sizeof(f), -EBADMSG, "truncated");
    f = an_elf();
    f.ph[0].p_paddr = BOOT_PARAMS;
    assert_refused(&f, sizeof(f), -ENOEXEC, "where the boot data is");
    f.ph[0].p_paddr = BOOT_ACPI;
    assert_refused(&f, sizeof(f), -ENOEXEC, "where the boot data is");
}

static void old_and_32_bit_bzimages_are_refused(void **state)
{
    uint8_t payload[64] = "BZh9";
    size_t len;
    uint8_t *bz = a_bzimage(payload, sizeof(payload), &len);

    le_put(bz + 0x236, 0, 2);
    assert_refused(bz, len, -ENOEXEC, "is a 32-bit kernel");
    le_put(bz + 0x206, 0x20a, 2);
    assert_refused(bz, len, -ENOEXEC, "boot protocol 2.10");
    le_put(bz + 0x206, 0x20f, 2);
    le_put(bz + 0x236, 1, 2);
    le_put(bz + 0x260, RAM, 4);
    assert_refused(bz, len, -E2BIG, "it needs 32 MiB at 0x1000000");
    free(bz);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_plain_elf_enters_long_mode),
        T(a_virtual_entry_becomes_physical),
        T(a_pvh_note_enters_32_bits_with_a_start_info),
        T(each_compression_is_unpacked_on_the_host),
        T(an_unknown_compression_is_left_to_the_kernel),
        T(a_bomb_is_refused),
        T(ram_above_4_gib_is_in_the_map),
        T(an_initrd_lies_at_the_top_and_must_fit),
        T(devices_go_on_the_command_line_when_asked),
        T(what_is_no_kernel_is_told_what_it_is),
        T(a_truncated_elf_is_told_so_at_every_length),
        T(a_truncated_bzimage_is_told_so),
        T(segments_that_do_not_fit_are_refused),
        T(old_and_32_bit_bzimages_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
