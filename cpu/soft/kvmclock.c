/* The paravirtual clock: Linux Documentation/virt/kvm/x86/msr.rst, struct pvclock_vcpu_time_info
 * and pvclock_wall_clock. The machine's TSC runs at one rate on all vCPUs, so the page is filled
 * once and says so (PVCLOCK_TSC_STABLE_BIT). */
#include "cpu/soft/sysreg.h"

#include <string.h>

enum { TIME_INFO_BYTES = 32, WALL_BYTES = 12, TSC_STABLE = 1 };

static void put32(uint8_t *p, uint32_t x)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(x >> (8 * i));
}

static void put64(uint8_t *p, uint64_t x)
{
    put32(p, (uint32_t)x);
    put32(p + 4, (uint32_t)(x >> 32));
}

/* ns = (ticks << shift) * mul >> 32 */
static void scale(uint64_t khz, uint32_t *mul, int8_t *shift)
{
    uint64_t hz = khz * 1000;
    int s = 0;

    while (hz > 2000000000ull) {
        hz >>= 1;
        s--;
    }
    while (hz <= 1000000000ull && hz) {
        hz <<= 1;
        s++;
    }
    /* hz is now in (1e9, 2e9]: the quotient fits 32 bits */
    *mul = hz ? (uint32_t)((1000000000ull << 32) / hz) : 0;
    *shift = (int8_t)s;
}

void kvmclock_update_system(struct vcpu *v)
{
    struct soft_vm *vm = v->vm;
    gpa_t gpa = v->s.kvmclock_system & ~1ull;
    uint8_t info[TIME_INFO_BYTES] = {0};
    uint8_t version[4];
    uint32_t mul;
    int8_t shift;

    if (!(v->s.kvmclock_system & 1))
        return;
    if (mem_read(vm->c.mem, gpa, version, sizeof(version)) < 0)
        return; /* not RAM: the guest's mistake, it will read nothing */
    uint32_t seq = (uint32_t)version[0] | (uint32_t)version[1] << 8 | (uint32_t)version[2] << 16 |
                   (uint32_t)version[3] << 24;
    seq = (seq | 1) + 2; /* odd: under way */
    scale(vm->c.clock->tsc_khz, &mul, &shift);
    /* Time is the machine's TSC in ns, by the guest's own arithmetic: pages filled at different
     * moments then agree to the nanosecond, as TSC_STABLE promises. */
    uint64_t tsc = clock_tsc(vm->c.clock);
    uint64_t shifted = shift < 0 ? tsc >> -shift : tsc << shift;
    put32(info, seq);
    put64(info + 8, tsc + v->s.tsc_off);
    put64(info + 16, (uint64_t)((unsigned __int128)shifted * mul >> 32));
    put32(info + 24, mul);
    info[28] = (uint8_t)shift;
    info[29] = TSC_STABLE;
    if (mem_write(vm->c.mem, gpa, info, sizeof(info)) < 0)
        return;
    put32(info, seq + 1);
    (void)!mem_write(vm->c.mem, gpa, info, 4);
}

void kvmclock_update_wall(struct vcpu *v)
{
    struct soft_vm *vm = v->vm;
    gpa_t gpa = v->s.kvmclock_wall;
    uint8_t info[WALL_BYTES] = {0};
    uint64_t boot_ns = clock_wall_ns(vm->c.clock) - clock_ns(vm->c.clock);

    if (!gpa)
        return;
    put32(info, 2);
    put32(info + 4, (uint32_t)(boot_ns / 1000000000));
    put32(info + 8, (uint32_t)(boot_ns % 1000000000));
    (void)!mem_write(vm->c.mem, gpa, info, sizeof(info));
}
