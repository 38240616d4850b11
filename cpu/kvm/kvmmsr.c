#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <x86intrin.h>

#include "base/cleanup.h"

enum msr_need { NEEDED, IF_KNOWN };
#define F(field) offsetof(struct cpu_state, field)
enum { MSR_TSC = 0x10, MSR_TSC_DEADLINE = 0x6e0 };

/* SDM vol 4; Linux Documentation/virt/kvm/x86/msr.rst. IF_KNOWN: of no consequence to a guest whose
 * CPUID does not offer it, and then some KVMs do not have it. The deadline comes last: it needs the
 * LAPIC and the TSC as they will be. MSR_KVM_ASYNC_PF_EN is not here: "held, no effect", while KVM
 * would take it at its word. */
static const struct {
    uint32_t idx;
    uint32_t at; /* of a uint64_t in struct cpu_state */
    enum msr_need need;
} msrs[] = {
    {0xc0000081, F(star), NEEDED},
    {0xc0000082, F(lstar), NEEDED},
    {0xc0000083, F(cstar), NEEDED},
    {0xc0000084, F(sfmask), NEEDED},
    {0xc0000102, F(kernel_gs_base), NEEDED},
    {0xc0000103, F(tsc_aux), IF_KNOWN},
    {0x174, F(sysenter_cs), NEEDED},
    {0x175, F(sysenter_esp), NEEDED},
    {0x176, F(sysenter_eip), NEEDED},
    {0x277, F(pat), NEEDED},
    {0x1a0, F(misc_enable), IF_KNOWN},
    {0x3b, F(tsc_adjust), IF_KNOWN},
    {0x48, F(spec_ctrl), IF_KNOWN},
    {0x2ff, F(mtrr_def), IF_KNOWN},
    {0x250, F(mtrr_fix[0]), IF_KNOWN},
    {0x258, F(mtrr_fix[1]), IF_KNOWN},
    {0x259, F(mtrr_fix[2]), IF_KNOWN},
    {0x268, F(mtrr_fix[3]), IF_KNOWN},
    {0x269, F(mtrr_fix[4]), IF_KNOWN},
    {0x26a, F(mtrr_fix[5]), IF_KNOWN},
    {0x26b, F(mtrr_fix[6]), IF_KNOWN},
    {0x26c, F(mtrr_fix[7]), IF_KNOWN},
    {0x26d, F(mtrr_fix[8]), IF_KNOWN},
    {0x26e, F(mtrr_fix[9]), IF_KNOWN},
    {0x26f, F(mtrr_fix[10]), IF_KNOWN},
    {0x200, F(mtrr_base[0]), IF_KNOWN},
    {0x201, F(mtrr_mask[0]), IF_KNOWN},
    {0x202, F(mtrr_base[1]), IF_KNOWN},
    {0x203, F(mtrr_mask[1]), IF_KNOWN},
    {0x204, F(mtrr_base[2]), IF_KNOWN},
    {0x205, F(mtrr_mask[2]), IF_KNOWN},
    {0x206, F(mtrr_base[3]), IF_KNOWN},
    {0x207, F(mtrr_mask[3]), IF_KNOWN},
    {0x208, F(mtrr_base[4]), IF_KNOWN},
    {0x209, F(mtrr_mask[4]), IF_KNOWN},
    {0x20a, F(mtrr_base[5]), IF_KNOWN},
    {0x20b, F(mtrr_mask[5]), IF_KNOWN},
    {0x20c, F(mtrr_base[6]), IF_KNOWN},
    {0x20d, F(mtrr_mask[6]), IF_KNOWN},
    {0x20e, F(mtrr_base[7]), IF_KNOWN},
    {0x20f, F(mtrr_mask[7]), IF_KNOWN},
    {0x4b564d00, F(kvmclock_wall), IF_KNOWN},
    {0x4b564d01, F(kvmclock_system), IF_KNOWN},
    {0x4b564d05, F(kvm_poll_control), IF_KNOWN},
    {MSR_TSC_DEADLINE, F(tsc_deadline), NEEDED},
};
#undef F
_Static_assert(ARRAY_LEN(msrs) <= KVM_MSRS, "kvm_cpu.msr_absent and struct msr_call");

/* struct kvm_msrs with room. */
struct msr_call {
    uint32_t nmsrs, pad;
    struct kvm_msr_entry entry[KVM_MSRS];
};
_Static_assert(offsetof(struct msr_call, entry) == offsetof(struct kvm_msrs, entries),
               "the kernel's layout");

static uint64_t msr_field(const struct cpu_state *s, unsigned row)
{
    uint64_t v;

    memcpy(&v, (const uint8_t *)s + msrs[row].at, sizeof(v));
    return v;
}

/* The kernel stops at the first MSR it refuses and says how many it did (api 4.18, 4.19): go on
 * behind those that do not matter. */
int kvmmsr_put(struct kvm_cpu *v, const struct cpu_state *s, const struct cpu_state *was,
               struct err *e)
{
    for (unsigned i = 0; i < ARRAY_LEN(msrs);) {
        struct msr_call c = {0};
        unsigned row[KVM_MSRS];

        for (; i < ARRAY_LEN(msrs); i++) {
            uint64_t val = msr_field(s, i);

            if ((was && val == msr_field(was, i)) || v->msr_absent >> i & 1)
                continue;
            row[c.nmsrs] = i;
            c.entry[c.nmsrs++] = (struct kvm_msr_entry){.index = msrs[i].idx, .data = val};
        }
        if (!c.nmsrs)
            return 0;
        int r = kvm_ioctl(v->fd, KVM_SET_MSRS, &c);
        if (r < 0)
            return err_errno(e, r, "cpu %u: KVM_SET_MSRS", v->index);
        if ((unsigned)r == c.nmsrs)
            return 0;
        if (msrs[row[r]].need == NEEDED)
            return err_set(e, -EINVAL, "cpu %u: KVM refuses MSR %#x = %#llx", v->index,
                           c.entry[r].index, (unsigned long long)c.entry[r].data);
        i = row[r] + 1;
    }
    return 0;
}

int kvmmsr_get(struct kvm_cpu *v, struct cpu_state *s, struct err *e)
{
    for (;;) {
        struct msr_call c = {0};
        unsigned row[KVM_MSRS];

        for (unsigned i = 0; i < ARRAY_LEN(msrs); i++) {
            if (v->msr_absent >> i & 1)
                continue;
            row[c.nmsrs] = i;
            c.entry[c.nmsrs++].index = msrs[i].idx;
        }
        int r = kvm_ioctl(v->fd, KVM_GET_MSRS, &c);
        if (r < 0)
            return err_errno(e, r, "cpu %u: KVM_GET_MSRS", v->index);
        if ((unsigned)r < c.nmsrs) {
            v->msr_absent |= 1ull << row[r];
            continue;
        }
        for (unsigned i = 0; i < c.nmsrs; i++)
            memcpy((uint8_t *)s + msrs[row[i]].at, &c.entry[i].data, sizeof(uint64_t));
        return 0;
    }
}

/* --- TSC ------------------------------------------------------------------ */

static int tsc_attr(struct kvm_cpu *v, unsigned long req, uint64_t *off)
{
    struct kvm_device_attr a = {
        .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)off};

    return kvm_ioctl(v->fd, req, &a);
}

/* Before Linux 5.16 there is only the MSR, which says "now": good to the time of a system call. */
int kvmmsr_tsc_offset(struct kvm_cpu *v, uint64_t *off)
{
    struct msr_call c = {.nmsrs = 1, .entry[0].index = MSR_TSC};
    uint64_t val;

    if (tsc_attr(v, KVM_GET_DEVICE_ATTR, &val) == 0) {
        *off = val;
        return 0;
    }
    int r = kvm_ioctl(v->fd, KVM_GET_MSRS, &c);
    if (r < 0)
        return r;
    *off = c.entry[0].data - __rdtsc();
    return r == 1 ? 0 : -ENOTSUP;
}

int kvmmsr_set_tsc_offset(struct kvm_cpu *v, uint64_t off)
{
    struct msr_call c = {.nmsrs = 1, .entry[0].index = MSR_TSC};

    if (tsc_attr(v, KVM_SET_DEVICE_ATTR, &off) == 0)
        return 0;
    c.entry[0].data = __rdtsc() + off;
    int r = kvm_ioctl(v->fd, KVM_SET_MSRS, &c);
    if (r < 0)
        return r;
    return r == 1 ? 0 : -ENOTSUP;
}

/* The kernel armed its timer for the deadline by the old offset: write it again. */
int kvmmsr_shift_tsc(struct kvm_cpu *v, uint64_t by)
{
    struct msr_call c = {.nmsrs = 1, .entry[0].index = MSR_TSC_DEADLINE};
    uint64_t off;
    int r = kvmmsr_tsc_offset(v, &off);

    if (r == 0)
        r = kvm_ioctl(v->fd, KVM_GET_MSRS, &c);
    if (r >= 0)
        r = kvmmsr_set_tsc_offset(v, off + by);
    if (r == 0 && c.entry[0].data)
        r = kvm_ioctl(v->fd, KVM_SET_MSRS, &c);
    return r < 0 ? r : 0;
}
