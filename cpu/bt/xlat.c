/* One block: decode, find out which flags live, emit.
 *
 * A block is straight-line code within one page. At its entry and at every exit all six arithmetic
 * flags count as live; inside, backward liveness says where a look-up (which clobbers EFLAGS) must
 * save them. xlat.st follows where they are. */
#include <stdlib.h>

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

/* Fills in[], kind[], off[] from source[], whose first byte lies at `off` in its page. */
static void decode(struct xlat *x, unsigned off, unsigned room, const struct cpu_model *m,
                   uint32_t mode)
{
    unsigned at = 0;

    x->n = 0;
    x->off[0] = (uint16_t)off;
    while (x->n < BLOCK_INSNS_MAX) {
        struct xinsn *i = &x->in[x->n];

        if (!ZYAN_SUCCESS(
                ZydisDecoderDecodeFull(&x->decoder, x->source + at, room - at, &i->z, i->op)))
            return; /* undefined, or it crosses the page: alone, by the interpreter */
        i->raw = x->source + at;
        classify(i, m, mode, &x->kind[x->n]);
        at += i->z.length;
        x->off[++x->n] = (uint16_t)(off + at);
        if (xflow_ends(x->kind[x->n - 1].way) || at == room)
            return;
    }
}

static void liveness(struct xlat *x)
{
    uint8_t live = KF_ALL;

    x->live_in[x->n] = live;
    for (unsigned i = x->n; i-- > 0;) {
        live = (uint8_t)((live & ~x->kind[i].kills) | x->kind[i].reads);
        x->live_in[i] = live;
    }
}

/* --- the block ------------------------------------------------------------- */

/* Two entries. With flags in EFLAGS: save them if the block wants any, fall into the other. With
 * flags in memory: 8 aligned bytes that can be turned into a jump when the block dies; count; look
 * at the requests; have the vector registers live if they are used. */
static uint8_t *prologue(struct xlat *x, bool vec)
{
    struct emit *e = x->e;
    static const uint8_t nop8[] = {0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};

    x->k->entry_f = emit_here(e);
    if (x->live_in[0])
        xinsn_save_flags(e);
    while ((uintptr_t)e->p & 7)
        emit_1(e, 0x90);
    if (!x->live_in[0])
        x->k->entry_f = emit_here(e);
    x->k->entry_m = emit_here(e);
    x->k->patch = e->p;
    emit_bytes(e, nop8, sizeof(nop8));
    emit_1(e, 0x65); /* add qword gs:[insns], n */
    emit_1(e, 0x48);
    emit_1(e, 0x83);
    emit_1(e, 0x04);
    emit_1(e, 0x25);
    emit_4(e, CPU(insns));
    emit_1(e, (uint8_t)x->n);
    emit_load_gs(e, T0, CPU(requests));
    emit_1(e, 0x41); /* cmp dword [T0], 0 */
    emit_1(e, 0x83);
    emit_1(e, 0x38 | (T0 & 7));
    emit_1(e, 0);
    uint8_t *requested = emit_jcc_fwd(e, CC_NE);
    if (vec) {
        emit_load_gs(e, T1, CPU(vec_live));
        emit_rr(e, true, 0x85, T1, T1);
        uint8_t *live = emit_jcc_fwd(e, CC_NE);
        emit_call(e, x->b->stub_vecload);
        emit_patch(e, live);
    }
    x->st = x->live_in[0] ? ST_MEMORY : ST_DEAD;
    return requested;
}

static void epilogue(struct xlat *x, uint8_t *requested)
{
    struct emit *e = x->e;

    for (unsigned i = 0; i < x->n_cold; i++)
        btmem_cold(e, x->b, &x->cold[i]);
    for (unsigned i = 0; i < x->n_div; i++) {
        static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00, 0x00};

        for (unsigned k = 0; k < x->div[i].n; k++)
            emit_patch(e, x->div[i].from[k]);
        emit_mov_imm32(e, T1, x->div[i].site);
        emit_call(e, x->b->stub_interp);
        emit_bytes(e, nop5, sizeof(nop5));
        emit_jmp(e, x->div[i].after);
    }
    /* Somebody wants the vCPU, or the block is dead: leave before its first instruction. The count
     * is taken back. */
    emit_patch(e, requested);
    emit_1(e, 0x65); /* sub qword gs:[insns], n */
    emit_1(e, 0x48);
    emit_1(e, 0x83);
    emit_1(e, 0x2c);
    emit_1(e, 0x25);
    emit_4(e, CPU(insns));
    emit_1(e, (uint8_t)x->n);
    x->k->cold_exit = emit_here(e);
    emit_load_gs(e, T0, CPU(page_lin));
    emit_lea(e, true, T0, T0, 0xff, 1, x->off[0]);
    xflow_leave_with_t0(x);
}

bool xlat_full(const struct bt_vm *b)
{
    return b->code.e.end - b->code.e.p < BLOCK_BYTES_MAX || b->n_blocks == b->max_blocks;
}

/* Under the lock. */
static struct block *emit_block(struct xlat *x, struct bt_vm *b, gpa_t gpa, uint32_t mode)
{
    uint32_t m = b->modes[mode];
    bool vec = false;

    if (xlat_full(b))
        return NULL;
    struct block *k = btcache_new(b);
    k->gpa = gpa;
    k->mode = mode;
    x->e = &b->code.e;
    x->b = b;
    x->k = k;
    x->n_cold = x->n_div = 0;
    x->set = (m & MODE_CPL) == MODE_CPL ? TLB_USER : m & MODE_SMAP ? TLB_KERNEL_SMAP : TLB_KERNEL;
    for (unsigned i = 0; i < x->n; i++)
        vec |= x->kind[i].vec;
    uint8_t *requested = prologue(x, vec);
    for (unsigned i = 0; i < x->n; i++)
        xinsn_emit(x, i);
    if (!xflow_ends(x->kind[x->n - 1].way))
        xflow_go(x, 0, x->off[x->n]);
    epilogue(x, requested);
    BUG_ON(b->code.e.full); /* BLOCK_BYTES_MAX is more than any block can need */
    b->translated++;
    btcache_insert(b, k);
    return k;
}

/* The bytes are copied and decoded first, then marked as code, then compared: who writes them after
 * the comparison finds the mark, bumps the generation, and we see it under the lock. */
struct block *xlat_block(struct bt_cpu *c, gpa_t gpa, const uint8_t *page, uint32_t mode,
                         bool *alone)
{
    struct bt_vm *b = c->bv;
    struct xlat *x = c->xlat;
    unsigned off = (unsigned)(gpa & (MEM_PAGE - 1));
    unsigned room = MEM_PAGE - off < SOURCE_MAX ? MEM_PAGE - off : SOURCE_MAX;
    _Atomic uint32_t *gen = &b->vm->code_gen[mem_page(b->vm->c.mem, gpa)];

    memcpy(x->source, page + off, room);
    decode(x, off, room, b->vm->c.model, b->modes[mode]);
    *alone = x->n == 0;
    if (*alone)
        return NULL;
    liveness(x);
    unsigned len = x->off[x->n] - x->off[0];
    uint32_t before = atomic_load(gen);
    mmu_mark_code(c->v, gpa, len);
    if (memcmp(x->source, page + off, len) != 0)
        return NULL;
    pthread_mutex_lock(&b->lock);
    struct block *k = btcache_find(b, gpa, mode);
    if (!k && atomic_load(gen) == before) {
        const uint8_t *from = b->code.e.p;

        k = emit_block(x, b, gpa, mode);
        if (k) {
            b->guest_bytes += len;
            b->host_bytes += (uint64_t)(b->code.e.p - from);
            btperf_block(b->perf_fd, from + b->code.e.to_rx, (size_t)(b->code.e.p - from),
                         (b->modes[mode] & MODE_CPL) == MODE_CPL, c->v->s.rip);
        }
    }
    pthread_mutex_unlock(&b->lock);
    return k;
}
