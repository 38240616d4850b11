/* One block: decode, find out which flags live, emit.
 *
 * A block is straight-line code within one page. Backward liveness says where a look-up, which
 * clobbers EFLAGS, must save them; behind the block, the code that follows in the same page says
 * which of the six arithmetic flags it reads, and elsewhere all count as live. xlat.st follows
 * where they are. */
#include <stdlib.h>
#include <x86intrin.h>

#include "cpu/bt/btperf.h"
#include "cpu/bt/xlat_priv.h"
#include "cpu/soft/mmu.h"

struct xlat *xlat_new(void)
{
    struct xlat *x = calloc(1, sizeof(*x));

    if (x)
        ZydisDecoderInit(&x->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    return x;
}

void xlat_free(struct xlat *x)
{
    free(x);
}

/* --- decode --------------------------------------------------------------- */

/* The instruction at `off` of the page. False: undefined here, or more of it than is there, or it
 * lies where code changes all the time. */
static bool decode_one(struct xlat *x, unsigned off, struct xinsn *i, struct kind *k)
{
    if (off >= MEM_PAGE || !ZYAN_SUCCESS(ZydisDecoderDecodeFull(&x->decoder, x->source + off,
                                                                x->end - off, &i->z, i->op)))
        return false;
    unsigned end = off + i->z.length;
    uint64_t chunks = mem_chunks(off, end <= MEM_PAGE ? i->z.length : MEM_PAGE - off);
    if (x->part[0].hot & chunks)
        return false;
    x->part[0].chunks |= chunks;
    if (end > MEM_PAGE)
        x->part[1].chunks |= mem_chunks(0, end - MEM_PAGE);
    i->raw = x->source + off;
    classify(i, x->model, x->mode, k);
    return true;
}

bool xlat_straddles(struct xlat *x, int64_t off)
{
    ZydisDecodedInstruction z;

    if (off >= MEM_PAGE || off < MEM_PAGE - STRADDLE_MAX)
        return false;
    return ZydisDecoderDecodeInstruction(&x->decoder, NULL, x->source + off, MEM_PAGE - off, &z) ==
           ZYDIS_STATUS_NO_MORE_DATA;
}

/* Executed twice it would not say the same: for lockstep it must stand alone. */
static bool of_the_machine(const struct xinsn *i)
{
    switch (i->z.mnemonic) {
    case ZYDIS_MNEMONIC_CPUID:
    case ZYDIS_MNEMONIC_RDMSR:
    case ZYDIS_MNEMONIC_RDTSC:
    case ZYDIS_MNEMONIC_RDTSCP:
        return true;
    default:
        return false;
    }
}

static void decode(struct xlat *x, unsigned off)
{
    x->n = 0;
    x->off[0] = (uint16_t)off;
    while (x->n < BLOCK_INSNS_MAX && decode_one(x, off, &x->in[x->n], &x->kind[x->n])) {
        if (x->apart && of_the_machine(&x->in[x->n]))
            x->kind[x->n].way = WAY_INTERP_END;
        if (x->apart && x->n && x->kind[x->n].way == WAY_INTERP_END)
            return;
        off += x->in[x->n].z.length;
        x->off[++x->n] = (uint16_t)off;
        if (xflow_ends(x->kind[x->n - 1].way))
            return;
    }
}

enum { LOOK_AHEAD = 8 }; /* instructions */

/* Flags that code at `off` reads before it overwrites them; all that cannot be known for sure. */
static uint8_t needed_at(struct xlat *x, int64_t off)
{
    uint8_t need = 0, killed = 0;
    struct xinsn in;
    struct kind k;

    for (unsigned n = 0; n < LOOK_AHEAD && xflow_in_page(off); n++) {
        if (!decode_one(x, (unsigned)off, &in, &k))
            break;
        need |= (uint8_t)(k.reads & ~killed);
        killed |= k.kills;
        if ((need | killed) == KF_ALL)
            return need;
        off += in.z.length;
        if (k.way == WAY_JMP)
            off = xflow_target(&in, (unsigned)off);
        else if (xflow_ends(k.way))
            break;
    }
    return (uint8_t)(need | (KF_ALL & ~killed));
}

/* Flags wanted behind the block, by its links and in all. */
static uint8_t live_out(struct xlat *x)
{
    unsigned last = x->n - 1, next = x->off[x->n];

    x->need[0] = x->need[1] = KF_ALL;
    switch (x->kind[last].way) {
    case WAY_JCC:
        x->need[1] = needed_at(x, next);
        x->need[0] = needed_at(x, xflow_target(&x->in[last], next));
        return x->need[0] | x->need[1];
    case WAY_JMP:
    case WAY_CALL:
        return x->need[0] = needed_at(x, xflow_target(&x->in[last], next));
    case WAY_CALL_IND:
    case WAY_RET:
    case WAY_JMP_IND:
    case WAY_INTERP_END:
        return KF_ALL;
    default:
        return x->need[0] = needed_at(x, next);
    }
}

static void liveness(struct xlat *x)
{
    uint8_t live = live_out(x);

    x->live_in[x->n] = live;
    for (unsigned i = x->n; i-- > 0;) {
        live = (uint8_t)((live & ~x->kind[i].kills) | x->kind[i].reads);
        x->live_in[i] = live;
    }
}

/* --- the block ------------------------------------------------------------- */

/* Is memory the better place for the flags the block finds? If what comes first destroys EFLAGS,
 * and not if it reads them or leaves some. */
static bool start_in_memory(const struct xlat *x)
{
    if (x->vec)
        return true;
    for (unsigned i = 0; i < x->n; i++) {
        const struct kind *k = &x->kind[i];

        switch (k->way) {
        case WAY_REGS:
            if (k->reads || (k->writes && (x->live_in[i + 1] & ~k->kills)))
                return false;
            if (k->writes)
                return true;
            break;
        case WAY_LEA:
        case WAY_NOP:
            break;
        case WAY_JCC:
            return false;
        default:
            return true;
        }
    }
    return true;
}

static void count_insns(struct emit *e, unsigned n)
{
    emit_load_gs(e, T0, CPU(insns));
    emit_lea(e, true, T0, T0, 0xff, 1, (int32_t)n);
    emit_store_gs(e, T0, CPU(insns));
}

/* Two entries, with flags in memory and with flags in EFLAGS, that lead to the body, which finds
 * them in one of the two. The body's first 8 bytes, aligned, can be turned into a jump when the
 * block dies. */
static void prologue(struct xlat *x)
{
    static const uint8_t nop8[] = {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};
    struct emit *e = x->e;
    struct block *k = x->k;
    bool memory = start_in_memory(x), live = x->live_in[0];

    code_ref other = emit_ref(x->b, e);
    if (live && memory)
        xinsn_save_flags(e);
    else if (live)
        xinsn_load_flags(e);
    emit_align(e, 8);
    k->body = k->entry_m = k->entry_f = emit_ref(x->b, e);
    if (live && memory)
        k->entry_f = other;
    else if (live)
        k->entry_m = other;
    x->st = !live ? ST_DEAD : memory ? ST_MEMORY : ST_EFLAGS;
    emit_bytes(e, nop8, sizeof(nop8));
    if (x->b->count)
        count_insns(e, x->n);
    if (x->vec) {
        emit_cmp_gs(e, CPU(vec_live), 0);
        uint8_t *there = emit_jcc_fwd(e, CC_NE);
        emit_call(e, x->b->stub_vecload);
        emit_patch(e, there);
    }
}

static void epilogue(struct xlat *x)
{
    struct emit *e = x->e;

    for (unsigned i = 0; i < x->n_cold; i++)
        btmem_cold(e, x->b, x->vec, &x->cold[i]);
    for (unsigned i = 0; i < x->n_slow; i++) {
        for (unsigned k = 0; k < x->slow[i].n; k++)
            emit_patch(e, x->slow[i].from[k]);
        if (x->slow[i].kind != SWITCHES) {
            xswitch_slow(x, &x->slow[i]);
            continue;
        }
        xinsn_call_interp(x, x->slow[i].site);
        emit_jmp(e, x->slow[i].after);
    }
    /* Dead: leave before the first instruction. */
    x->k->cold_exit = emit_ref(x->b, e);
    xflow_exit(x, x->k->entry_m != x->k->body, x->off[0], 0);
}

bool xlat_full(const struct bt_vm *b)
{
    return b->code.e.end - b->code.e.p < BLOCK_BYTES_MAX || b->n_blocks + 2 > b->max_blocks;
}

/* Under the lock. */
static struct block *emit_block(struct xlat *x, struct bt_vm *b, gpa_t gpa, uint32_t mode)
{
    uint32_t m = b->modes[mode];

    if (xlat_full(b))
        return NULL;
    struct block *k = btcache_new(b);
    k->gpa = gpa;
    k->mode = (uint8_t)mode;
    k->chunks = x->part[0].chunks;
    k->born = (uint32_t)(__rdtsc() >> BORN_SHIFT);
    k->insns = (uint16_t)x->n;
    k->bytes = x->off[x->n] - x->off[0];
    k->interpreted = x->kind[0].way == WAY_INTERP_END;
    x->e = &b->code.e;
    x->b = b;
    x->k = k;
    x->n_cold = x->n_slow = 0;
    x->poll[0] = x->poll[1] = NULL;
    x->held[0] = x->held[1] = NO_REG;
    x->set = (m & MODE_CPL) == MODE_CPL ? TLB_USER : m & MODE_SMAP ? TLB_KERNEL_SMAP : TLB_KERNEL;
    x->vec = false;
    for (unsigned i = 0; i < x->n; i++)
        x->vec |= x->kind[i].vec;
    prologue(x);
    for (unsigned i = 0; i < x->n; i++)
        xinsn_emit(x, i);
    if (!xflow_ends(x->kind[x->n - 1].way))
        xflow_go(x, 0, x->off[x->n]);
    epilogue(x);
    BUG_ON(b->code.e.full); /* BLOCK_BYTES_MAX is more than any block can need */
    b->translated++;
    btcache_insert(b, k);
    if (x->n_parts > 1)
        btcache_insert2(b, k, x->part[1].gpa, x->part[1].chunks);
    return k;
}

static bool unchanged(const struct xlat *x)
{
    const struct part *p = x->part;

    for (uint64_t c = p->chunks; c; c &= c - 1) {
        size_t at = (size_t)__builtin_ctzll(c) * MEM_CHUNK;

        if (memcmp(x->source + at, p->bytes + at, MEM_CHUNK) != 0)
            return false;
    }
    return x->n_parts < 2 || !memcmp(x->source + MEM_PAGE, p[1].bytes, STRADDLE_MAX);
}

static void add_part(struct xlat *x, const struct bt_vm *b, gpa_t gpa, const uint8_t *page)
{
    struct part *p = &x->part[x->n_parts];
    unsigned bytes = x->n_parts++ ? STRADDLE_MAX : MEM_PAGE;

    p->gpa = gpa & ~(gpa_t)(MEM_PAGE - 1);
    p->page = mem_page(b->vm->c.mem, gpa);
    p->bytes = page;
    p->hot = __atomic_load_n(&b->smc[p->page].hot, __ATOMIC_RELAXED);
    p->chunks = 0;
    memcpy(x->source + x->end, page, bytes);
    x->end += bytes;
}

/* Fills in the block's instructions. False: there is none that can be translated. */
static bool take(struct xlat *x, struct bt_cpu *c, gpa_t gpa, const uint8_t *page)
{
    unsigned off = gpa & (MEM_PAGE - 1);
    gpa_t gpa2;

    x->end = x->n_parts = 0;
    add_part(x, c->bv, gpa, page);
    decode(x, off);
    if (!x->n && xlat_straddles(x, off)) {
        /* A fault here is met again, and reported, by the interpreter. */
        if (mmu_fetch_page(&c->v, (c->v.s.rip | (MEM_PAGE - 1)) + 1, &gpa2, &page) || !page)
            return false;
        add_part(x, c->bv, gpa2, page);
        decode(x, off);
    }
    return x->n;
}

/* Have the block's bytes been the same since before they were marked as code? Who writes them from
 * now on finds the marks and changes the generation. */
static bool mark(struct xlat *x, struct bt_cpu *c)
{
    for (unsigned n = 0; n < x->n_parts; n++) {
        struct part *p = &x->part[n];

        p->gen = atomic_load(&c->bv->vm->code_gen[p->page]);
        mmu_mark_chunks(&c->v, p->gpa, p->chunks);
    }
    return unchanged(x);
}

/* Under the lock. */
static bool still_same(const struct xlat *x, const struct bt_vm *b)
{
    for (unsigned n = 0; n < x->n_parts; n++) {
        if (atomic_load(&b->vm->code_gen[x->part[n].page]) != x->part[n].gen)
            return false;
    }
    return true;
}

/* The page is copied and decoded first, then marked as code where it was read, then compared. */
struct block *xlat_block(struct bt_cpu *c, gpa_t gpa, const uint8_t *page, uint32_t mode,
                         bool *alone)
{
    struct bt_vm *b = c->bv;
    struct xlat *x = c->xlat;

    x->model = b->vm->c.model;
    x->mode = b->modes[mode];
    x->apart = b->apart;
    *alone = !take(x, c, gpa, page);
    if (*alone)
        return NULL;
    liveness(x);
    xwindow_plan(x, b);
    if (!mark(x, c))
        return NULL;
    pthread_mutex_lock(&b->lock);
    struct block *k = btcache_find(b, gpa, mode);
    if (!k && still_same(x, b)) {
        const uint8_t *from = b->code.e.p;

        k = emit_block(x, b, gpa, mode);
        if (k) {
            b->guest_bytes += x->off[x->n] - x->off[0];
            b->host_bytes += (uint64_t)(b->code.e.p - from);
            btperf_block(b->perf_fd, from + b->code.e.to_rx, (size_t)(b->code.e.p - from),
                         (b->modes[mode] & MODE_CPL) == MODE_CPL, c->v.s.rip);
        }
    }
    pthread_mutex_unlock(&b->lock);
    return k;
}
