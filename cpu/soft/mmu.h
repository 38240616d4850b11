/* cpu/soft/mmu.h - paging, the software TLB, and every access to guest-linear
 * memory by the software engines. Source: SDM vol 3A, chapter 4 "Paging".
 *
 * A load or store on the fast path is a TLB lookup, a compare and a host access;
 * aligned accesses within a page are atomic as on hardware. The slow path walks,
 * checks rights (R/W, U/S, NX, SMEP, SMAP, reserved bits), sets A and D by compare-and-swap,
 * fills the TLB, splits page crossings, sends MMIO out, and handles writes to pages
 * that hold code (mem.h code map) or are watched by the dirty log.
 * All return SOFT_OK, SOFT_FAULT or SOFT_EXIT. Stores are all-or-nothing
 * across a page crossing: both pages are checked first. */
#ifndef CPU_SOFT_MMU_H
#define CPU_SOFT_MMU_H

#include <string.h>
#include "cpu/soft/soft.h"

enum mmu_access {
    MMU_READ = 0,
    MMU_WRITE = 1,
    MMU_EXEC = 2,
    MMU_RMW = 3,      /* read now, write follows: needs write rights; #PF says W */
    MMU_IMPLICIT = 4, /* | supervisor whatever the CPL: GDT, IDT, TSS; SMAP always enforced
                       * as SDM 4.6.1 says for implicit accesses */
    MMU_USER = 8,     /* | as CPL 3: stacks of an outer ring */
    MMU_SUPER = 16,   /* | explicit supervisor access whatever the CPL: stacks of an inner ring */
};

/* Any length up to 64 bytes (may cross a page). `set` = one of v->tlb[]. */
int mmu_read_slow(struct vcpu *v, gva_t gva, void *dst, unsigned len, unsigned access);
int mmu_write_slow(struct vcpu *v, gva_t gva, const void *src, unsigned len, unsigned access);

/* Check that [gva, gva+len) may be accessed so (faults as the access would) and
 * set A/D. No data moves; MMIO is fine. len <= 4096. */
int mmu_probe(struct vcpu *v, gva_t gva, unsigned len, unsigned access);

/* For LOCKed read-modify-write: host pointer for len bytes at gva, writable, when it is
 * RAM and one page holds it. *hva NULL when it is MMIO, crosses pages, or holds code: the caller
 * then does read, compute, write under soft_world_stop(). Marks dirty. */
int mmu_rmw_ptr(struct vcpu *v, gva_t gva, unsigned len, uint8_t **hva);

/* For string instructions and vector operands: host pointer to as many bytes as the page has at
 * gva (>= 1), or *hva NULL (MMIO, or a write to a page with code). *room = bytes up to the page's
 * end. */
int mmu_span(struct vcpu *v, gva_t gva, unsigned access, uint8_t **hva, unsigned *room);

/* A store of len bytes at gva, writable and within a page that holds code, touches no code: host
 * address for this one store, which is made before anything else. NULL: it may, or it does not go
 * to such a page. No faults are raised. */
uint8_t *mmu_write_beside(struct vcpu *v, gva_t gva, unsigned len);

/* Instruction fetch: gpa of the page of `rip` (linear); checks NX, SMEP, U/S. */
int mmu_fetch_page(struct vcpu *v, gva_t lin, gpa_t *page, const uint8_t **hva);

/* Did what was just looked up successfully for `access` come from a global page of the upper half?
 * A CR3 load does not change those. */
bool mmu_is_global(const struct vcpu *v, gva_t gva, unsigned access);

/* Bytes [gpa, gpa+len) within one page are being decoded by this VM's engine. Another CPU may
 * write them meanwhile, so in this order: take code_gen[page], read the bytes, decode, mark, read
 * the bytes again and start over if they differ. Not between MMU fast-path pointers and their use:
 * it may stop the world. */
void mmu_mark_code(struct vcpu *v, gpa_t gpa, unsigned len);
/* The same of 64-byte chunks, bits as mem_chunks(), of the page that holds `gpa`. */
void mmu_mark_chunks(struct vcpu *v, gpa_t gpa, uint64_t bits);

/* The host (a device) wrote [gpa, gpa+len): forget the code decoded there. Any thread. */
void mmu_code_written(struct soft_vm *vm, gpa_t gpa, size_t len);

/* Translate without side effects or faults (debugger, kick paths): -1 = not mapped. */
int64_t mmu_peek(struct vcpu *v, gva_t gva);

void mmu_flush_all(struct vcpu *v);             /* CR0.PG, CR4 paging bits, EFER.NXE */
void mmu_flush_nonglobal(struct vcpu *v);       /* CR3 load */
void mmu_flush_page(struct vcpu *v, gva_t gva); /* INVLPG */
void mmu_flush_write(struct vcpu *v); /* drop fast write rights (dirty log on, code marked) */

/* A set without an entry: for modes that allow no fast path. */
extern const struct tlb_entry mmu_no_fast_path[TLB_SIZE];

static inline const struct tlb_entry *mmu_slot(const struct vcpu *v, gva_t gva)
{
    return &v->cur_tlb[(gva >> MEM_PAGE_SHIFT) & (TLB_SIZE - 1)];
}

/* Guest memory as an object: unaligned, changed by other vCPUs at any time. */
typedef volatile uint8_t mmu_u8;
typedef volatile uint16_t __attribute__((aligned(1), may_alias)) mmu_u16;
typedef volatile uint32_t __attribute__((aligned(1), may_alias)) mmu_u32;
typedef volatile uint64_t __attribute__((aligned(1), may_alias)) mmu_u64;

/* Explicit accesses at the current privilege, 1, 2, 4, 8 bytes. `gva` is linear. */
#define MMU_FAST(bits)                                                             \
    static inline int mmu_ld##bits(struct vcpu *v, gva_t gva, uint##bits##_t *out) \
    {                                                                              \
        const struct tlb_entry *t = mmu_slot(v, gva);                              \
        if (__builtin_expect(t->rd == (gva & ~(gva_t)(MEM_PAGE - 1)) &&            \
                                 (gva & (MEM_PAGE - 1)) <= MEM_PAGE - bits / 8,    \
                             1)) {                                                 \
            *out = *(const mmu_u##bits *)(gva + t->addend);                        \
            return SOFT_OK;                                                        \
        }                                                                          \
        return mmu_read_slow(v, gva, out, bits / 8, MMU_READ);                     \
    }                                                                              \
    static inline int mmu_st##bits(struct vcpu *v, gva_t gva, uint##bits##_t val)  \
    {                                                                              \
        const struct tlb_entry *t = mmu_slot(v, gva);                              \
        if (__builtin_expect(t->wr == (gva & ~(gva_t)(MEM_PAGE - 1)) &&            \
                                 (gva & (MEM_PAGE - 1)) <= MEM_PAGE - bits / 8,    \
                             1)) {                                                 \
            *(mmu_u##bits *)(gva + t->addend) = val;                               \
            return SOFT_OK;                                                        \
        }                                                                          \
        return mmu_write_slow(v, gva, &val, bits / 8, MMU_WRITE);                  \
    }
MMU_FAST(8)
MMU_FAST(16)
MMU_FAST(32)
MMU_FAST(64)
#undef MMU_FAST

#endif
