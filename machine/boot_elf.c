/* ELF kernels. Source: System V ABI, "ELF"; Xen docs/misc/pvh.pandoc and public/elfnote.h. */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "base/cleanup.h"
#include "machine/boot.h"

enum {
    PHDRS_MAX = 64,
    NOTES_MAX = 256, /* entries looked at in one note segment */
    XEN_ELFNOTE_PHYS32_ENTRY = 18,
};

const char *boot_elf_machine(unsigned machine)
{
    static const struct {
        unsigned machine;
        const char *name;
    } names[] = {
        {EM_386, "i386"},
        {EM_X86_64, "x86-64"},
        {EM_AARCH64, "AArch64"},
        {EM_ARM, "Arm"},
        {EM_RISCV, "RISC-V"},
        {EM_PPC64, "PowerPC"},
        {EM_PPC, "PowerPC"},
        {EM_S390, "s390"},
        {EM_MIPS, "MIPS"},
        {EM_SPARCV9, "SPARC"},
        {EM_IA_64, "IA-64"},
        {EM_SPARC, "SPARC"},
        {EM_LOONGARCH, "LoongArch"},
    };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (names[i].machine == machine)
            return names[i].name;
    }
    return NULL;
}

bool elf_is(const uint8_t *p, size_t len)
{
    return len >= SELFMAG && memcmp(p, ELFMAG, SELFMAG) == 0;
}

/* Is it for us at all? The class and the byte order come first: all else depends on them. */
static int check_header(const uint8_t *p, size_t len, Elf64_Ehdr *h, struct err *e)
{
    if (len < EI_NIDENT + 4)
        return err_set(e, -EBADMSG, "is a truncated ELF file: %zu bytes", len);
    bool big = p[EI_DATA] == ELFDATA2MSB;
    unsigned machine = big ? (unsigned)p[18] << 8 | p[19] : (unsigned)p[19] << 8 | p[18];
    const char *name = boot_elf_machine(machine);

    if (machine == EM_386 || (machine == EM_X86_64 && p[EI_CLASS] == ELFCLASS32))
        return err_set(e, -ENOEXEC, "is a 32-bit kernel; a 64-bit one is needed");
    if (machine != EM_X86_64 && name)
        return err_set(e, -ENOEXEC, "is an ELF for %s, not x86-64", name);
    if (machine != EM_X86_64)
        return err_set(e, -ENOEXEC, "is an ELF for machine %u, not x86-64", machine);
    if (len < sizeof(*h))
        return err_set(e, -EBADMSG, "is a truncated ELF file: %zu bytes", len);
    memcpy(h, p, sizeof(*h));
    if (h->e_ident[EI_CLASS] != ELFCLASS64 || big)
        return err_set(e, -ENOEXEC, "is an ELF of a strange class or byte order");
    if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
        return err_set(e, -ENOEXEC, "is an ELF object that is not linked, not a kernel");
    if (h->e_phnum == 0)
        return err_set(e, -ENOEXEC, "is an ELF without segments, not a kernel");
    if (h->e_phnum > PHDRS_MAX || h->e_phentsize != sizeof(Elf64_Phdr))
        return err_set(e, -ENOEXEC, "has %u program headers of %u bytes", h->e_phnum,
                       h->e_phentsize);
    if (h->e_phoff > len || (size_t)h->e_phnum * sizeof(Elf64_Phdr) > len - h->e_phoff)
        return err_set(e, -EBADMSG, "is truncated: the program headers lie beyond %zu bytes", len);
    return 0;
}

static bool overlaps(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end)
{
    return a < b_end && b < a_end;
}

static int load_segment(struct mem *m, const uint8_t *p, size_t len, const Elf64_Phdr *ph,
                        unsigned n, struct err *e)
{
    if (ph->p_filesz > ph->p_memsz)
        return err_set(e, -EBADMSG, "segment %u is larger in the file than in memory", n);
    if (ph->p_offset > len || ph->p_filesz > len - ph->p_offset)
        return err_set(e, -EBADMSG, "is truncated: segment %u ends beyond its %zu bytes", n, len);
    if (ph->p_memsz > UINT64_MAX - ph->p_paddr)
        return err_set(e, -EBADMSG, "segment %u lies at an impossible address", n);
    uint64_t end = ph->p_paddr + ph->p_memsz;
    if (overlaps(ph->p_paddr, end, 0, BOOT_LOW_END) ||
        overlaps(ph->p_paddr, end, BOOT_EBDA, BOOT_HIGH))
        return err_set(e, -ENOEXEC, "segment %u at 0x%llx lies where the boot data is", n,
                       (unsigned long long)ph->p_paddr);
    struct iovec whole;
    if (mem_iov(m, ph->p_paddr, ph->p_memsz, &whole) < 0)
        return err_set(e, -E2BIG, "does not fit into %llu MiB of RAM: it reaches 0x%llx",
                       (unsigned long long)(mem_size(m) >> 20), (unsigned long long)end);
    return mem_write(m, ph->p_paddr, p + ph->p_offset, ph->p_filesz);
}

/* The 32-bit entry of Xen's PVH note in one note segment; 0 = not there. */
static uint32_t pvh_entry(const uint8_t *p, size_t len, const Elf64_Phdr *ph)
{
    size_t at = ph->p_offset, end;

    if (ph->p_offset > len || ph->p_filesz > len - ph->p_offset)
        return 0;
    end = at + ph->p_filesz;
    for (unsigned i = 0; i < NOTES_MAX && end - at >= sizeof(Elf64_Nhdr); i++) {
        Elf64_Nhdr n;

        memcpy(&n, p + at, sizeof(n));
        at += sizeof(n);
        size_t name = ((size_t)n.n_namesz + 3) & ~3ul, desc = ((size_t)n.n_descsz + 3) & ~3ul;
        if (name > end - at || desc > end - at - name)
            return 0;
        if (n.n_type == XEN_ELFNOTE_PHYS32_ENTRY && n.n_namesz == 4 && n.n_descsz >= 4 &&
            memcmp(p + at, "Xen", 4) == 0) {
            uint32_t entry;

            memcpy(&entry, p + at + name, sizeof(entry));
            return entry;
        }
        at += name + desc;
    }
    return 0;
}

/* Some kernels state their entry as a virtual address. */
static uint64_t physical(uint64_t entry, const Elf64_Phdr *ph)
{
    if (ph->p_vaddr != ph->p_paddr && entry >= ph->p_vaddr && entry - ph->p_vaddr < ph->p_memsz)
        return entry - ph->p_vaddr + ph->p_paddr;
    return entry;
}

int elf_load(const struct boot_machine *m, const uint8_t *p, size_t len, bool pvh,
             struct boot_image *out, struct err *e)
{
    Elf64_Ehdr h;
    Elf64_Phdr ph;
    uint32_t note = 0;
    bool entry_is_there = false;
    int r = check_header(p, len, &h, e);

    if (r < 0)
        return r;
    out->end = 0;
    out->entry = h.e_entry;
    for (unsigned i = 0; i < h.e_phnum; i++) {
        memcpy(&ph, p + h.e_phoff + i * sizeof(ph), sizeof(ph));
        if (ph.p_type == PT_NOTE && pvh && !note)
            note = pvh_entry(p, len, &ph);
        if (ph.p_type != PT_LOAD || ph.p_memsz == 0)
            continue;
        r = load_segment(m->mem, p, len, &ph, i, e);
        if (r < 0)
            return r;
        if (out->end < ph.p_paddr + ph.p_memsz)
            out->end = ph.p_paddr + ph.p_memsz;
        if (!entry_is_there)
            out->entry = physical(h.e_entry, &ph);
        entry_is_there = entry_is_there || out->entry - ph.p_paddr < ph.p_memsz;
    }
    if (!entry_is_there && !note)
        return err_set(e, -ENOEXEC, "its entry 0x%llx lies in no segment",
                       (unsigned long long)h.e_entry);
    out->how = note ? BOOT_PVH : BOOT_LONG;
    if (note)
        out->entry = note;
    return 0;
}
