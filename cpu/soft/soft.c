#include "cpu/soft/soft.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cpu/soft/event.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/sysreg.h"

/* --- objects --- */

static void device_wrote_code(void *ctx, gpa_t gpa, size_t len)
{
    mmu_code_written(ctx, gpa, len);
}

static void *lazy(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

int soft_vm_new(const struct cpu_vm_conf *c, const struct soft_engine_ops *ops,
                struct soft_vm **ret, struct err *e)
{
    size_t pages = mem_size(c->mem) / MEM_PAGE;
    struct soft_vm *vm = calloc(1, sizeof(*vm));

    if (!vm)
        return err_set(e, -ENOMEM, "out of memory");
    vm->c = *c;
    vm->ops = ops;
    pthread_mutex_init(&vm->world_lock, NULL);
    pthread_cond_init(&vm->world_cond, NULL);
    /* Mapped, not allocated: only pages that ever hold code are touched. */
    vm->code_gen = lazy(pages * sizeof(*vm->code_gen));
    vm->mixed = lazy(pages * sizeof(*vm->mixed));
    if (!vm->code_gen || !vm->mixed) {
        soft_vm_free(vm);
        return err_set(e, -ENOMEM, "map the code generations of guest RAM");
    }
    c->mem->code_written = device_wrote_code;
    c->mem->code_ctx = vm;
    *ret = vm;
    return 0;
}

void soft_vm_free(struct soft_vm *vm)
{
    if (!vm)
        return;
    if (vm->c.mem->code_ctx == vm) {
        vm->c.mem->code_written = NULL;
        vm->c.mem->code_ctx = NULL;
    }
    if (vm->code_gen)
        munmap((void *)vm->code_gen, mem_size(vm->c.mem) / MEM_PAGE * sizeof(*vm->code_gen));
    if (vm->mixed)
        munmap((void *)vm->mixed, mem_size(vm->c.mem) / MEM_PAGE * sizeof(*vm->mixed));
    pthread_cond_destroy(&vm->world_cond);
    pthread_mutex_destroy(&vm->world_lock);
    free(vm);
}

void soft_vm_mem_changed(struct soft_vm *vm)
{
    for (unsigned i = 0; i < CPUS_MAX; i++)
        if (vm->vcpu[i])
            mmu_flush_all(vm->vcpu[i]);
}

void soft_vm_extint(struct soft_vm *vm, bool level)
{
    atomic_store(&vm->extint, level);
    for (unsigned i = 0; level && i < CPUS_MAX; i++)
        if (vm->vcpu[i])
            soft_request(vm->vcpu[i], REQ_INTR);
}

void soft_vm_set_pic_ack(struct soft_vm *vm, int (*ack)(void *ctx), void *ctx)
{
    vm->pic_ack = ack;
    vm->pic_ctx = ctx;
}

static size_t vcpu_bytes(const struct soft_engine_ops *ops)
{
    return ops->vcpu_bytes ? ops->vcpu_bytes : sizeof(struct vcpu);
}

enum { VCPU_ALIGN = 64 }; /* of the XSAVE area */

/* Zeroed by calloc(), which touches none of the pages of anything large: an engine's tables are,
 * and little of them may ever be used. */
static struct vcpu *vcpu_alloc(const struct soft_engine_ops *ops)
{
    void *raw = calloc(1, vcpu_bytes(ops) + VCPU_ALIGN - 1);

    if (!raw)
        return NULL;
    struct vcpu *v = (struct vcpu *)(((uintptr_t)raw + VCPU_ALIGN - 1) / VCPU_ALIGN * VCPU_ALIGN);
    v->raw = raw;
    return v;
}

int soft_vcpu_new(struct soft_vm *vm, unsigned index, struct vcpu **ret, struct err *e)
{
    if (index >= vm->c.model->cpus || index >= CPUS_MAX || vm->vcpu[index])
        return err_set(e, -EINVAL, "vCPU %u: no such vCPU, or it exists already", index);
    struct vcpu *v = vcpu_alloc(vm->ops);
    if (!v)
        return err_set(e, -ENOMEM, "out of memory");
    v->index = index;
    v->vm = vm;
    cpu_state_reset(&v->s, index, false);
    lapic_init(v);
    soft_mode_update(v);
    int r = vm->ops->vcpu_init ? vm->ops->vcpu_init(v, e) : 0;
    if (r < 0) {
        free(v->raw);
        return r;
    }
    mmu_flush_all(v);
    vm->vcpu[index] = v;
    vm->n++;
    *ret = v;
    return 0;
}

void soft_vcpu_free(struct vcpu *v)
{
    if (!v)
        return;
    lapic_done(v);
    if (v->vm->ops->vcpu_done)
        v->vm->ops->vcpu_done(v);
    v->vm->vcpu[v->index] = NULL;
    v->vm->n--;
    free(v->raw);
}

int soft_get(struct vcpu *v, struct cpu_state *s, struct err *e)
{
    if (v->exit_pending || v->mmio.n)
        return err_set(e, -EBUSY, "vCPU %u is in mid-instruction", v->index);
    lapic_save(v);
    uint32_t sipi = atomic_load(&v->sipi);
    v->s.sipi_pending = sipi & 0x100;
    v->s.sipi_vector = (uint8_t)sipi;
    v->s.nmi_pending |= !!(atomic_load(&v->requests) & REQ_NMI);
    *s = v->s;
    return 0;
}

int soft_set(struct vcpu *v, const struct cpu_state *s, struct err *e)
{
    v->s = *s;
    v->exit_pending = false;
    soft_insn_done(v);
    memset(v->eoi, 0, sizeof(v->eoi));
    atomic_store(&v->sipi, s->sipi_pending ? 0x100u | s->sipi_vector : 0);
    soft_request(v, s->sipi_pending ? REQ_SIPI | REQ_INTR : REQ_INTR);
    lapic_load(v);
    soft_mode_update(v);
    mmu_flush_all(v);
    return 0;
}

/* --- requests --- */

static void futex(_Atomic uint32_t *word, int op, uint32_t val)
{
    (void)syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

void soft_request(struct vcpu *v, uint32_t req)
{
    atomic_fetch_or(&v->requests, req);
    if (atomic_load(&v->waiting))
        futex(&v->requests, FUTEX_WAKE, INT_MAX);
}

void soft_wait(struct vcpu *v)
{
    atomic_store(&v->waiting, 1);
    uint32_t seen = atomic_load(&v->requests);
    if (!(seen & ~(uint32_t)REQ_STEP))
        futex(&v->requests, FUTEX_WAIT, seen);
    atomic_store(&v->waiting, 0);
}

void soft_kick(struct vcpu *v)
{
    soft_request(v, REQ_KICK);
}

/* --- stop the world --- */

void soft_world_enter(struct vcpu *v)
{
    struct soft_vm *vm = v->vm;

    atomic_store(&v->in_world, 1);
    if (!atomic_load(&vm->world_stop))
        return;
    pthread_mutex_lock(&vm->world_lock);
    atomic_store(&v->in_world, 0);
    pthread_cond_broadcast(&vm->world_cond);
    while (atomic_load(&vm->world_stop))
        pthread_cond_wait(&vm->world_cond, &vm->world_lock);
    atomic_store(&v->in_world, 1); /* a stopper sets world_stop under the lock, then looks here */
    pthread_mutex_unlock(&vm->world_lock);
}

void soft_world_leave(struct vcpu *v)
{
    struct soft_vm *vm = v->vm;

    atomic_store(&v->in_world, 0);
    if (!atomic_load(&vm->world_stop))
        return;
    pthread_mutex_lock(&vm->world_lock);
    pthread_cond_broadcast(&vm->world_cond);
    pthread_mutex_unlock(&vm->world_lock);
}

static bool others_run(const struct soft_vm *vm, const struct vcpu *v)
{
    for (unsigned i = 0; i < CPUS_MAX; i++)
        if (vm->vcpu[i] && vm->vcpu[i] != v && atomic_load(&vm->vcpu[i]->in_world))
            return true;
    return false;
}

void soft_world_stop(struct vcpu *v)
{
    struct soft_vm *vm = v->vm;

    if (vm->n <= 1)
        return;
    atomic_store(&v->in_world, 0); /* while we queue for our turn, others may stop us */
    pthread_mutex_lock(&vm->world_lock);
    pthread_cond_broadcast(&vm->world_cond);
    while (atomic_load(&vm->world_stop))
        pthread_cond_wait(&vm->world_cond, &vm->world_lock);
    atomic_store(&vm->world_stop, 1);
    atomic_fetch_add(&vm->world_stops, 1);
    for (unsigned i = 0; i < CPUS_MAX; i++)
        if (vm->vcpu[i] && vm->vcpu[i] != v)
            atomic_fetch_or(&vm->vcpu[i]->requests, REQ_STOP);
    while (others_run(vm, v))
        pthread_cond_wait(&vm->world_cond, &vm->world_lock);
    pthread_mutex_unlock(&vm->world_lock);
}

void soft_world_start(struct vcpu *v)
{
    struct soft_vm *vm = v->vm;

    if (vm->n <= 1)
        return;
    pthread_mutex_lock(&vm->world_lock);
    atomic_store(&vm->world_stop, 0);
    atomic_store(&v->in_world, 1);
    pthread_cond_broadcast(&vm->world_cond);
    pthread_mutex_unlock(&vm->world_lock);
}

/* --- mode --- */

static bool flat_segment(const struct x86_seg *g, bool data)
{
    if ((g->attr & SEG_UNUSABLE) || g->base || g->limit != UINT32_MAX)
        return false;
    if (data) /* writable, expand-up */
        return (g->attr & (SEG_S | 0xe)) == (SEG_S | 2);
    return (g->attr & (SEG_S | 0xa)) == (SEG_S | 0xa); /* readable code */
}

static uint32_t segment_mode(const struct cpu_state *s)
{
    const struct x86_seg *cs = &s->seg[SEG_CS];
    uint32_t m = 0;

    if ((s->efer & EFER_LMA) && (cs->attr & SEG_L))
        return MODE_CS64 | MODE_SS32 | MODE_FLAT;
    if (cs->attr & SEG_DB)
        m |= MODE_CS32;
    if (s->seg[SEG_SS].attr & SEG_DB)
        m |= MODE_SS32;
    if (flat_segment(cs, false) && flat_segment(&s->seg[SEG_SS], true) &&
        flat_segment(&s->seg[SEG_DS], true) && flat_segment(&s->seg[SEG_ES], true))
        m |= MODE_FLAT;
    return m;
}

static uint32_t vector_mode(const struct cpu_state *s)
{
    uint32_t m = 0;
    uint64_t avx = XCR0_SSE | XCR0_AVX;

    if (s->cr0 & (CR0_EM | CR0_TS))
        m |= MODE_FPU_NM;
    if ((s->cr0 & (CR0_EM | CR0_TS)) || !(s->cr4 & CR4_OSFXSR))
        m |= MODE_SSE_BAD;
    if ((s->cr0 & CR0_TS) || !(s->cr0 & CR0_PE) || !(s->cr4 & CR4_OSXSAVE) ||
        (s->xcr0 & avx) != avx)
        m |= MODE_AVX_BAD;
    return m;
}

enum { DR7_ANY = 0xff }; /* L0..G3 */

/* One that is on has bit 0 of its R/W field set: writes, or reads and writes (SDM vol 3B, 17.2.4).
 */
static bool data_breakpoints(uint64_t dr7)
{
    for (unsigned i = 0; i < 4; i++)
        if ((dr7 & (3ull << (2 * i))) && (dr7 >> (16 + 4 * i) & 1))
            return true;
    return false;
}

void soft_mode_update(struct vcpu *v)
{
    const struct cpu_state *s = &v->s;
    uint32_t m = segment_mode(s) | vector_mode(s);
    uint32_t cpl = 0;

    if (s->cr0 & CR0_PE) {
        cpl = (s->seg[SEG_SS].attr >> SEG_DPL_SHIFT) & 3;
        m |= MODE_PE;
    }
    m |= cpl << 4;
    if (s->efer & EFER_LMA)
        m |= MODE_LMA;
    if (s->cr0 & CR0_PG)
        m |= MODE_PG;
    if ((s->cr4 & CR4_SMAP) && !(s->rflags & FL_AC) && cpl < 3 && (s->cr0 & CR0_PG))
        m |= MODE_SMAP;
    v->mode = m;
    v->cur_tlb = v->tlb[cpl == 3 ? TLB_USER : m & MODE_SMAP ? TLB_KERNEL_SMAP : TLB_KERNEL];
    v->align_check = cpl == 3 && (s->cr0 & CR0_AM) && (s->rflags & FL_AC);
    v->watch = data_breakpoints(s->dr[7]);
    if (v->align_check || v->watch || v->overlay)
        v->cur_tlb = mmu_no_fast_path;
    v->step = (s->rflags & FL_TF) || (s->dr[7] & DR7_ANY);
    if (v->step)
        atomic_fetch_or_explicit(&v->requests, REQ_STEP, memory_order_relaxed);
}
