/* cpu/kvm/kvmemu.c - the instructions KVM's own emulator does not know.
 *
 * A KVM that pages in software emulates all of ring 0, others what touches MMIO; each knows some
 * instructions only. One it gave up on is executed by the interpreter, on a vCPU without a LAPIC
 * that holds a copy of the state; what changed is written back. Accesses outside RAM become exits
 * of run() and the instruction is run again with their answers (soft.h), but those to the LAPIC
 * page go to the kernel's. */
#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cpu/interp/interp.h"
#include "cpu/soft/event.h"

enum { DR6_BS = 1u << 14 };

struct kvmemu {
    struct vcpu *bare;    /* owned */
    struct cpu_state was; /* what the kernel holds */
    bool open;            /* an exit waits for its answer */
};

bool kvmemu_open(const struct kvm_cpu *v)
{
    return v->emu && v->emu->open;
}

void kvmemu_free(struct kvmemu *m)
{
    if (!m)
        return;
    interp_bare_free(m->bare);
    free(m);
}

int kvmemu_ready(struct kvm_cpu *v, struct err *e)
{
    if (v->emu)
        return 0;
    /* Aligned for the XSAVE area in struct cpu_state. */
    struct kvmemu *m = aligned_alloc(64, (sizeof(*m) + 63) & ~(size_t)63);
    if (!m)
        return err_errno(e, -ENOMEM, "cpu %u", v->index);
    memset(m, 0, sizeof(*m));
    int r = interp_bare_new(&v->vm->c, &m->bare, e);
    if (r < 0) {
        free(m);
        return r;
    }
    v->emu = m;
    return 0;
}

/* Take the state. Without KVM_CAP_EXIT_ON_EMULATION_FAILURE the kernel has queued a #UD for the
 * instruction; it is ours now. */
static int begin(struct kvm_cpu *v, struct err *e)
{
    struct kvmemu *m = v->emu;
    int r = kvmstate_get(v, &m->was, e);
    if (r < 0)
        return r;
    struct cpu_state s = m->was;
    if (s.exc_pending && s.exc_vector == VEC_UD)
        s.exc_pending = false;
    /* What the instruction boundary before it left behind ends with it. */
    s.sti_shadow = s.ss_shadow = false;
    s.rflags &= ~(uint64_t)FL_RF;
    s.mp = MP_RUNNING;
    m->bare->tf_after = false;
    return soft_set(m->bare, &s, e);
}

/* By the interpreter too: a KVM that does not know the instruction may have delivered its fault no
 * better. False: a triple fault. */
static bool deliver(struct vcpu *bare)
{
    bare->in_delivery = true;
    int rc = event_deliver_exc(bare);
    bare->in_delivery = false;
    soft_insn_done(bare);
    return rc != SOFT_SHUTDOWN;
}

/* The instruction is done, or faulted: the kernel gets what changed. */
static int finish(struct kvm_cpu *v, struct cpu_exit *x, int rc, struct err *e)
{
    struct vcpu *bare = v->emu->bare;
    const struct cpu_state *was = &v->emu->was;
    struct cpu_state s;

    if (rc != SOFT_FAULT) {
        bool tf = bare->tf_after ? bare->s.rflags & FL_TF : was->rflags & FL_TF;

        if (tf && !bare->s.ss_shadow)
            rc = soft_exc_db_trap(bare, DR6_BS);
    }
    if (rc == SOFT_FAULT && !deliver(bare)) {
        x->kind = CPU_EXIT_SHUTDOWN;
        return 1;
    }
    v->stats.fallbacks++;
    int r = soft_get(bare, &s, e);
    return r < 0 ? r : kvmstate_put(v, &s, was, e);
}

static int stop(struct kvm_cpu *v, struct cpu_exit *x, int rc)
{
    if (rc == SOFT_SHUTDOWN) {
        x->kind = CPU_EXIT_SHUTDOWN;
        return 1;
    }
    x->kind = CPU_EXIT_STUCK;
    snprintf(x->u.stuck.why, sizeof(x->u.stuck.why), "kvm and interp: %.140s", v->emu->bare->stuck);
    return 1;
}

int kvmemu_one(struct kvm_cpu *v, struct cpu_exit *x, struct err *e)
{
    int r = 0;

    if (kvmemu_open(v)) {
        v->emu->open = false;
        soft_answered(v->emu->bare, x);
    } else {
        r = begin(v, e);
    }
    while (r == 0) {
        struct vcpu *bare = v->emu->bare;

        bare->exit = x;
        int rc = interp_one(bare);
        bare->exit = NULL;
        switch (rc) {
        case SOFT_OK:
        case SOFT_BREAK:
        case SOFT_FAULT:
            return finish(v, x, rc, e);
        case SOFT_EXIT:
            if (x->kind == CPU_EXIT_MMIO && kvmapic_claims(&bare->s, x->u.mmio.gpa)) {
                r = kvmapic_access(v, x, e);
                if (r == 0)
                    soft_answered(bare, x);
                continue;
            }
            v->emu->open = true;
            return 1;
        default:
            return stop(v, x, rc);
        }
    }
    return r;
}
