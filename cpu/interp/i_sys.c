/* cpu/interp/i_sys.c - control and debug registers, MSRs, CPUID, TSC, interrupts flag, HLT, caches,
 * TLB, hypercalls. Source: SDM vol 2; hypercalls: Linux Documentation/virt/kvm/x86/hypercalls.rst.
 */
#include <sched.h>

#include "cpu/interp/operand.h"
#include "cpu/interp/pick.h"
#include "cpu/soft/sysreg.h"

enum { KVM_ENOSYS = 1000, KVM_EPERM = 1 }; /* what KVM answers, negated, in RAX */

static int general_protection(struct vcpu *v)
{
    return soft_exc_err(v, VEC_GP, 0);
}

#define KERNEL_ONLY(v)                    \
    do {                                  \
        if (soft_cpl(v))                  \
            return general_protection(v); \
    } while (0)

/* For those that may change what comes next: RIP is theirs to move (I_ENDS). */
static int moved(struct vcpu *v, const struct insn *i, int rc)
{
    if (!rc)
        v->s.rip = insn_next(v, i);
    return rc;
}

/* --- registers -------------------------------------------------------------- */

/* MOV to and from CRn, DRn: a GPR of the mode's full width, the other's number in x. */
static int mov_to_cr(struct vcpu *v, const struct insn *i)
{
    KERNEL_ONLY(v);
    uint64_t next = insn_next(v, i), val = operand_reg(v, i->rb, i->opsize);
    int rc = sysreg_write_cr(v, i->x, val);

    if (!rc)
        v->s.rip = next; /* as the old mode counts */
    return rc;
}

static int mov_from_cr(struct vcpu *v, const struct insn *i)
{
    uint64_t val;

    KERNEL_ONLY(v);
    int rc = sysreg_read_cr(v, i->x, &val);
    if (!rc)
        operand_reg_put(v, i->ra, i->opsize, val);
    return rc;
}

static int mov_to_dr(struct vcpu *v, const struct insn *i)
{
    KERNEL_ONLY(v);
    return moved(v, i, sysreg_write_dr(v, i->x, operand_reg(v, i->rb, i->opsize)));
}

static int mov_from_dr(struct vcpu *v, const struct insn *i)
{
    uint64_t val;

    KERNEL_ONLY(v);
    int rc = sysreg_read_dr(v, i->x, &val);
    if (!rc)
        operand_reg_put(v, i->ra, i->opsize, val);
    return rc;
}

static int clts(struct vcpu *v, const struct insn *i)
{
    KERNEL_ONLY(v);
    return moved(v, i, sysreg_write_cr(v, 0, v->s.cr0 & ~(uint64_t)CR0_TS));
}

static int lmsw(struct vcpu *v, const struct insn *i)
{
    uint64_t val;

    KERNEL_ONLY(v);
    uint64_t next = insn_next(v, i);
    int rc = SOFT_OK;
    if (i->flags & I_MEM)
        rc = operand_load(v, i, 2, &val);
    else
        val = REG(16, v, i->ra);
    if (!rc)
        rc = sysreg_lmsw(v, (uint16_t)val);
    if (!rc)
        v->s.rip = next;
    return rc;
}

static int smsw(struct vcpu *v, const struct insn *i)
{
    if (v->s.cr4 & CR4_UMIP && soft_cpl(v))
        return general_protection(v);
    if (i->flags & I_MEM)
        return operand_store(v, i, 2, v->s.cr0);
    operand_reg_put(v, i->ra, i->opsize, v->s.cr0);
    return SOFT_OK;
}

static int rdmsr(struct vcpu *v, const struct insn *i)
{
    uint64_t val;

    KERNEL_ONLY(v);
    int rc = msr_read(v, (uint32_t)v->s.gpr[RCX], &val);
    if (rc)
        return rc;
    v->s.gpr[RAX] = (uint32_t)val;
    v->s.gpr[RDX] = val >> 32;
    return SOFT_OK;
}

static int wrmsr(struct vcpu *v, const struct insn *i)
{
    KERNEL_ONLY(v);
    uint64_t val = v->s.gpr[RDX] << 32 | (uint32_t)v->s.gpr[RAX];
    return moved(v, i, msr_write(v, (uint32_t)v->s.gpr[RCX], val));
}

/* XGETBV of index 1 (in-use bits) is not offered. */
static int xgetbv(struct vcpu *v, const struct insn *i)
{
    if (!(v->s.cr4 & CR4_OSXSAVE))
        return soft_exc(v, VEC_UD);
    if ((uint32_t)v->s.gpr[RCX])
        return general_protection(v);
    v->s.gpr[RAX] = (uint32_t)v->s.xcr0;
    v->s.gpr[RDX] = v->s.xcr0 >> 32;
    return SOFT_OK;
}

static int xsetbv(struct vcpu *v, const struct insn *i)
{
    if (!(v->s.cr4 & CR4_OSXSAVE))
        return soft_exc(v, VEC_UD);
    KERNEL_ONLY(v);
    uint64_t val = v->s.gpr[RDX] << 32 | (uint32_t)v->s.gpr[RAX];
    return moved(v, i, sysreg_xsetbv(v, (uint32_t)v->s.gpr[RCX], val));
}

/* --- identification and time ---------------------------------------------------- */

static int cpuid(struct vcpu *v, const struct insn *i)
{
    static const uint8_t to[4] = {RAX, RBX, RCX, RDX};
    uint32_t out[4];

    sysreg_cpuid(v, (uint32_t)v->s.gpr[RAX], (uint32_t)v->s.gpr[RCX], out);
    for (unsigned n = 0; n < 4; n++)
        v->s.gpr[to[n]] = out[n];
    return SOFT_OK;
}

static int rdtsc(struct vcpu *v, const struct insn *i)
{
    if (v->s.cr4 & CR4_TSD && soft_cpl(v))
        return general_protection(v);
    uint64_t tsc = sysreg_tsc(v);
    v->s.gpr[RAX] = (uint32_t)tsc;
    v->s.gpr[RDX] = tsc >> 32;
    if (i->op == ZYDIS_MNEMONIC_RDTSCP)
        v->s.gpr[RCX] = (uint32_t)v->s.tsc_aux;
    return SOFT_OK;
}

static int rdpid(struct vcpu *v, const struct insn *i)
{
    REG_PUT64(v, i->ra, (uint32_t)v->s.tsc_aux);
    return SOFT_OK;
}

/* No performance counters are offered: every index is out of range. */
static int rdpmc(struct vcpu *v, const struct insn *i)
{
    return general_protection(v);
}

/* --- interrupts --------------------------------------------------------------------- */

static bool may_change_if(const struct vcpu *v)
{
    return soft_cpl(v) <= (v->s.rflags & FL_IOPL) >> 12;
}

static int cli(struct vcpu *v, const struct insn *i)
{
    if (!may_change_if(v))
        return general_protection(v);
    v->s.rflags &= ~(uint64_t)FL_IF;
    return SOFT_OK;
}

/* Interrupts stay off for one more instruction, if they were off. */
static int sti(struct vcpu *v, const struct insn *i)
{
    if (!may_change_if(v))
        return general_protection(v);
    v->s.rip = insn_next(v, i);
    if (v->s.rflags & FL_IF)
        return SOFT_OK;
    v->s.rflags |= FL_IF;
    v->s.sti_shadow = true;
    return SOFT_BREAK;
}

static int hlt(struct vcpu *v, const struct insn *i)
{
    KERNEL_ONLY(v);
    v->s.rip = insn_next(v, i);
    v->s.mp = MP_HALTED;
    return SOFT_BREAK;
}

/* STAC, CLAC: the next access already goes by the new rule (v->cur_tlb). */
static int alignment_flag(struct vcpu *v, const struct insn *i)
{
    if (soft_cpl(v))
        return soft_exc(v, VEC_UD);
    operand_flag_put(v, FL_AC, i->op == ZYDIS_MNEMONIC_STAC);
    soft_mode_update(v);
    return SOFT_OK;
}

/* --- caches and TLB ------------------------------------------------------------------- */

static int invlpg(struct vcpu *v, const struct insn *i)
{
    gva_t lin;

    KERNEL_ONLY(v);
    /* A non-canonical address does nothing; segment limits do not matter. */
    uint64_t ea = operand_ea(v, i);
    if (i->adsize < 8)
        ea &= operand_mask(i->adsize);
    lin = ea + ((v->mode & MODE_CS) == MODE_CS64 && i->seg < SEG_FS ? 0 : v->s.seg[i->seg].base);
    if (operand_canonical(lin))
        mmu_flush_page(v, lin);
    return moved(v, i, SOFT_OK);
}

enum { INVPCID_ADDRESS, INVPCID_CONTEXT, INVPCID_ALL, INVPCID_NONGLOBAL };

static int invpcid(struct vcpu *v, const struct insn *i)
{
    uint64_t type, desc[2];
    gva_t lin;

    KERNEL_ONLY(v);
    type = operand_reg(v, i->ra, (v->mode & MODE_CS) == MODE_CS64 ? 8 : 4);
    int rc = operand_lin(v, i, 16, false, &lin);
    if (!rc)
        rc = operand_ld_slow(v, i, lin, desc, 16, MMU_READ);
    if (rc)
        return rc;
    if (type > INVPCID_NONGLOBAL || desc[0] >> 12)
        return general_protection(v);
    if (type <= INVPCID_CONTEXT && desc[0] && !(v->s.cr4 & CR4_PCIDE))
        return general_protection(v);
    if (type == INVPCID_ADDRESS && !operand_canonical(desc[1]))
        return general_protection(v);
    if (type == INVPCID_ADDRESS)
        mmu_flush_page(v, desc[1]);
    else if (type == INVPCID_ALL)
        mmu_flush_all(v);
    else
        mmu_flush_nonglobal(v);
    return moved(v, i, SOFT_OK);
}

/* Guest RAM is coherent: flushing a cache is only a permission check. */
static int wbinvd(struct vcpu *v, const struct insn *i)
{
    KERNEL_ONLY(v);
    return SOFT_OK;
}

static int clflush(struct vcpu *v, const struct insn *i)
{
    gva_t lin;
    int rc = operand_lin(v, i, 1, false, &lin);

    if (!rc && (v->mode & MODE_CS) == MODE_CS64 && !operand_canonical(lin))
        return soft_exc_err(v, i->seg == SEG_SS ? VEC_SS : VEC_GP, 0);
    return rc ? rc : mmu_probe(v, lin, 1, MMU_READ);
}

static int fence(struct vcpu *v, const struct insn *i)
{
    __asm__ volatile("mfence" ::: "memory");
    return SOFT_OK;
}

static int pause_insn(struct vcpu *v, const struct insn *i)
{
    /* A guest that spins for another vCPU lets it run: the host may have fewer CPUs than the
     * machine. */
    if (v->vm->n > 1)
        sched_yield();
    return SOFT_OK;
}

static int hypercall(struct vcpu *v, const struct insn *i)
{
    v->s.gpr[RAX] = (uint64_t)(soft_cpl(v) ? -KVM_EPERM : -KVM_ENOSYS);
    return SOFT_OK;
}

static int undefined(struct vcpu *v, const struct insn *i)
{
    return soft_exc(v, VEC_UD);
}

/* --- choosing --------------------------------------------------------------------------- */

static int pick_mov(struct pick *p)
{
    struct insn *i = p->i;
    ZydisRegister a = p->op[0].reg.value, b = p->op[1].reg.value;
    bool to = a >= ZYDIS_REGISTER_CR0 && a <= ZYDIS_REGISTER_DR15;
    ZydisRegister special = to ? a : b;

    i->opsize = p->z->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? 8 : 4;
    if (to)
        i->flags |= I_ENDS;
    if (special >= ZYDIS_REGISTER_DR0) {
        i->x = (uint16_t)(special - ZYDIS_REGISTER_DR0);
        i->fn = i->x > 7 ? undefined : to ? mov_to_dr : mov_from_dr;
        return 1;
    }
    i->x = (uint16_t)(special - ZYDIS_REGISTER_CR0);
    if (i->x != 0 && i->x != 2 && i->x != 3 && i->x != 4 && i->x != 8)
        return 0;
    i->fn = to ? mov_to_cr : mov_from_cr;
    return 1;
}

int sys_pick(struct pick *p)
{
    static const struct {
        uint16_t mnemonic;
        bool ends;
        insn_fn fn;
    } plain[] = {
        {ZYDIS_MNEMONIC_CLTS, true, clts},
        {ZYDIS_MNEMONIC_LMSW, true, lmsw},
        {ZYDIS_MNEMONIC_SMSW, false, smsw},
        {ZYDIS_MNEMONIC_RDMSR, false, rdmsr},
        {ZYDIS_MNEMONIC_WRMSR, true, wrmsr},
        {ZYDIS_MNEMONIC_XGETBV, false, xgetbv},
        {ZYDIS_MNEMONIC_XSETBV, true, xsetbv},
        {ZYDIS_MNEMONIC_CPUID, false, cpuid},
        {ZYDIS_MNEMONIC_RDTSC, false, rdtsc},
        {ZYDIS_MNEMONIC_RDTSCP, false, rdtsc},
        {ZYDIS_MNEMONIC_RDPID, false, rdpid},
        {ZYDIS_MNEMONIC_RDPMC, false, rdpmc},
        {ZYDIS_MNEMONIC_CLI, false, cli},
        {ZYDIS_MNEMONIC_STI, true, sti},
        {ZYDIS_MNEMONIC_HLT, true, hlt},
        {ZYDIS_MNEMONIC_STAC, false, alignment_flag},
        {ZYDIS_MNEMONIC_CLAC, false, alignment_flag},
        {ZYDIS_MNEMONIC_INVLPG, true, invlpg},
        {ZYDIS_MNEMONIC_INVPCID, true, invpcid},
        {ZYDIS_MNEMONIC_WBINVD, false, wbinvd},
        {ZYDIS_MNEMONIC_INVD, false, wbinvd},
        {ZYDIS_MNEMONIC_CLFLUSH, false, clflush},
        {ZYDIS_MNEMONIC_CLFLUSHOPT, false, clflush},
        {ZYDIS_MNEMONIC_CLWB, false, clflush},
        {ZYDIS_MNEMONIC_LFENCE, false, fence},
        {ZYDIS_MNEMONIC_MFENCE, false, fence},
        {ZYDIS_MNEMONIC_SFENCE, false, fence},
        {ZYDIS_MNEMONIC_PAUSE, false, pause_insn},
        {ZYDIS_MNEMONIC_VMCALL, false, hypercall},
        {ZYDIS_MNEMONIC_VMMCALL, false, hypercall},
    };
    struct insn *i = p->i;

    if (p->z->mnemonic == ZYDIS_MNEMONIC_MOV)
        return pick_mov(p);
    if (p->z->mnemonic == ZYDIS_MNEMONIC_SMSW)
        i->opsize = (uint8_t)(p->op[0].size / 8);
    for (unsigned n = 0; n < sizeof(plain) / sizeof(plain[0]); n++) {
        if (plain[n].mnemonic == p->z->mnemonic) {
            i->fn = plain[n].fn;
            i->flags |= plain[n].ends ? I_ENDS : 0;
            return 1;
        }
    }
    return 0;
}
