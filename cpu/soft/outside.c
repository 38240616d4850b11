/* Accesses that leave the CPU: MMIO and ports, with the replay rule of soft.h. */
#include "cpu/soft/soft.h"

#include <string.h>

#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/overlay.h"

static uint64_t ones(unsigned len)
{
    return len >= 8 ? UINT64_MAX : (1ull << (8 * len)) - 1;
}

/* True: the access was made before and its answer is in *val. Else the exit is in v->exit, unless
 * the access cannot leave: then it reads as ones, as where nothing answers. */
static bool replayed(struct vcpu *v, bool pio, gpa_t addr, unsigned len, bool write, uint64_t *val)
{
    struct mmio_log *l = &v->mmio;

    if (l->next < l->n) {
        unsigned i = l->next;

        if (l->a[i].pio == pio && l->a[i].gpa == addr && l->a[i].len == len &&
            l->a[i].write == write) {
            l->next++;
            if (!write)
                *val = l->a[i].val;
            return true;
        }
        l->n =
            l->next; /* the instruction changed under us (another CPU's doing): go on from here */
    }
    if (v->in_delivery || l->n == sizeof(l->a) / sizeof(l->a[0])) {
        if (!write)
            *val = ones(len);
        return true;
    }
    l->next = 0;
    v->exit_pending = true;
    return false;
}

int soft_mmio(struct vcpu *v, gpa_t gpa, unsigned len, bool write, uint64_t *val)
{
    if (v->overlay)
        return overlay_refuse(v->overlay);
    if (lapic_claims(v, gpa)) {
        unsigned off = gpa & (MEM_PAGE - 1);

        if (write)
            lapic_mmio_write(v, off, len, *val);
        else
            lapic_mmio_read(v, off, len, val);
        return SOFT_OK;
    }
    if (replayed(v, false, gpa, len, write, val))
        return SOFT_OK;
    v->exit->kind = CPU_EXIT_MMIO;
    v->exit->u.mmio.gpa = gpa;
    v->exit->u.mmio.len = (uint8_t)len;
    v->exit->u.mmio.write = write;
    v->exit->u.mmio.val = write ? *val & ones(len) : 0;
    return SOFT_EXIT;
}

/* I/O permission: SDM vol 1, 19.5.2. */
int soft_port_allowed(struct vcpu *v, uint16_t port, unsigned len)
{
    const struct x86_seg *tr = &v->s.tr;
    uint16_t map, bits;
    int r;

    if (!(v->mode & MODE_PE) || soft_cpl(v) <= (v->s.rflags & FL_IOPL) >> 12)
        return SOFT_OK;
    if ((tr->attr & SEG_UNUSABLE) || !(tr->attr & 8) || tr->limit < 0x67)
        return soft_exc_err(v, VEC_GP, 0);
    r = mmu_read_slow(v, tr->base + 0x66, &map, 2, MMU_READ | MMU_IMPLICIT);
    if (r)
        return r;
    /* Two bytes are always read: the map ends with a byte of ones. */
    if ((uint32_t)map + port / 8 + 1 > tr->limit)
        return soft_exc_err(v, VEC_GP, 0);
    r = mmu_read_slow(v, tr->base + map + port / 8, &bits, 2, MMU_READ | MMU_IMPLICIT);
    if (r)
        return r;
    if (bits >> (port & 7) & ((1u << len) - 1))
        return soft_exc_err(v, VEC_GP, 0);
    return SOFT_OK;
}

static int port_io(struct vcpu *v, uint16_t port, unsigned len, bool write, uint32_t *val)
{
    uint64_t x = *val;
    int r = soft_port_allowed(v, port, len);

    if (r)
        return r;
    if (v->overlay)
        return overlay_refuse(v->overlay);
    if (replayed(v, true, port, len, write, &x)) {
        *val = (uint32_t)x;
        return SOFT_OK;
    }
    v->pio_data = write ? *val & (uint32_t)ones(len) : 0;
    v->exit->kind = CPU_EXIT_PIO;
    v->exit->u.pio.port = port;
    v->exit->u.pio.len = (uint8_t)len;
    v->exit->u.pio.write = write;
    v->exit->u.pio.count = 1;
    v->exit->u.pio.data = &v->pio_data;
    return SOFT_EXIT;
}

int soft_in(struct vcpu *v, uint16_t port, unsigned len, uint32_t *val)
{
    *val = 0;
    return port_io(v, port, len, false, val);
}

int soft_out(struct vcpu *v, uint16_t port, unsigned len, uint32_t val)
{
    return port_io(v, port, len, true, &val);
}

void soft_answered(struct vcpu *v, const struct cpu_exit *x)
{
    struct mmio_log *l = &v->mmio;
    unsigned i = l->n;

    v->exit_pending = false;
    l->a[i].pio = x->kind == CPU_EXIT_PIO;
    if (l->a[i].pio) {
        l->a[i].gpa = x->u.pio.port;
        l->a[i].len = x->u.pio.len;
        l->a[i].write = x->u.pio.write;
        l->a[i].val = v->pio_data & ones(x->u.pio.len);
    } else {
        l->a[i].gpa = x->u.mmio.gpa;
        l->a[i].len = x->u.mmio.len;
        l->a[i].write = x->u.mmio.write;
        l->a[i].val = x->u.mmio.val & ones(x->u.mmio.len);
    }
    l->n++;
    l->next = 0;
}
