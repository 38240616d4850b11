/* Windows: accesses of a block by way of the same base register lie near each other, so one look-up
 * of all the bytes between the lowest and the highest does for all of them. The first access leads:
 * it makes the look-up and keeps the host address in bt_cpu.window; the others load it from there,
 * which leaves EFLAGS alone besides. The look-up asks for write rights if any of them writes.
 *
 * A window that crosses a page is no window: the leader is interpreted then, and the block left, so
 * that the next one begins behind it. Where that happens again and again, the accesses are made one
 * by one. */
#include "cpu/bt/xlat_priv.h"

enum { SPAN_MAX = 64, STACK_SPAN_MAX = 128 }; /* bytes */
enum { BASE_RIP = GPRS, BASES };

struct plan {
    int open[BASES]; /* window that the next access by this base may join, -1 = none */
    int32_t sp;      /* what was added to RSP since the block began, while that is known */
    struct {
        int32_t low, high;
        unsigned n, leader;
        bool write;
    } w[BLOCK_INSNS_MAX];
    unsigned n;
};

struct reach { /* one access */
    int base;
    int32_t at; /* relative to the base; RSP's as it was at the block's beginning */
    unsigned bytes;
    bool write;
};

/* The access of instruction i that a window can serve. False: none. */
static bool reach_of(const struct xlat *x, unsigned i, const struct plan *p, struct reach *r)
{
    const struct kind *k = &x->kind[i];
    const ZydisDecodedOperand *o = k->mem >= 0 ? &x->in[i].op[k->mem] : NULL;
    bool high;

    switch (k->way) {
    case WAY_PUSH:
    case WAY_CALL:
        *r = (struct reach){RSP, p->sp - 8, 8, true};
        return true;
    case WAY_POP:
    case WAY_RET:
        *r = (struct reach){RSP, p->sp, 8, false};
        return true;
    case WAY_LEAVE:
        *r = (struct reach){RBP, 0, 8, false};
        return true;
    case WAY_MEM:
    case WAY_DIV:
        break;
    default:
        return false;
    }
    if (!o || k->align > 1 || k->mem_bytes > 32 || o->mem.index != ZYDIS_REGISTER_NONE ||
        x->in[i].z.address_width != 64 || o->mem.segment == ZYDIS_REGISTER_FS ||
        o->mem.segment == ZYDIS_REGISTER_GS || !xinsn_copyable(x, i))
        return false;
    /* A SIB byte without a base (SDM vol 2A, table 2-5), for which the decoder names one. */
    if (x->in[i].z.raw.modrm.rm == 4 && x->in[i].z.raw.modrm.mod == 0 &&
        x->in[i].z.raw.sib.base == 5)
        return false;
    int64_t at = o->mem.disp.has_displacement ? x->in[i].z.raw.disp.value : 0;
    r->base = o->mem.base == ZYDIS_REGISTER_RIP ? BASE_RIP : rewrite_gpr(o->mem.base, &high);
    if (r->base < 0)
        return false;
    at += r->base == BASE_RIP ? x->off[i + 1] : r->base == RSP ? p->sp : 0;
    r->at = (int32_t)at;
    r->bytes = k->mem_bytes;
    r->write = k->mem_write;
    return at > INT32_MIN / 2 && at < INT32_MAX / 2;
}

static void join(struct xlat *x, unsigned i, struct plan *p, const struct reach *r)
{
    int32_t low = r->at, high = r->at + (int32_t)r->bytes;
    int32_t max = r->base == RSP ? STACK_SPAN_MAX : SPAN_MAX;
    int n = p->open[r->base];

    if (n >= 0) {
        low = low < p->w[n].low ? low : p->w[n].low;
        high = high > p->w[n].high ? high : p->w[n].high;
    }
    if (n < 0 || high - low > max) {
        n = (int)p->n++;
        p->open[r->base] = n;
        p->w[n].n = 0;
        p->w[n].leader = i;
        p->w[n].write = false;
        low = r->at;
        high = r->at + (int32_t)r->bytes;
    }
    p->w[n].low = low;
    p->w[n].high = high;
    p->w[n].write |= r->write;
    x->access[i] = (struct access){.window = (int8_t)n, .leads = !p->w[n].n++, .at = r->at};
}

/* What instruction i adds to RSP; false: not known. */
static bool moves_stack(const struct xlat *x, unsigned i, int32_t *by)
{
    const struct xinsn *in = &x->in[i];
    const ZydisDecodedOperand *o = in->op;

    switch (x->kind[i].way) {
    case WAY_PUSH:
    case WAY_PUSHMEM:
    case WAY_PUSHF:
        *by = -8;
        return true;
    case WAY_POP:
        *by = 8;
        return o[0].reg.value != ZYDIS_REGISTER_RSP;
    case WAY_POPF:
        *by = 8;
        return true;
    case WAY_REGS:
        if (o[0].reg.value != ZYDIS_REGISTER_RSP || o[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE ||
            (in->z.mnemonic != ZYDIS_MNEMONIC_ADD && in->z.mnemonic != ZYDIS_MNEMONIC_SUB))
            return false;
        *by =
            (int32_t)(in->z.mnemonic == ZYDIS_MNEMONIC_ADD ? o[1].imm.value.s : -o[1].imm.value.s);
        return o[1].imm.value.s > -(1 << 20) && o[1].imm.value.s < 1 << 20;
    default:
        return false;
    }
}

/* No access behind instruction i may join a window by a register it changed. */
static void close_changed(const struct xlat *x, unsigned i, struct plan *p)
{
    const struct xinsn *in = &x->in[i];
    bool high;
    int32_t by;

    if (x->kind[i].way == WAY_INTERP || x->kind[i].way == WAY_REPEAT) {
        memset(p->open, -1, sizeof(p->open));
        return;
    }
    for (unsigned k = 0; k < in->z.operand_count; k++) {
        if (in->op[k].type != ZYDIS_OPERAND_TYPE_REGISTER ||
            !(in->op[k].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE))
            continue;
        int g = rewrite_gpr(in->op[k].reg.value, &high);
        if (g >= 0 && g != RSP)
            p->open[g] = -1;
        else if (g == RSP && !moves_stack(x, i, &by))
            p->open[RSP] = -1;
    }
    if (moves_stack(x, i, &by))
        p->sp += by;
    if (x->kind[i].way == WAY_LEAVE || x->kind[i].way == WAY_STRING)
        memset(p->open, -1, sizeof(p->open));
}

void xwindow_plan(struct xlat *x, const struct bt_vm *b)
{
    struct plan p = {0};
    struct reach r;

    memset(p.open, -1, sizeof(p.open));
    for (unsigned i = 0; i < x->n; i++) {
        x->access[i] = (struct access){.window = -1};
        if (reach_of(x, i, &p, &r))
            join(x, i, &p, &r);
        close_changed(x, i, &p);
    }
    x->n_windows = 0;
    int8_t slot[BLOCK_INSNS_MAX];
    for (unsigned n = 0; n < p.n; n++) {
        slot[n] = -1;
        if (p.w[n].n < 2 || x->n_windows == WINDOWS_MAX ||
            btcache_crosses(b, x->part[0].gpa + x->off[p.w[n].leader]))
            continue;
        slot[n] = (int8_t)x->n_windows;
        x->window[x->n_windows++] = (struct window){
            .low = p.w[n].low,
            .span = (unsigned)(p.w[n].high - p.w[n].low),
            .write = p.w[n].write,
        };
    }
    for (unsigned i = 0; i < x->n; i++) {
        if (x->access[i].window >= 0)
            x->access[i].window = slot[x->access[i].window];
    }
}
