/* cpu/interp/interp.c - the engine object and its loop. */
#include "cpu/interp/interp.h"

#include <stdlib.h>

#include "cpu/interp/blocks.h"
#include "cpu/interp/operand.h"
#include "cpu/soft/softengine.h"

static int vcpu_init(struct vcpu *v, struct err *e)
{
    struct blocks *c;
    int r = blocks_new(&c, v, e);

    if (!r)
        v->engine = c;
    return r;
}

static void vcpu_done(struct vcpu *v)
{
    blocks_free(v->engine);
    v->engine = NULL;
}

static void code_written(struct soft_vm *vm, int64_t page, uint64_t chunks)
{
    (void)chunks;
    for (unsigned n = 0; n < CPUS_MAX; n++)
        if (vm->vcpu[n] && vm->vcpu[n]->engine)
            blocks_written(vm->vcpu[n]->engine, (uint32_t)page);
}

static void flush(struct vcpu *v, enum soft_flush what)
{
    (void)what;
    if (v->engine)
        blocks_unlink(v->engine);
}

/* Instruction `i` of the block did not finish, or finished and left (SOFT_BREAK). Makes s.rip
 * exact. */
static int stopped(struct vcpu *v, const struct block *b, const struct insn *i, int rc)
{
    v->insns += (uint64_t)(i - b->insn);
    if (rc == SOFT_BREAK) {
        v->insns++;
        return rc;
    }
    if (!(rc == SOFT_FAULT && v->exc.trap))
        v->s.rip = insn_rip(v, i);
    return rc;
}

/* After a finished instruction that went a slow way: an exit was answered, or it wrote into its own
 * block. Returns true when the rest of the block must not run. */
static bool rest_is_stale(struct blocks *c, struct vcpu *v, const struct block *b,
                          const struct insn *i)
{
    soft_insn_done(v);
    if (!atomic_load_explicit(&c->written, memory_order_relaxed))
        return false;
    atomic_store_explicit(&c->written, false, memory_order_relaxed);
    if (i->flags & I_ENDS || blocks_valid(c, b))
        return false;
    v->s.rip = insn_next(v, i);
    return true;
}

static inline bool unusual(const struct blocks *c, const struct vcpu *v)
{
    return unlikely(v->mmio.n | atomic_load_explicit(&c->written, memory_order_relaxed));
}

/* Run one block to its end. SOFT_OK: s.rip is at the next one. */
static int run_block(struct blocks *c, struct vcpu *v, const struct block *b)
{
    const struct insn *i = b->insn;

    atomic_store_explicit(&c->page, b->page, memory_order_relaxed);
    for (;; i++) {
        int rc = i->fn(v, i);

        if (unlikely(rc))
            return stopped(v, b, i, rc);
        if (unusual(c, v) && rest_is_stale(c, v, b, i)) {
            v->insns += (uint64_t)(i - b->insn) + 1;
            return SOFT_OK;
        }
        if (i->flags & I_ENDS)
            break;
    }
    v->insns += b->n;
    return SOFT_OK;
}

/* Exactly one instruction. SOFT_OK or SOFT_BREAK when it finished. */
static int run_one(struct blocks *c, struct vcpu *v)
{
    int rc = SOFT_OK;
    struct block *b = blocks_find(c, v, NULL, true, &rc);

    if (!b)
        return rc;
    if (v->op_count)
        v->op_count[b->insn[0].op]++;
    return run_block(c, v, b);
}

static int exec(struct vcpu *v)
{
    struct blocks *c = v->engine;
    struct block *b = NULL, *next;
    int rc = SOFT_OK;

    if (v->stop_after) {
        rc = run_one(c, v);
        return rc ? rc : SOFT_BREAK;
    }
    for (;;) {
        if (unlikely(atomic_load_explicit(&v->requests, memory_order_relaxed)))
            return SOFT_BREAK;
        next = b ? blocks_quick(c, v, b) : NULL;
        if (unlikely(!next)) {
            next = blocks_find(c, v, b, false, &rc);
            if (!next)
                return rc;
        }
        b = next;
        rc = run_block(c, v, b);
        if (unlikely(rc))
            return rc;
    }
}

const struct soft_engine_ops interp_ops = {
    .vcpu_init = vcpu_init,
    .vcpu_done = vcpu_done,
    .exec = exec,
    .code_written = code_written,
    .flush = flush,
};

int interp_one(struct vcpu *v)
{
    int rc;

    v->stop_after = true;
    rc = run_one(v->engine, v);
    v->stop_after = false;
    if (rc == SOFT_OK || rc == SOFT_BREAK)
        soft_insn_done(v);
    return rc;
}

int interp_insn(struct vcpu *v)
{
    int rc = run_one(v->engine, v);

    if (rc == SOFT_OK || rc == SOFT_BREAK)
        soft_insn_done(v);
    return rc;
}

int interp_uncached(struct vcpu *v)
{
    int rc = SOFT_OK;
    struct block *b = blocks_once(v->engine, v, &rc);

    if (!b)
        return rc;
    rc = run_block(v->engine, v, b);
    if (rc == SOFT_OK || rc == SOFT_BREAK)
        soft_insn_done(v);
    return rc;
}

int interp_block(struct vcpu *v)
{
    int rc = SOFT_OK;
    struct block *b = blocks_find(v->engine, v, NULL, false, &rc);

    return b ? run_block(v->engine, v, b) : rc;
}

int interp_bare_new(const struct cpu_vm_conf *c, struct vcpu **ret, struct err *e)
{
    struct soft_vm *vm;
    int r = soft_vm_new(c, &interp_ops, &vm, e);

    if (r < 0)
        return r;
    r = soft_vcpu_new(vm, 0, ret, e);
    if (r < 0) {
        soft_vm_free(vm);
        return r;
    }
    (*ret)->bare = true;
    return 0;
}

void interp_bare_free(struct vcpu *v)
{
    struct soft_vm *vm;

    if (!v)
        return;
    vm = v->vm;
    soft_vcpu_free(v);
    soft_vm_free(vm);
}

/* --- the engine object ---------------------------------------------------------------- */

static int vm_new(const struct cpu_vm_conf *conf, struct cpu_vm **ret, struct err *e)
{
    struct soft_vm *vm;
    int r = soft_vm_new(conf, &interp_ops, &vm, e);

    if (!r)
        *ret = (struct cpu_vm *)vm;
    return r;
}

static void vm_free(struct cpu_vm *vm)
{
    soft_vm_free(softengine_vm(vm));
}

static void stats(struct vcpu *v, struct cpu_stats *out)
{
    *out = v->stats;
    out->insns = out->interpreted = v->insns;
    out->tlb_misses = out->tlb_walks;
}

const struct cpu_engine cpu_interp = {
    .name = "interp",
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
    .vcpu_new = softengine_vcpu_new,
    .vcpu_free = soft_vcpu_free,
    .run = soft_run,
    .kick = soft_kick,
    .get = soft_get,
    .set = soft_set,
    .stats = stats,
};
