#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { /* message data, SDM vol 3A, 10.11.2 */
       MSI_LEVEL = 1u << 15,
};

static bool same_msi(struct msi a, struct msi b)
{
    return a.addr == b.addr && a.data == b.data;
}

/* All routes at once, as the kernel wants them (api 4.52). The lock is held. */
static int routes_put(struct kvm_vm *vm)
{
    enum { MOST = KVM_EOI_ROUTES + KVM_MSI_ROUTES };
    CLEANUP(mem)
    struct kvm_irq_routing *t = calloc(1, sizeof(*t) + MOST * sizeof(t->entries[0]));

    if (!t)
        return -ENOMEM;
    for (unsigned i = 0; i < MOST; i++) {
        const struct kvm_route *r = i < KVM_EOI_ROUTES ? &vm->eoi[i] : &vm->gsi[i - KVM_EOI_ROUTES];

        if (!r->used)
            continue;
        t->entries[t->nr++] = (struct kvm_irq_routing_entry){
            .gsi = i,
            .type = KVM_IRQ_ROUTING_MSI,
            .u.msi = {.address_lo = (uint32_t)r->m.addr,
                      .address_hi = (uint32_t)(r->m.addr >> 32),
                      .data = r->m.data},
        };
    }
    return kvm_ioctl(vm->fd, KVM_SET_GSI_ROUTING, t);
}

int kvmirq_init(struct kvm_vm *vm, struct err *e)
{
    for (unsigned i = 0; i < KVM_MSI_ROUTES; i++)
        vm->gsi[i].fd = -1;
    int r = routes_put(vm);
    return r < 0 ? err_errno(e, r, "KVM_SET_GSI_ROUTING") : 0;
}

/* The kernel tells us of an EOI only for vectors that a reserved route names as level-triggered
 * (api 7.5). The board's IOAPIC sends messages, so the routes are learnt from them; the oldest
 * makes room, a stale one costs an exit that nobody needs. */
void kvmirq_want_eoi(struct kvm_vm *vm, struct msi m)
{
    pthread_mutex_lock(&vm->lock);
    for (unsigned i = 0; i < KVM_EOI_ROUTES; i++) {
        if (vm->eoi[i].used && same_msi(vm->eoi[i].m, m)) {
            pthread_mutex_unlock(&vm->lock);
            return;
        }
    }
    vm->eoi[vm->eoi_next] = (struct kvm_route){.used = true, .m = m, .fd = -1};
    vm->eoi_next = (vm->eoi_next + 1) % KVM_EOI_ROUTES;
    /* It fails for lack of memory alone; then this interrupt fires once and stays quiet. */
    (void)routes_put(vm);
    pthread_mutex_unlock(&vm->lock);
}

void kvmirq_msi(struct kvm_vm *vm, struct msi m)
{
    struct kvm_msi k = {
        .address_lo = (uint32_t)m.addr, .address_hi = (uint32_t)(m.addr >> 32), .data = m.data};

    if (m.data & MSI_LEVEL)
        kvmirq_want_eoi(vm, m);
    /* 0 = the guest masked it, an error = it named no CPU: lost, as on the real bus. */
    (void)kvm_ioctl(vm->fd, KVM_SIGNAL_MSI, &k);
}

int kvmirq_ioeventfd(struct kvm_vm *vm, gpa_t gpa, unsigned len, bool match, uint64_t val, int fd,
                     bool add)
{
    struct kvm_ioeventfd k = {
        .addr = gpa,
        .len = len,
        .fd = fd,
        .datamatch = match ? val : 0,
        .flags =
            (match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) | (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
    };

    return kvm_ioctl(vm->fd, KVM_IOEVENTFD, &k);
}

static int irqfd(struct kvm_vm *vm, unsigned gsi, int fd, uint32_t flags)
{
    struct kvm_irqfd k = {.fd = (uint32_t)fd, .gsi = KVM_EOI_ROUTES + gsi, .flags = flags};

    return kvm_ioctl(vm->fd, KVM_IRQFD, &k);
}

static int irqfd_set(struct kvm_vm *vm, unsigned gsi, struct kvm_route *r, struct msi m, int fd)
{
    int ret = 0;

    if (!r->used || !same_msi(r->m, m)) {
        r->used = true;
        r->m = m;
        ret = routes_put(vm);
    }
    if (ret == 0 && r->fd != fd) {
        if (r->fd >= 0)
            (void)irqfd(vm, gsi, r->fd, KVM_IRQFD_FLAG_DEASSIGN);
        ret = irqfd(vm, gsi, fd, 0);
        r->fd = ret == 0 ? fd : -1;
    }
    return ret;
}

int kvmirq_irqfd(struct kvm_vm *vm, unsigned gsi, const struct msi *m, int fd)
{
    int ret = 0;

    if (gsi >= KVM_MSI_ROUTES)
        return -ENOTSUP;
    pthread_mutex_lock(&vm->lock);
    struct kvm_route *r = &vm->gsi[gsi];
    if (m) {
        ret = irqfd_set(vm, gsi, r, *m, fd);
    } else if (r->used) {
        if (r->fd >= 0)
            (void)irqfd(vm, gsi, r->fd, KVM_IRQFD_FLAG_DEASSIGN);
        *r = (struct kvm_route){.fd = -1};
        ret = routes_put(vm);
    }
    pthread_mutex_unlock(&vm->lock);
    return ret;
}

/* --- the 8259 ------------------------------------------------------------ */

void kvmirq_extint(struct kvm_vm *vm, bool level)
{
    if (atomic_exchange(&vm->extint, level) == level || !level)
        return;
    for (unsigned i = 0; i < CPUS_MAX; i++) {
        if (vm->cpu[i])
            kvmvcpu_poke(vm->cpu[i]);
    }
}

/* A vector handed over by KVM_INTERRUPT could not be seen again if the vCPU is stopped before it
 * takes it; as an event in delivery it can (and KVM delivers it, as it does after migration). */
static int inject(struct kvm_cpu *v, uint8_t vector)
{
    struct kvm_vcpu_events ev;
    struct kvm_mp_state mp;
    int r = kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev);

    if (r < 0)
        return r;
    ev.interrupt.injected = 1;
    ev.interrupt.nr = vector;
    ev.interrupt.soft = 0;
    /* Of what is pending meanwhile the kernel knows better. */
    ev.flags &= ~(uint32_t)(KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_NMI_PENDING);
    r = kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev);
    if (r < 0)
        return r;
    r = kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp);
    if (r < 0 || mp.mp_state != KVM_MP_STATE_HALTED)
        return r;
    mp.mp_state = KVM_MP_STATE_RUNNABLE;
    return kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp);
}

int kvmirq_offer_extint(struct kvm_cpu *v, struct err *e)
{
    kvmvcpu_refresh_window(v);
    if (!v->run->ready_for_interrupt_injection || !v->vm->pic_ack) {
        v->run->request_interrupt_window = 1;
        return 0;
    }
    v->run->request_interrupt_window = 0;
    int vector = v->vm->pic_ack(v->vm->pic_ctx);
    if (vector < 0)
        return 0;
    v->stats.interrupts++;
    v->run->ready_for_interrupt_injection = 0;
    int r = inject(v, (uint8_t)vector);
    return r < 0 ? err_errno(e, r, "cpu %u: interrupt of the 8259", v->index) : 0;
}
