/* The engine: its loop, and what translated code calls. */
#include "cpu/bt/bt.h"

#include <asm/prctl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "cpu/bt/bt_engine.h"
#include "cpu/bt/btperf.h"
#include "cpu/interp/interp.h"
#include "cpu/soft/lapic.h"
#include "cpu/soft/mmu.h"

enum { HWCAP2_FSGSBASE_BIT = 1 << 1 };

static struct bt_vm *vm_of(const struct vcpu *v)
{
    return v->vm->engine;
}

static struct bt_cpu *cpu_of(const struct vcpu *v)
{
    return (struct bt_cpu *)(uintptr_t)v;
}

/* --- flags: EFLAGS' arithmetic six against bt_cpu.flags ------------------- */

static uint64_t flags_pack(uint64_t rflags)
{
    return (rflags & FL_OF ? 1 : 0) | (rflags & 0xd5) << 8 | 2 << 8;
}

static uint64_t flags_unpack(uint64_t rflags, uint64_t f)
{
    return (rflags & ~(uint64_t)FL_ARITH) | (f & 1 ? FL_OF : 0) | (f >> 8 & 0xd5);
}

/* --- called by code -------------------------------------------------------- */

/* Unmasked SSE or x87 exceptions trap on the host: such code is interpreted. */
static bool fp_traps(const struct vcpu *v)
{
    uint16_t fcw;
    uint32_t mxcsr;

    memcpy(&fcw, v->s.xsave, 2);
    memcpy(&mxcsr, v->s.xsave + 24, 4);
    return (fcw & 0x3f) != 0x3f || (mxcsr & 0x1f80) != 0x1f80;
}

/* The instruction of the site, by the interpreter. False: leave. */
static bool run_one(struct bt_cpu *c, uint32_t site)
{
    struct vcpu *v = &c->v;
    struct bt_vm *b = c->bv;
    uint32_t mode = v->mode;
    uint64_t kills = __atomic_load_n(&b->kills, __ATOMIC_RELAXED);
    uint32_t stops = atomic_load_explicit(&b->vm->world_stops, memory_order_relaxed);

    v->s.rip = c->page_lin + (site & SITE_OFF);
    v->s.rflags = flags_unpack(v->s.rflags, c->flags);
    c->stub_calls++;
    c->stop = interp_insn(v);
    if (c->stop != SOFT_OK || (site & SITE_ENDS) || v->mode != mode || v->align_check ||
        fp_traps(v) || atomic_load_explicit(&v->requests, memory_order_relaxed) ||
        kills != __atomic_load_n(&b->kills, __ATOMIC_RELAXED) ||
        stops != atomic_load_explicit(&b->vm->world_stops, memory_order_relaxed)) {
        c->called_out = true;
        return false;
    }
    c->flags = flags_pack(v->s.rflags);
    return true;
}

/* The block of which it was the window has been left. */
static void window_crossed(struct bt_cpu *c, unsigned off)
{
    const uint8_t *page;
    gpa_t gpa;

    if (c->stop == SOFT_OK && mmu_fetch_page(&c->v, c->page_lin, &gpa, &page) == SOFT_OK && page)
        btcache_crossed(c->bv, gpa | off);
}

const uint8_t *bt_on_miss(struct bt_cpu *c, uint64_t lin, const uint8_t *site)
{
    struct miss_site m;

    memcpy(&m, site, sizeof(m));
    unsigned set = m.site >> SITE_SET_SHIFT & 3;
    const struct btlb_entry *t = &c->tlb[set][lin >> MEM_PAGE_SHIFT & (BTLB_SIZE - 1)];
    /* If the page is there, the access crosses its end or is not aligned. */
    bool there = (m.site & SITE_WRITE ? t->wtag : t->rtag) == (lin & ~(uint64_t)(MEM_PAGE - 1));

    if (!there && btmem_fill(c, set, lin, m.site & SITE_WRITE))
        return site + m.retry;
    bool aligned = m.align < 2 || !(lin & (m.align - 1u));
    if (!there && aligned && m.site & SITE_WRITE) {
        const uint8_t *beside = mmu_write_beside(&c->v, lin, m.bytes);

        if (beside) {
            c->tmp[0] = (uint64_t)(uintptr_t)beside; /* T0 */
            return site + m.found;
        }
    }
    bool done = run_one(c, m.site);
    if (there && m.leads)
        window_crossed(c, m.site & SITE_OFF);
    return done ? site + m.after : NULL;
}

const uint8_t *bt_on_interp(struct bt_cpu *c, uint64_t unused, const uint8_t *site)
{
    struct interp_site s;

    (void)unused;
    memcpy(&s, site, sizeof(s));
    return run_one(c, s.site) ? site + sizeof(s) : NULL;
}

/* Index of a mode among those that have blocks, -1 when all places are taken by others. */
static int find_mode(struct bt_vm *b, uint32_t mode)
{
    unsigned i = 0;

    pthread_mutex_lock(&b->lock);
    while (i < b->n_modes && b->modes[i] != mode)
        i++;
    if (i == b->n_modes && i < MODES_MAX)
        b->modes[b->n_modes++] = mode;
    pthread_mutex_unlock(&b->lock);
    return i < MODES_MAX ? (int)i : -1;
}

/* SYSCALL leads where SFMASK and STAR say; only with TF and AC cleared, or not set, the same place
 * each time. */
static bool repeatable(const struct vcpu *v, enum switch_kind kind)
{
    switch (kind) {
    case SWITCH_SYSCALL:
        return (v->s.sfmask & (FL_TF | FL_AC)) == (FL_TF | FL_AC);
    case SWITCH_SYSRET:
        return !(v->s.rflags & (FL_TF | FL_AC));
    default:
        return true;
    }
}

const uint8_t *bt_on_switch(struct bt_cpu *c, uint64_t unused, const uint8_t *site)
{
    struct vcpu *v = &c->v;
    struct switch_site w;
    int m;

    (void)unused;
    memcpy(&w, site, sizeof(w));
    (void)run_one(c, w.site);
    if (c->stop != SOFT_OK || !repeatable(v, w.kind) || (m = find_mode(c->bv, v->mode)) < 0)
        return NULL;
    c->sw[w.mode][w.kind] = (struct bt_switch){
        .cs = v->s.seg[SEG_CS],
        .ss = v->s.seg[SEG_SS],
        .cur_tlb = (uint64_t)(uintptr_t)v->cur_tlb,
        .jc = (uint64_t)m * sizeof(c->jc[0]),
        .mode = v->mode,
        .when = v->switches,
    };
    return NULL;
}

/* --- the loop --------------------------------------------------------------- */

static void set_gs(const void *base)
{
    if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT)
        __asm__ volatile("wrgsbase %0" : : "r"(base));
    else
        syscall(SYS_arch_prctl, ARCH_SET_GS, base);
}

static void flush_cache(struct bt_vm *b, struct vcpu *v, bool modes)
{
    soft_world_stop(v);
    btcache_flush(b);
    btperf_reset(b->perf_fd, b->code.rx, (size_t)(b->after_stubs - b->code.rw));
    for (unsigned i = 0; i < CPUS_MAX; i++) {
        if (b->cpu[i])
            bt_forget(b->cpu[i]);
    }
    for (unsigned i = 0; modes && i < CPUS_MAX; i++) {
        if (b->cpu[i])
            memset(b->cpu[i]->sw, 0, sizeof(b->cpu[i]->sw));
    }
    if (modes)
        b->n_modes = 0;
    soft_world_start(v);
}

static uint32_t mode_index(struct bt_cpu *c)
{
    struct vcpu *v = &c->v;
    int m;

    if (c->mode_known == v->mode + 1ull && c->mode_flushes == c->bv->flushes)
        return c->mode_index;
    while ((m = find_mode(c->bv, v->mode)) < 0)
        flush_cache(c->bv, v, true);
    c->mode_known = v->mode + 1ull;
    c->mode_flushes = c->bv->flushes;
    c->mode_index = (uint32_t)m;
    return c->mode_index;
}

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Of a block that straddles: does the next linear page still lead to the second? If not, the block
 * is forgotten. False: it cannot be fetched from. */
static bool second_same(struct bt_cpu *c, struct block **k)
{
    const uint8_t *page;
    gpa_t gpa;

    if (mmu_fetch_page(&c->v, (c->v.s.rip | (MEM_PAGE - 1)) + 1, &gpa, &page) || !page)
        return false;
    if (gpa == (*k)[1].gpa)
        return true;
    pthread_mutex_lock(&c->bv->lock);
    btcache_kill_one(c->bv, *k);
    pthread_mutex_unlock(&c->bv->lock);
    *k = NULL;
    return true;
}

/* The block at s.rip, translated now if need be. NULL: one instruction was interpreted instead, or
 * could not be fetched; *stop says how that ended. */
static struct block *block_at(struct bt_cpu *c, uint32_t mode, int *stop)
{
    struct vcpu *v = &c->v;
    struct bt_vm *b = c->bv;
    const uint8_t *page;
    gpa_t gpa;

    *stop = mmu_fetch_page(v, v->s.rip, &gpa, &page);
    if (*stop != SOFT_OK)
        return NULL;
    if (!page) {
        *stop = interp_insn(v);
        return NULL;
    }
    gpa |= v->s.rip & (MEM_PAGE - 1);
    struct block *k = btcache_find(b, gpa, mode);
    if (k && k->straddles && !second_same(c, &k)) {
        *stop = interp_insn(v);
        return NULL;
    }
    if (!k && btcache_hot(b, mem_page(b->vm->c.mem, gpa), gpa)) {
        *stop = interp_uncached(v);
        return NULL;
    }
    for (int tries = 0; !k && tries < 3; tries++) {
        bool alone = false;
        uint64_t began = now_ns();

        k = xlat_block(c, gpa, page, mode, &alone);
        c->xlat_ns += now_ns() - began;
        if (alone)
            break;
        if (!k && xlat_full(b))
            flush_cache(b, v, false);
    }
    if (!k)
        *stop = interp_insn(v);
    return k;
}

static void remember(struct bt_cpu *c, uint32_t mode, uint64_t rip, const struct block *k)
{
    struct jc_entry *j = &c->jc[mode][jc_index(rip)];
    bool super = soft_cpl(&c->v) != 3;

    if (super && !c->super_local)
        c->super_local =
            !mmu_is_global(&c->v, rip, MMU_EXEC) ||
            (k->straddles && !mmu_is_global(&c->v, (rip | (MEM_PAGE - 1)) + 1, MMU_EXEC));
    j->entry = btcache_code(c->bv, k->entry_m);
    j->rip = rip ^ c->epoch_xor[super];
}

/* Code left by itself: s.rip as the way out says, and the link by which it went, if any. */
static int left(struct bt_cpu *c, struct link **from)
{
    struct vcpu *v = &c->v;
    struct exit_site x;

    v->s.rflags = flags_unpack(v->s.rflags, c->flags);
    if (c->exit_site) {
        memcpy(&x, c->exit_site, sizeof(x));
        v->s.rip = c->page_lin + x.off;
        *from = btcache_link_of(c->bv, x.link);
        return SOFT_OK;
    }
    v->s.rip = c->exit_rip;
    if (c->exit_branch == EXIT_DIRECT || (int64_t)(c->exit_rip << 16) >> 16 == (int64_t)c->exit_rip)
        return SOFT_OK;
    /* Not canonical: the branch's own #GP (SDM vol 2, JMP, RET), by the interpreter. */
    v->s.rip = c->page_lin + (c->exit_branch & SITE_OFF);
    v->s.gpr[RSP] -= c->exit_branch >> 16;
    return interp_insn(v);
}

/* From s.rip through blocks until code leaves. Returns what the call-out that left said, or
 * SOFT_OK. *from: the link by which it left, or NULL. */
static int run_blocks(struct bt_cpu *c, struct block *k, struct link **from)
{
    *from = NULL;
    c->page_lin = c->v.s.rip & ~(uint64_t)(MEM_PAGE - 1);
    c->flags = flags_pack(c->v.s.rflags);
    c->called_out = false;
    ((bt_enter_fn *)(uintptr_t)c->bv->stub_enter)(btcache_code(c->bv, k->entry_m));
    return c->called_out ? c->stop : left(c, from);
}

/* What is translated: 64-bit code. #AC is the interpreter's, too. */
static bool translatable(const struct vcpu *v)
{
    return (v->mode & (MODE_CS | MODE_LMA)) == (MODE_CS64 | MODE_LMA) && !v->align_check &&
           !fp_traps(v);
}

static int exec(struct vcpu *v)
{
    struct bt_cpu *c = cpu_of(v);
    struct bt_vm *b = c->bv;
    int stop = SOFT_OK;

    if (v->stop_after)
        return interp_ops.exec(v);
    set_gs(c);
    while (!atomic_load_explicit(&v->requests, memory_order_relaxed)) {
        struct link *from = NULL;

        if (!translatable(v)) {
            stop = interp_block(v);
            if (stop != SOFT_OK)
                return stop;
            continue;
        }
        do {
            uint64_t flushes = b->flushes;
            uint32_t mode = mode_index(c);
            struct block *k = block_at(c, mode, &stop);

            if (!k) {
                from = NULL;
                break;
            }
            if (from && flushes == b->flushes) { /* else the link's block is gone */
                pthread_mutex_lock(&b->lock);
                btcache_link(b, from, k);
                pthread_mutex_unlock(&b->lock);
            }
            remember(c, mode, v->s.rip, k);
            stop = run_blocks(c, k, &from);
        } while (stop == SOFT_OK && !c->called_out && !fp_traps(v) &&
                 !atomic_load_explicit(&v->requests, memory_order_relaxed));
        if (stop != SOFT_OK)
            return stop;
    }
    return SOFT_BREAK;
}

static void forget_code(struct bt_cpu *c, bool all);

/* --- for lockstep ---------------------------------------------------------- */

void bt_vm_apart(struct soft_vm *vm)
{
    struct bt_vm *b = vm->engine;

    b->apart = true;
    b->count = true;
}

static void fill_piece(const struct vcpu *v, struct block *k, struct bt_piece *p)
{
    *p = (struct bt_piece){.block = k,
                           .rip = v->s.rip,
                           .gpa = k->gpa,
                           .insns = k->interpreted ? 0 : k->insns,
                           .bytes = k->bytes};
    if (k->straddles)
        p->bytes = MEM_PAGE - (p->gpa & (MEM_PAGE - 1));
}

int bt_piece_at(struct vcpu *v, struct bt_piece *p)
{
    struct bt_cpu *c = cpu_of(v);
    struct link *link;
    int stop;

    *p = (struct bt_piece){0};
    if (!translatable(v))
        return interp_block(v);
    struct block *k = block_at(c, mode_index(c), &stop);
    if (!k)
        return stop;
    fill_piece(v, k, p);
    if (p->insns)
        return SOFT_OK;
    set_gs(c);
    return run_blocks(c, k, &link);
}

bool bt_piece_next(struct vcpu *v, const struct bt_piece *last, struct bt_piece *p)
{
    struct bt_cpu *c = cpu_of(v);
    const uint8_t *page;
    gpa_t gpa;

    if (v->mode != c->bv->modes[last->block->mode] || !translatable(v) ||
        mmu_fetch_page(v, v->s.rip, &gpa, &page) != SOFT_OK || !page)
        return false;
    struct block *k = btcache_find(c->bv, gpa | (v->s.rip & (MEM_PAGE - 1)), last->block->mode);
    if (!k || k->straddles) /* where its second page lies must be looked up each time */
        return false;
    fill_piece(v, k, p);
    return p->insns != 0;
}

/* Forward links alone, and a jump cache that knows but these: nothing goes in circles. */
int bt_run_pieces(struct vcpu *v, const struct bt_piece *p, unsigned n, struct bt_chain *chain)
{
    struct bt_cpu *c = cpu_of(v);
    struct bt_vm *b = c->bv;
    uint64_t insns = c->insns;

    if (chain->from && chain->flushes == b->flushes && p->rip == chain->to &&
        p->gpa > chain->from_gpa) {
        pthread_mutex_lock(&b->lock);
        btcache_link(b, chain->from, p->block);
        pthread_mutex_unlock(&b->lock);
    }
    forget_code(c, true);
    for (unsigned i = 1; i < n; i++)
        remember(c, p->block->mode, p[i].rip, p[i].block);
    set_gs(c);
    int stop = run_blocks(c, p->block, &chain->from);
    chain->insns = c->insns - insns;
    chain->cut = c->called_out;
    chain->flushes = b->flushes;
    chain->to = v->s.rip;
    if (chain->cut)
        chain->from = NULL;
    if (chain->from) /* a link lies in its block */
        chain->from_gpa =
            b->blocks[((uintptr_t)chain->from - (uintptr_t)b->blocks) / sizeof(*b->blocks)].gpa;
    return stop;
}

void bt_stats(struct vcpu *v, struct cpu_stats *out)
{
    const struct bt_cpu *c = cpu_of(v);

    *out = v->stats;
    if (c->bv->count)
        out->insns = v->insns + c->insns - c->stub_calls; /* those are counted by both */
    out->interpreted = v->insns;
    out->xlat_ns = c->xlat_ns;
    out->fallbacks = 0;
    for (unsigned op = 0; op < CPU_OPS; op++)
        out->fallbacks += v->op_count[op];
    out->blocks = out->flushes = 0; /* not the interpreter's own */
    if (v->index)
        return;
    out->blocks = c->bv->translated;
    out->guest_bytes = c->bv->guest_bytes;
    out->host_bytes = c->bv->host_bytes;
    out->flushes = c->bv->flushes;
}

void bt_fallbacks(struct vcpu *v, uint64_t *count)
{
    for (unsigned op = 0; op < CPU_OPS; op++)
        count[op] += v->op_count[op];
}

/* --- object -------------------------------------------------------------- */

static void new_epoch(struct bt_cpu *c, unsigned of)
{
    c->epoch_xor[of] += 1ull << 48;
    if (c->epoch_xor[of])
        return;
    c->epoch_xor[of] = 1ull << 48;
    memset(c->jc, 0, sizeof(c->jc));
}

static void forget_code(struct bt_cpu *c, bool all)
{
    new_epoch(c, 0);
    if (!all && !c->super_local)
        return;
    new_epoch(c, 1);
    c->super_local = false;
}

void bt_forget(struct bt_cpu *c)
{
    forget_code(c, true);
    btmem_flush(c);
}

static int vcpu_init(struct vcpu *v, struct err *e)
{
    struct bt_vm *b = vm_of(v);
    struct bt_cpu *c = cpu_of(v);
    int r = interp_ops.vcpu_init(v, e);

    if (r < 0)
        return r;
    c->bv = b;
    c->self = c;
    c->host_mxcsr = _mm_getcsr();
    c->epoch_xor[0] = c->epoch_xor[1] = 1ull << 48; /* an entry of zeroes is valid in epoch 0 */
    for (unsigned s = 0; s < TLB_SETS; s++)
        c->tlb[s][0].rtag = c->tlb[s][0].wtag = btlb_invalid(0);
    c->xlat = xlat_new();
    v->op_count = calloc(CPU_OPS, sizeof(*v->op_count));
    if (!c->xlat || !v->op_count) {
        xlat_free(c->xlat);
        free(v->op_count);
        interp_ops.vcpu_done(v);
        return err_set(e, -ENOMEM, "out of memory");
    }
    b->cpu[v->index] = c;
    return 0;
}

static void vcpu_done(struct vcpu *v)
{
    struct bt_vm *b = vm_of(v);

    xlat_free(cpu_of(v)->xlat);
    free(v->op_count);
    b->cpu[v->index] = NULL;
    interp_ops.vcpu_done(v);
}

static void code_written(struct soft_vm *vm, int64_t page, uint64_t chunks)
{
    struct bt_vm *b = vm->engine;

    pthread_mutex_lock(&b->lock);
    btcache_kill(b, page, chunks);
    pthread_mutex_unlock(&b->lock);
    interp_ops.code_written(vm, page, chunks);
}

static void flush(struct vcpu *v, enum soft_flush what)
{
    struct bt_cpu *c = cpu_of(v);

    switch (what) {
    case FLUSH_ALL:
        bt_forget(c);
        break;
    case FLUSH_LOCAL:
        forget_code(c, false);
        btmem_flush_local(c);
        break;
    case FLUSH_CODE:
    case FLUSH_CODE_LOW:
        forget_code(c, what == FLUSH_CODE);
        break;
    }
    interp_ops.flush(v, what);
}

static void flush_page(struct vcpu *v, gva_t gva, bool all)
{
    if (all)
        btmem_flush(cpu_of(v));
    else
        btmem_flush_page(cpu_of(v), gva);
}

static void drop_write(struct vcpu *v, const uint8_t *page)
{
    btmem_drop_write(cpu_of(v), (uint64_t)(uintptr_t)page);
}

const struct soft_engine_ops bt_ops = {
    .vcpu_bytes = sizeof(struct bt_cpu),
    .vcpu_init = vcpu_init,
    .vcpu_done = vcpu_done,
    .exec = exec,
    .code_written = code_written,
    .flush = flush,
    .flush_page = flush_page,
    .drop_write = drop_write,
};

int bt_vm_init(struct soft_vm *vm, struct err *e)
{
    struct bt_vm *b = calloc(1, sizeof(*b));
    uint64_t bytes = vm->c.code_cache_bytes ? vm->c.code_cache_bytes : CPU_CODE_CACHE_DEFAULT;

    if (!b)
        return err_set(e, -ENOMEM, "out of memory");
    b->vm = vm;
    b->count = vm->c.count_insns;
    pthread_mutex_init(&b->lock, NULL);
    b->perf_fd = -1;
    vm->engine = b;
    if (bytes < CPU_CODE_CACHE_MIN || bytes > CPU_CODE_CACHE_MAX)
        return err_set(e, -EINVAL, "a code cache of %llu bytes: it has %d MiB to %d MiB",
                       (unsigned long long)bytes, CPU_CODE_CACHE_MIN >> 20,
                       CPU_CODE_CACHE_MAX >> 20);
    int r = btcache_init(b, bytes, e);
    if (r < 0 || !vm->c.perf_map)
        return r;
    b->perf_fd = btperf_open(e);
    btperf_reset(b->perf_fd, b->code.rx, (size_t)(b->after_stubs - b->code.rw));
    return b->perf_fd < 0 ? b->perf_fd : 0;
}

void bt_vm_done(struct soft_vm *vm)
{
    struct bt_vm *b = vm->engine;

    if (!b)
        return;
    btcache_done(b);
    if (b->perf_fd >= 0)
        close(b->perf_fd);
    pthread_mutex_destroy(&b->lock);
    free(b);
    vm->engine = NULL;
}
