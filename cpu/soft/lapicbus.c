/* Who gets a message: destinations of MSIs and IPIs. SDM vol 3A, 10.6 and 10.11. */
#include "cpu/soft/lapic.h"

#include "cpu/soft/lapicreg.h"

struct message {
    uint32_t dest;
    bool logical;
    bool wide;     /* a 32-bit x2APIC destination */
    unsigned mode; /* DM_* */
    uint8_t vector;
    bool level, assert_;
};

/* SDM vol 3A, 10.6.2.2 and 10.12.10.2 */
static bool logical_match(uint64_t route, const struct message *m)
{
    uint32_t ldr = (uint32_t)route;

    if (route & ROUTE_X2)
        return m->dest >> 16 == ldr >> 16 && (m->dest & ldr & 0xffff);
    if ((route >> ROUTE_DFR_SHIFT & 15) == 15) /* flat */
        return m->dest & (ldr >> 24);
    return (m->dest >> 4 & 15) == ldr >> 28 && (m->dest & (ldr >> 24) & 15);
}

static bool match(const struct vcpu *v, const struct message *m)
{
    uint64_t route = atomic_load(&v->route);

    if (!(route & ROUTE_EN))
        return false;
    if (m->dest == (m->wide ? UINT32_MAX : 0xff))
        return true;
    return m->logical ? logical_match(route, m) : m->dest == v->index;
}

static void post(struct vcpu *v, const struct message *m)
{
    unsigned i = m->vector / 32;
    uint32_t bit = 1u << (m->vector % 32);

    if (!(atomic_load(&v->route) & ROUTE_SW) || m->vector < 16)
        return;
    if (m->level)
        atomic_fetch_or(&v->irr_level[i], bit);
    else
        atomic_fetch_and(&v->irr_level[i], ~bit);
    atomic_fetch_or(&v->irr[i], bit);
    soft_request(v, REQ_INTR);
}

static void deliver(struct vcpu *v, const struct message *m)
{
    switch (m->mode) {
    case DM_FIXED:
    case DM_LOWEST:
        post(v, m);
        break;
    case DM_NMI:
        soft_request(v, REQ_NMI);
        break;
    case DM_INIT:
        if (m->level && !m->assert_) /* level de-assert: for APICs of the past */
            break;
        atomic_store(&v->sipi, 0);
        soft_request(v, REQ_INIT);
        break;
    case DM_SIPI:
        atomic_store(&v->sipi, 0x100u | m->vector);
        soft_request(v, REQ_SIPI);
        break;
    default: /* SMI and ExtINT messages: nothing listens */
        break;
    }
}

/* Lowest priority goes to one of the addressed CPUs, chosen by the vector so that a source
 * keeps its CPU. */
static void send_lowest(struct soft_vm *vm, const struct message *m)
{
    struct vcpu *set[CPUS_MAX];
    unsigned n = 0;

    for (unsigned i = 0; i < CPUS_MAX; i++)
        if (vm->vcpu[i] && match(vm->vcpu[i], m) && (atomic_load(&vm->vcpu[i]->route) & ROUTE_SW))
            set[n++] = vm->vcpu[i];
    if (n)
        deliver(set[m->vector % n], m);
}

static void send(struct soft_vm *vm, const struct message *m)
{
    if (m->mode == DM_LOWEST) {
        send_lowest(vm, m);
        return;
    }
    for (unsigned i = 0; i < CPUS_MAX; i++)
        if (vm->vcpu[i] && match(vm->vcpu[i], m))
            deliver(vm->vcpu[i], m);
}

void lapic_bus_msi(struct soft_vm *vm, struct msi msi)
{
    struct message m = {
        .dest = msi.addr >> 12 & 0xff,
        .logical = msi.addr >> 2 & 1,
        .mode = msi.data >> 8 & 7,
        .vector = (uint8_t)msi.data,
        .level = msi.data >> 15 & 1,
        .assert_ = msi.data >> 14 & 1,
    };

    send(vm, &m);
}

void lapic_bus_ipi(struct vcpu *from, uint64_t icr)
{
    struct soft_vm *vm = from->vm;
    bool wide = atomic_load(&from->route) & ROUTE_X2;
    struct message m = {
        .dest = (uint32_t)(wide ? icr >> 32 : icr >> 56),
        .logical = icr & ICR_LOGICAL,
        .wide = wide,
        .mode = icr >> 8 & 7,
        .vector = (uint8_t)icr,
        .assert_ = icr & ICR_ASSERT,
    };
    /* IPIs are edges; only INIT has a level form. */
    m.level = m.mode == DM_INIT && (icr & ICR_LEVEL);
    if (m.vector < 16 && (m.mode == DM_FIXED || m.mode == DM_LOWEST)) {
        lapic_illegal_vector(from);
        return;
    }
    switch (icr >> 18 & 3) {
    case 0:
        send(vm, &m);
        break;
    case 1:
        deliver(from, &m);
        break;
    default: /* 2: all, 3: all but self */
        for (unsigned i = 0; i < CPUS_MAX; i++) {
            struct vcpu *v = vm->vcpu[i];

            if (v && (v != from || (icr >> 18 & 3) == 2) && (atomic_load(&v->route) & ROUTE_EN))
                deliver(v, &m);
        }
    }
}
