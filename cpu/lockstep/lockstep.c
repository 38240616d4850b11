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

/* One block. False: it did not come to its end. */
static bool pretend_block(struct lockstep *l, struct vcpu *v, const struct bt_piece *p)
{
    struct ours *o = &l->ours[l->n];
    bool good = true;
    unsigned n_log = 0;

    o->insns = p->insns + (l->n ? l->ours[l->n - 1].insns : 0);
    for (unsigned i = 0; good && i < p->insns; i++) {
        n_log = l->overlay.n_log;
        v->s.sti_shadow = v->s.ss_shadow = false;
        o->stop = interp_insn(v);
        good = o->stop == SOFT_OK || o->stop == SOFT_BREAK;
    }
    l->half = l->overlay.refused && l->overlay.n_log != n_log;
    o->s = v->s;
    o->exc = v->exc;
    o->n_log = l->overlay.n_log;
    l->n++;
    return good && o->stop == SOFT_OK;
}

/* Which of the blocks, but for the first, begins at `rip`? 0: none. */
static unsigned begins_at(const struct lockstep *l, uint64_t rip)
{
    for (unsigned i = 1; i < l->n; i++)
        if (l->piece[i].rip == rip)
            return i;
    return 0;
}

/* The blocks from l->piece[0] on, as far as they are translated. bt's jump cache must not lead it
 * in a circle: it will know none from that on which is come to again. */
static void pretend(struct lockstep *l, struct vcpu *v)
{
    uint64_t insns = v->insns, *op_count = v->op_count;
    struct cpu_stats stats = v->stats;

    l->n = 0;
    l->known = CHAIN;
    v->op_count = NULL;
    overlay_begin(&l->overlay, v);
    while (pretend_block(l, v, &l->piece[l->n])) {
        unsigned again = begins_at(l, v->s.rip);

        if (again)
            l->known = again;
        if (again || l->n == CHAIN || v->s.rip == l->before.rip ||
            !bt_piece_next(v, &l->piece[0], &l->piece[l->n]))
            break;
    }
    overlay_end(v);
    if (l->known > l->n)
        l->known = l->n;
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
    struct cpu_state a = l->at->s, b = v->s;

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
static const char *differs(struct lockstep *l, const struct vcpu *v, char *buf)
{
    bool fault = l->at->stop == SOFT_FAULT;

    if (fault != (l->stop == SOFT_FAULT))
        return fault ? "interp met an exception" : "bt met an exception";
    if (fault && !same_exception(&l->at->exc, &v->exc))
        return "exception";
    const char *what = state_differs(l, v, buf);
    if (what)
        return what;
    overlay_rewind(&l->overlay, l->at->n_log);
    return overlay_differs(&l->overlay) ? "memory" : NULL;
}

/* Interp's state where bt left; NULL: there is none. bt has counted the blocks it entered. */
static const struct ours *where_bt_is(const struct lockstep *l, const struct vcpu *v)
{
    unsigned i = 0;

    while (i < l->n && l->ours[i].insns != l->chain.insns)
        i++;
    if (i == l->n || atomic_load_explicit(&v->requests, memory_order_relaxed))
        return NULL;
    const struct ours *o = &l->ours[i];
    const struct bt_piece *p = &l->piece[i];
    if (o->stop == SOFT_EXIT) /* a device: bt is left before it too, unless it was the local APIC */
        return !l->half && l->stop == SOFT_EXIT && v->s.rip == o->s.rip ? o : NULL;
    /* A call-out may leave behind any instruction, and interp went on. */
    bool inside = v->s.rip > p->rip && v->s.rip < p->rip + p->bytes;
    bool good = l->stop == SOFT_OK || l->stop == SOFT_BREAK;
    if (l->chain.cut && good && inside && (v->s.rip != o->s.rip || o->stop == SOFT_FAULT))
        return NULL;
    return o;
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

static void note_agreed(struct lockstep *l, const struct vcpu *v, uint64_t flags)
{
    l->compared += (uint64_t)(l->at - l->ours) + 1;
    l->trail[l->n_trail++ % TRAIL] = (struct trail){l->before.rip, l->at->s.rflags, v->s.rflags};
    if (!flags)
        return;
    l->own_flags = true;
    l->flags = (v->s.rflags & FL_ARITH & ~flags) | (l->at->s.rflags & flags);
    l->flags_rip = v->s.rip;
    l->their_flags = v->s.rflags;
}

static int judge(struct lockstep *l, struct vcpu *v)
{
    char buf[WHAT_LEN];
    bool undefined = false;

    l->own_flags = false;
    l->at = where_bt_is(l, v);
    if (!l->at) {
        l->not_compared++;
        return l->stop;
    }
    const char *what = differs(l, v, buf);
    uint64_t flags = (l->at->s.rflags ^ v->s.rflags) & FL_ARITH;
    if (what || flags)
        flags &= ~(uint64_t)lockflags_undefined(v->vm->c.mem, l->piece,
                                                (unsigned)(l->at - l->ours) + 1, &undefined);
    if (!what) {
        note_agreed(l, v, flags);
        return l->stop;
    }
    if (!undefined && !disturbed(l, v))
        return stop_here(l, v, what);
    l->not_compared++;
    return l->stop;
}

/* --- the loop -----------------------------------------------------------------------------------
 */

static int some_blocks(struct lockstep *l, struct vcpu *v)
{
    int stop = bt_piece_at(v, &l->piece[0]);

    if (!l->piece[0].insns) {
        l->not_compared++;
        l->own_flags = false;
        l->chain.from = NULL;
        return stop;
    }
    l->wrote = atomic_load(&v->vm->c.mem->wrote);
    l->before = v->s;
    if (l->own_flags && v->s.rip == l->flags_rip && v->s.rflags == l->their_flags)
        v->s.rflags = (v->s.rflags & ~(uint64_t)FL_ARITH) | l->flags;
    l->began_flags = v->s.rflags & FL_ARITH;
    pretend(l, v);
    v->s = l->before;
    soft_mode_update(v);
    l->stop = bt_run_pieces(v, l->piece, l->known, &l->chain);
    return judge(l, v);
}

static int exec(struct vcpu *v)
{
    struct lockstep *l = lockstep_of(v);

    if (v->stop_after)
        return bt_ops.exec(v);
    while (!atomic_load_explicit(&v->requests, memory_order_relaxed)) {
        int stop = some_blocks(l, v);

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
