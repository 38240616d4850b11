/* cpu/kvm/kvmapic.c - the kernel's local APIC by its page, for the interpreter's accesses: the
 * kernel has no call that makes one. A register is read from and written into its saved state; the
 * two whose writing does something, EOI and ICR, are done by hand. SDM vol 3A, 10.4 to 10.8. */
#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <string.h>

enum { BASE_EXTD = 1u << 10, BASE_EN = 1u << 11 };
enum { ID = 0x20, EOI = 0xb0, ISR = 0x100, TMR = 0x180, ICR = 0x300, ICR2 = 0x310, TMICT = 0x380 };
enum { TMCCT = 0x390 };
enum { ICR_LOGICAL = 1u << 11, ICR_SHORTHAND_SHIFT = 18, ICR_MESSAGE = 0xc7ff };
enum { NO_SHORTHAND, SELF, ALL, OTHERS };

static const uint64_t msi_base = 0xfee00000;

bool kvmapic_claims(const struct cpu_state *s, gpa_t gpa)
{
    return (s->apic_base & (BASE_EN | BASE_EXTD)) == BASE_EN &&
           (gpa & ~(gpa_t)0xfff) == (s->apic_base & ~(uint64_t)0xfff);
}

static uint32_t load(const struct kvm_lapic_state *k, unsigned off)
{
    uint32_t v;

    memcpy(&v, k->regs + off, sizeof(v));
    return v;
}

static void store(struct kvm_lapic_state *k, unsigned off, uint32_t v)
{
    memcpy(k->regs + off, &v, sizeof(v));
}

/* The highest in service ends. A level-triggered one is told to the board by the caller's way out:
 * the message's own EOI exit cannot happen any more. */
static void eoi(struct kvm_cpu *v, struct kvm_lapic_state *k)
{
    for (int n = 255; n >= 0; n--) {
        unsigned at = (unsigned)n / 32 * 16;
        uint32_t bit = 1u << (n % 32), isr = load(k, ISR + at);

        if (!(isr & bit))
            continue;
        store(k, ISR + at, isr & ~bit);
        if (load(k, TMR + at) & bit)
            v->eoi_due = n;
        return;
    }
}

static void send(struct kvm_cpu *v, const struct kvm_lapic_state *k, uint32_t icr)
{
    unsigned how = icr >> ICR_SHORTHAND_SHIFT & 3;
    struct msi m = {.data = icr & ICR_MESSAGE};

    if (how == NO_SHORTHAND) {
        m.addr = msi_base | (load(k, ICR2) >> 24) << 12 | (icr & ICR_LOGICAL ? 4 : 0);
        kvmirq_msi(v->vm, m);
        return;
    }
    for (unsigned i = 0; i < CPUS_MAX; i++) {
        bool self = i == v->index;

        if (!v->vm->cpu[i] || (how == SELF && !self) || (how == OTHERS && self))
            continue;
        m.addr = msi_base | i << 12;
        kvmirq_msi(v->vm, m);
    }
}

static int write_reg(struct kvm_cpu *v, struct kvm_lapic_state *k, unsigned off, uint32_t val)
{
    switch (off) {
    case ICR:
        store(k, ICR, val);
        break;
    case EOI:
        eoi(v, k);
        break;
    case TMICT: /* the count begins anew */
        store(k, TMCCT, val);
        store(k, TMICT, val);
        break;
    default:
        store(k, off, val);
        break;
    }
    int r = kvm_ioctl(v->fd, KVM_SET_LAPIC, k);
    if (r == 0 && off == ICR)
        send(v, k, val);
    return r;
}

int kvmapic_access(struct kvm_cpu *v, struct cpu_exit *x, struct err *e)
{
    unsigned off = x->u.mmio.gpa & 0xff0, shift = x->u.mmio.gpa & 15;
    struct kvm_lapic_state k;
    int r = kvm_ioctl(v->fd, KVM_GET_LAPIC, &k);

    /* Registers are 4 bytes at 16-byte steps, read in part, written whole: 10.4.1. */
    if (!x->u.mmio.write)
        x->u.mmio.val = 0;
    if (r == 0 && (x->u.mmio.gpa & 0xfff) < sizeof(k.regs) && shift + x->u.mmio.len <= 4) {
        if (!x->u.mmio.write)
            x->u.mmio.val = load(&k, off) >> (8 * shift);
        else if (x->u.mmio.len == 4 && off != ID)
            r = write_reg(v, &k, off, (uint32_t)x->u.mmio.val);
    }
    return r < 0 ? err_errno(e, r, "cpu %u: local APIC", v->index) : 0;
}
