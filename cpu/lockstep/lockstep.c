#include "cpu/lockstep/lockstep.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu/interp/interp.h"
#include "cpu/soft/softengine.h"

enum { SETTLE_NS = 2000000, WHAT_LEN = 128 };

static struct lockstep *lockstep_of(const struct vcpu *v)
{
    return v->vm->around;
}

/* --- interp, beside memory -------------------------------------------------------------------- */

static void pretend(struct lockstep *l, struct vcpu *v)
{
    uint64_t insns = v->insns, *op_count = v->op_count, stores = 0;
    struct cpu_stats stats = v->stats;

    l->ours.insns = 0;
    l->ours.stop = SOFT_OK;
    v->op_count = NULL;
    overlay_begin(&l->overlay, v);
    for (bool good = true; good && l->ours.insns < l->piece.insns; l->ours.insns += good) {
        stores = l->overlay.stores;
        v->s.sti_shadow = v->s.ss_shadow = false;
        l->ours.stop = interp_insn(v);
        good = l->ours.stop == SOFT_OK || l->ours.stop == SOFT_BREAK;
    }
    overlay_end(v);
    l->ours.half = l->overlay.refused && l->overlay.stores != stores;
    l->ours.s = v->s;
    l->ours.exc = v->exc;
    v->op_count = op_count;
    v->stats = stats;
    v->insns = insns;
    v->tf_after = false;
}

/* --- comparing ---------------------------------------------------------------------------------
 */

/* What counts of the XSAVE area: components in their initial state are as if written out, the last
 * x87 instruction's address is nobody's. SDM vol 1, 10.5.1 and 13.6. */
static void normal_vectors(uint8_t *x)
{
    uint64_t bv;

    memcpy(&bv, x + XSAVE_HDR, 8);
    if (!(bv & XCR0_X87)) {
        memset(x, 0, 24);
        memset(x + 32, 0, 128);
        x[0] = 0x7f;
        x[1] = 3;
    }
    if (!(bv & XCR0_SSE))
        memset(x + XSAVE_XMM, 0, 256);
    if (!(bv & XCR0_AVX))
        memset(x + XSAVE_YMMH, 0, 256);
    memset(x + 6, 0, 18);
    memset(x + 28, 0, 4);
    for (unsigned n = 0; n < 8; n++)
        memset(x + 32 + 16 * n + 10, 0, 6);
    memset(x + 416, 0, XSAVE_YMMH - 416);
}

static const char *state_differs(const struct lockstep *l, const struct vcpu *v, char *buf)
{
    struct cpu_state a = l->ours.s, b = v->s;

    a.rflags &= ~(uint64_t)FL_ARITH;
    b.rflags &= ~(uint64_t)FL_ARITH;
    if (memcmp(a.xsave, b.xsave, sizeof(a.xsave)) != 0) {
        normal_vectors(a.xsave);
        normal_vectors(b.xsave);
    }
    return memcmp(&a, &b, sizeof(a)) == 0 ? NULL : cpu_state_diff(&a, &b, true, buf, WHAT_LEN);
}

static bool same_exception(const struct soft_exc *a, const struct soft_exc *b)
{
    return a->vector == b->vector && a->has_error == b->has_error && a->error == b->error &&
           a->cr2 == b->cr2 && a->dr6 == b->dr6 && a->trap == b->trap;
}

/* The first difference, in words; NULL if there is none. */
static const char *differs(const struct lockstep *l, const struct vcpu *v, char *buf)
{
    bool fault = l->ours.stop == SOFT_FAULT;

    if (fault != (l->stop == SOFT_FAULT))
        return fault ? "interp met an exception" : "bt met an exception";
    if (fault && !same_exception(&l->ours.exc, &v->exc))
        return "exception";
    const char *what = state_differs(l, v, buf);
    if (what)
        return what;
    return overlay_differs(&l->overlay) ? "memory" : NULL;
}

/* Did both come to the same end, so that there is something to compare? */
static bool comparable(const struct lockstep *l, const struct vcpu *v)
{
    uint64_t start = l->before.rip;

    if (atomic_load_explicit(&v->requests, memory_order_relaxed))
        return false;
    if (l->overlay.refused) /* a device: bt is left before it too, unless it was the local APIC */
        return !l->ours.half && l->stop == SOFT_EXIT && v->s.rip == l->ours.s.rip;
    /* A call-out may leave behind any instruction, and interp went on. */
    bool inside = v->s.rip > start && v->s.rip < start + l->piece.bytes;
    bool good = l->stop == SOFT_OK || l->stop == SOFT_BREAK;
    return !(l->piece.cut && good && inside &&
             (v->s.rip != l->ours.s.rip || l->ours.stop == SOFT_FAULT));
}

/* A device may have written what the one read before and the other after. */
static bool disturbed(const struct lockstep *l, const struct vcpu *v)
{
    struct timespec a_while = {.tv_nsec = SETTLE_NS};

    (void)nanosleep(&a_while, NULL);
    return atomic_load(&v->vm->c.mem->wrote) != l->wrote || atomic_load(&v->requests);
}

static int stop_here(struct lockstep *l, struct vcpu *v, const char *what)
{
    const struct cpu_vm_conf *c = &v->vm->c;
    char *text = c->differs ? malloc(LOCKREPORT_BYTES) : NULL;

    if (text) {
        lockreport(l, v, what, text);
        c->differs(c->differs_ctx, text);
    }
    free(text);
    snprintf(v->stuck, sizeof(v->stuck),
             "bt and interp differ at %#" PRIx64 " after %" PRIu64 " blocks: %.*s", l->before.rip,
             l->compared, 64, what);
    return SOFT_STUCK;
}

static int judge(struct lockstep *l, struct vcpu *v)
{
    char buf[WHAT_LEN];
    const char *what = comparable(l, v) ? differs(l, v, buf) : NULL;

    uint64_t flags = (l->ours.s.rflags ^ v->s.rflags) & FL_ARITH;
    bool undefined = false;

    if (what || flags)
        flags &= ~(uint64_t)lockflags_undefined(mem_hva(v->vm->c.mem, l->piece.gpa), l->piece.bytes,
                                                &undefined);
    l->own_flags = false;
    if (!comparable(l, v) || (what && (undefined || disturbed(l, v)))) {
        l->not_compared++;
        return l->stop;
    }
    if (what)
        return stop_here(l, v, what);
    l->compared++;
    l->trail[l->compared % TRAIL] = (struct trail){l->before.rip, l->ours.s.rflags, v->s.rflags};
    if (flags) {
        l->own_flags = true;
        l->flags = (v->s.rflags & FL_ARITH & ~flags) | (l->ours.s.rflags & flags);
        l->flags_rip = v->s.rip;
        l->their_flags = v->s.rflags;
    }
    return l->stop;
}

/* --- the loop -----------------------------------------------------------------------------------
 */

static int one_block(struct lockstep *l, struct vcpu *v)
{
    int stop = bt_piece_at(v, &l->piece);

    if (!l->piece.insns) {
        l->not_compared++;
        l->own_flags = false;
        return stop;
    }
    l->wrote = atomic_load(&v->vm->c.mem->wrote);
    l->before = v->s;
    if (l->own_flags && v->s.rip == l->flags_rip && v->s.rflags == l->their_flags)
        v->s.rflags = (v->s.rflags & ~(uint64_t)FL_ARITH) | l->flags;
    l->ours.flags = v->s.rflags & FL_ARITH;
    pretend(l, v);
    v->s = l->before;
    soft_mode_update(v);
    l->stop = bt_run_piece(v, &l->piece);
    return judge(l, v);
}

static int exec(struct vcpu *v)
{
    struct lockstep *l = lockstep_of(v);

    if (v->stop_after)
        return bt_ops.exec(v);
    while (!atomic_load_explicit(&v->requests, memory_order_relaxed)) {
        int stop = one_block(l, v);

        if (stop != SOFT_OK)
            return stop;
    }
    return SOFT_BREAK;
}

/* --- the engine object -------------------------------------------------------------------------
 */

static void vm_free(struct cpu_vm *cv)
{
    if (!cv)
        return;
    struct soft_vm *vm = softengine_vm(cv);
    struct lockstep *l = vm->around;

    bt_vm_done(vm);
    soft_vm_free(vm);
    free(l);
}

static int vm_new(const struct cpu_vm_conf *conf, struct cpu_vm **ret, struct err *e)
{
    struct lockstep *l = calloc(1, sizeof(*l));
    struct soft_vm *vm;

    if (!l)
        return err_set(e, -ENOMEM, "out of memory");
    l->ops = bt_ops;
    l->ops.exec = exec;
    int r = soft_vm_new(conf, &l->ops, &vm, e);
    if (r < 0) {
        free(l);
        return r;
    }
    vm->around = l;
    r = bt_vm_init(vm, e);
    if (r < 0) {
        vm_free((struct cpu_vm *)vm);
        return r;
    }
    bt_vm_apart(vm);
    *ret = (struct cpu_vm *)vm;
    return 0;
}

static int vcpu_new(struct cpu_vm *vm, unsigned index, struct vcpu **ret, struct err *e)
{
    if (index > 0)
        return err_set(e, -EINVAL, "lockstep runs one CPU: two would see each other's halves");
    return softengine_vcpu_new(vm, index, ret, e);
}

static void stats(struct vcpu *v, struct cpu_stats *out)
{
    const struct lockstep *l = lockstep_of(v);

    bt_stats(v, out);
    out->compared = l->compared;
    out->not_compared = l->not_compared;
}

const struct cpu_engine cpu_lockstep = {
    .name = "lockstep",
    .probe = softengine_probe,
    .vm_new = vm_new,
    .vm_free = vm_free,
    .vm_msi = softengine_msi,
    .vm_extint = softengine_extint,
    .vm_set_pic_ack = softengine_set_pic_ack,
    .vm_ioeventfd = softengine_ioeventfd,
    .vm_irqfd = softengine_irqfd,
    .vm_mem_changed = softengine_mem_changed,
    .vm_dirty_sync = softengine_dirty_sync,
    .vcpu_new = vcpu_new,
    .vcpu_free = soft_vcpu_free,
    .run = soft_run,
    .kick = soft_kick,
    .get = soft_get,
    .set = soft_set,
    .stats = stats,
    .fallbacks = bt_fallbacks,
};
