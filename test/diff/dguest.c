/* Cases on an engine: one vCPU in long mode, CPL 3, with the pages, selectors and flags that a
 * process of the host has. An exception arrives at ring 0 in a stub that tells its vector by an
 * OUT; the frame on the stack holds the rest. */
#include "test/diff/diff.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hw/clock.h"
#include "hw/timer.h"

enum { /* guest-physical; ring 0 sees it from KERNEL on */
       RAM_BYTES = 1 << 20,
       PML4 = 0x1000,
       PDPT = 0x2000,
       PD = 0x3000,
       PT_LOW = 0x4000,
       PT_CODE = 0x5000,
       PT_DATA = 0x6000,
       GDT = 0x7000,
       IDT = 0x8000,
       TSS = 0x9000,
       STUBS = 0xa000,
       STACK = 0xd000, /* top */
       PDPT_HIGH = 0xe000,
       PD_HIGH = 0xf000,
       CODE = 0x20000,
       DATA = 0x60000,
};
enum { PTE_P = 1, PTE_W = 2, PTE_U = 4 };
enum { KERNEL_CS = 0x10, KERNEL_SS = 0x18, TSS_SEL = 0x40, VECTORS = 32, STUB_BYTES = 8 };
enum { LIMIT_S = 20 }; /* per batch */
enum { SHUTDOWN_VECTOR = 0xff, HANG_VECTOR = 0xfe };
#define PTE_NX (1ull << 63)
#define KERNEL 0xffff800000000000 /* linear, as Linux: nothing of it shows in the lower half */

struct dguest {
    const struct cpu_engine *e;
    const uint8_t *pool;
    struct mem *mem;
    struct clock clock;
    struct timerq timers;
    struct cpu_vm *vm;
    struct vcpu *v;
    struct cpu_state base; /* what all cases start from */
    struct cpu_state s;
};

static struct dguest *the_guest; /* for the alarm */

static void on_alarm(int sig)
{
    the_guest->e->kick(the_guest->v);
}

static void put(struct dguest *q, gpa_t at, const void *p, size_t len)
{
    if (mem_write(q->mem, at, p, len) < 0)
        abort();
}

static void put64(struct dguest *q, gpa_t at, uint64_t x)
{
    put(q, at, &x, 8);
}

static void map(struct dguest *q, gpa_t pt, unsigned pages, gpa_t to, uint64_t bits)
{
    for (unsigned n = 0; n < pages; n++)
        put64(q, pt + 8 * n, (to + n * MEM_PAGE) | bits);
}

static void make_pages(struct dguest *q)
{
    unsigned rw = DIFF_RW_BYTES / MEM_PAGE, ro = (DIFF_DATA_BYTES - DIFF_RW_BYTES) / MEM_PAGE;
    uint64_t all = PTE_P | PTE_W | PTE_U;

    put64(q, PML4, PDPT | all);
    put64(q, PDPT, PD | all);
    put64(q, PML4 + 8 * 256, PDPT_HIGH | all);
    put64(q, PDPT_HIGH, PD_HIGH | all);
    put64(q, PD_HIGH, PT_LOW | all);
    put64(q, PD + 8 * (DIFF_CODE >> 21), PT_CODE | all);
    put64(q, PD + 8 * (DIFF_DATA >> 21), PT_DATA | all);
    map(q, PT_LOW, RAM_BYTES / MEM_PAGE, 0, PTE_P | PTE_W);
    map(q, PT_CODE, DIFF_CODE_BYTES / MEM_PAGE, CODE, PTE_P | PTE_U);
    map(q, PT_DATA, rw, DATA, all | PTE_NX);
    map(q, PT_DATA + 8 * rw, ro, DATA + DIFF_RW_BYTES, PTE_P | PTE_U | PTE_NX);
}

static void make_tables(struct dguest *q)
{
    static const uint64_t gdt[] = {
        0,
        0,
        0x00af9b000000ffff,
        0x00cf93000000ffff, /* 10: kernel code, 18: data */
        0x00cffb000000ffff,
        0x00cff3000000ffff, /* 23: 32-bit code, 2b: data */
        0x00affb000000ffff,
        0, /* 33: 64-bit code */
        0x0000890000000067 | (uint64_t)TSS << 16,
        0,
    };
    uint8_t stub[2] = {0xe6, 0}; /* out n, al */

    put(q, GDT, gdt, sizeof(gdt));
    put64(q, TSS + 4, KERNEL + STACK);
    put(q, TSS + 0x66, &(uint16_t){0xffff}, 2); /* no I/O bitmap */
    for (unsigned n = 0; n < VECTORS; n++) {
        uint64_t to = KERNEL + STUBS + n * STUB_BYTES;
        uint64_t dpl = n == VEC_BP || n == VEC_OF || n == VEC_DB ? 3 : 0;

        stub[1] = (uint8_t)n;
        put(q, STUBS + n * STUB_BYTES, stub, 2);
        put64(q, IDT + 16 * n,
              (to & 0xffff) | KERNEL_CS << 16 | (0x8eull | dpl << 5) << 40 |
                  (to >> 16 & 0xffff) << 48);
        put64(q, IDT + 16 * n + 8, to >> 32);
    }
}

static struct x86_seg user_seg(uint16_t sel, uint32_t attr)
{
    return (struct x86_seg){.sel = sel, .limit = UINT32_MAX, .attr = attr};
}

static void make_state(struct dguest *q)
{
    struct cpu_state *s = &q->base;
    struct x86_seg null = {.attr = SEG_UNUSABLE};

    cpu_state_reset(s, 0, false);
    s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    s->cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE |
             CR4_UMIP | CR4_DE;
    s->cr3 = PML4;
    s->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    s->xcr0 = XCR0_ALL;
    s->gdtr = (struct x86_table){.base = KERNEL + GDT, .limit = 0x4f};
    s->idtr = (struct x86_table){.base = KERNEL + IDT, .limit = VECTORS * 16 - 1};
    s->tr = (struct x86_seg){.sel = TSS_SEL, .base = KERNEL + TSS, .limit = 0x67, .attr = 0x8b};
    s->ldtr = null;
    for (unsigned n = 0; n < SEGS; n++)
        s->seg[n] = null;
    s->seg[SEG_DS] = s->seg[SEG_ES] = s->seg[SEG_SS] = user_seg(DIFF_DS, 0xc0f3);
    s->seg[SEG_GS].base = DIFF_DATA;
}

static void case_state(struct dguest *q, const struct diff_case *c)
{
    struct cpu_state *s = &q->s;

    *s = q->base;
    memcpy(s->gpr, c->in.gpr, sizeof(s->gpr));
    s->rip = c->in.rip;
    s->rflags = c->in.rflags;
    s->seg[SEG_CS] = c->c32 ? user_seg(DIFF_CS32, 0xc0fb) : user_seg(DIFF_CS64, 0xa0fb);
    memset(s->xsave, 0, sizeof(s->xsave));
    memcpy(s->xsave, c->in.fx, DIFF_FX);
    memcpy(s->xsave + XSAVE_YMMH, c->in.ymmh, DIFF_YMMH);
    s->xsave[XSAVE_HDR] = XCR0_ALL;
}

static bool has_error(unsigned vector)
{
    return vector == VEC_DF || (vector >= VEC_TS && vector <= VEC_PF) || vector == VEC_AC;
}

static int keep(struct dguest *q, unsigned vector, struct diff_result *r)
{
    uint64_t frame[6]; /* error, RIP, CS, RFLAGS, RSP, SS */

    if (mem_read(q->mem, STACK - sizeof(frame), frame, sizeof(frame)) < 0 ||
        mem_read(q->mem, DATA, r->data, DIFF_DATA_BYTES) < 0)
        return -EFAULT;
    memcpy(r->s.gpr, q->s.gpr, sizeof(r->s.gpr));
    memcpy(r->s.fx, q->s.xsave, DIFF_FX);
    memcpy(r->s.ymmh, q->s.xsave + XSAVE_YMMH, DIFF_YMMH);
    r->s.vector = (uint8_t)vector;
    r->s.cr2 = q->s.cr2;
    r->done = true;
    if (vector >= VECTORS) {
        r->s.rip = q->s.rip;
        return 0;
    }
    r->s.error = has_error(vector) ? (uint32_t)frame[0] : 0;
    r->s.rip = frame[1];
    r->s.rflags = frame[3];
    r->s.gpr[RSP] = frame[4];
    return 0;
}

/* Run until the case ends. Returns its vector, or a negative errno. */
static int run(struct dguest *q, struct err *e)
{
    struct cpu_exit x;
    int r, vector = SHUTDOWN_VECTOR;

    r = q->e->run(q->v, &x, e);
    if (r < 0)
        return r;
    if (x.kind == CPU_EXIT_PIO) {
        vector = x.u.pio.port;
        q->e->kick(q->v);
        r = q->e->run(q->v, &x, e); /* finishes the OUT */
    } else if (x.kind == CPU_EXIT_KICKED) {
        vector = HANG_VECTOR;
    }
    return r < 0 ? r : vector;
}

int dguest_run(struct dguest *q, const struct diff_case *cases, unsigned n, struct diff_result *out,
               struct err *e)
{
    int r = 0;

    for (unsigned k = 0; k < n; k++)
        put(q, CODE + (cases[k].in.rip - DIFF_CODE), cases[k].code, DIFF_CASE_BYTES);
    the_guest = q;
    (void)signal(SIGALRM, on_alarm);
    (void)alarm(LIMIT_S);
    for (unsigned k = 0; k < n && r >= 0; k++) {
        put(q, DATA, q->pool + cases[k].pool_at, DIFF_RW_BYTES);
        case_state(q, &cases[k]);
        r = q->e->set(q->v, &q->s, e);
        if (r < 0)
            break;
        int vector = run(q, e);
        if (vector < 0)
            return vector;
        r = q->e->get(q->v, &q->s, e);
        if (r >= 0)
            r = keep(q, (unsigned)vector, &out[k]);
    }
    (void)alarm(0);
    return r;
}

int dguest_new(const struct dgen *g, const struct cpu_engine *engine, struct dguest **ret,
               struct err *e)
{
    struct dguest *q = calloc(1, sizeof(*q));
    struct cpu_vm_conf conf;
    int r;

    if (!q)
        return -ENOMEM;
    q->e = engine;
    q->pool = g->pool;
    q->mem = mem_new(RAM_BYTES, e);
    if (!q->mem)
        return -ENOMEM;
    clock_init(&q->clock, clock_host(), 0);
    timerq_init(&q->timers, NULL, NULL);
    conf = (struct cpu_vm_conf){
        .mem = q->mem, .clock = &q->clock, .timers = &q->timers, .model = g->model};
    r = engine->vm_new(&conf, &q->vm, e);
    if (r >= 0)
        r = engine->vcpu_new(q->vm, 0, &q->v, e);
    if (r < 0)
        return r;
    make_pages(q);
    make_tables(q);
    make_state(q);
    put(q, DATA + DIFF_RW_BYTES, g->pool, DIFF_DATA_BYTES - DIFF_RW_BYTES);
    *ret = q;
    return 0;
}

void dguest_free(struct dguest *q)
{
    if (!q)
        return;
    q->e->vcpu_free(q->v);
    q->e->vm_free(q->vm);
    timerq_done(&q->timers);
    mem_free(q->mem);
    free(q);
}
