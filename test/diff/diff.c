/* diff [--seed N] [--first ID] [--cases M] [--class int,vec,x87] [--insns K] [--engine E] [--only
 * MNEMONIC]
 *      [--no32] [--fails F]
 *
 * Runs random cases on the host's CPU and on an engine, and prints those that end differently. A
 * case is the same for the same seed and id, whatever the other cases are. */
#include "test/diff/diff.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"

/* Flags that are compared: what an instruction can change at CPL 3. RF differs by how the kernel
 * resumes; IF and IOPL cannot change. */
#define FLAGS_SEEN (FL_ARITH | FL_DF | FL_AC | FL_NT | FL_ID | FL_TF)

struct opts {
    uint64_t first, cases;
    unsigned max_fails;
    const char *engine;
};

/* The translator leaves flags that are overwritten before they are read unspecified at a fault in
 * between (docs/translator.md). */
static uint32_t dead_flags;

static struct diff_case cases[DIFF_BATCH];
static struct diff_result host[DIFF_BATCH], guest[DIFF_BATCH];

/* --- comparing
 * ------------------------------------------------------------------------------------ */

/* Flags that count at the place where the case ended. */
static uint32_t flags_mask(const struct diff_case *c, const struct diff_state *s)
{
    uint32_t undef = c->undef;
    uint32_t dead = s->vector != VEC_BP ? dead_flags : 0; /* INT3: nothing stopped it */

    if (s->rip == c->in.rip + c->len + 1)
        return FLAGS_SEEN & ~undef;
    for (unsigned n = 0; n < c->n; n++) {
        if (s->rip == c->in.rip + c->insn[n].at)
            return FLAGS_SEEN & ~(c->insn[n].undef | dead);
        undef |= c->insn[n].undef; /* it left by a branch: any of them may have been the last */
    }
    return FLAGS_SEEN & ~(undef | dead);
}

/* Linux reports a fault in the kernel's half as a protection violation. */
static uint32_t error_mask(const struct diff_state *s)
{
    if (s->vector != VEC_PF)
        return UINT32_MAX;
    return s->cr2 >> 63 ? ~1u : UINT32_MAX;
}

static void start_decoder(const struct diff_case *c, ZydisDecoder *d)
{
    (void)ZydisDecoderInit(d,
                           c->c32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_64,
                           c->c32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_64);
}

static ZydisMnemonic mnemonic_at(const struct diff_case *c, uint64_t rip)
{
    ZydisDecodedInstruction z;
    ZydisDecoder d;

    start_decoder(c, &d);
    for (unsigned n = 0; n < c->n; n++)
        if (rip == c->in.rip + c->insn[n].at &&
            ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&d, NULL, c->code + c->insn[n].at,
                                                       c->insn[n].len, &z)))
            return z.mnemonic;
    return ZYDIS_MNEMONIC_INVALID;
}

static bool coarse_fault(const struct diff_case *c, uint64_t rip)
{
    switch (mnemonic_at(c, rip)) {
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_POPA:
    case ZYDIS_MNEMONIC_POPAD:
    case ZYDIS_MNEMONIC_PUSHA:
    case ZYDIS_MNEMONIC_PUSHAD:
        return true;
    default:
        return false;
    }
}

#ifdef DIFF_SHADOW
enum { SHADOW = DIFF_SHADOW };
#else
enum { SHADOW = 0 };
#endif

/* A child built with AddressSanitizer has its shadow memory where others have none: up to 17.6 TB
 * from 2 GiB on. */
static bool in_shadow(const struct diff_state *s)
{
    return SHADOW && s->vector == VEC_PF && s->cr2 >= 0x7fff7000 && s->cr2 < 0x100080000000;
}

/* Whether bytes that are masked out can fault is the processor's choice: SDM vol 2, MASKMOVDQU. */
static bool may_fault_or_not(const struct diff_case *c, const struct diff_state *s)
{
    ZydisMnemonic m = mnemonic_at(c, s->rip);

    return m == ZYDIS_MNEMONIC_MASKMOVQ || m == ZYDIS_MNEMONIC_MASKMOVDQU ||
           m == ZYDIS_MNEMONIC_VMASKMOVDQU;
}

static bool is_fault_of_memory(const struct diff_state *s)
{
    return s->vector == VEC_PF || s->vector == VEC_GP || s->vector == VEC_SS;
}

/* Whose two memory operands may both fault, in no order that is written down; a call's are its
 * stack and its target. */
static bool two_operands(ZydisMnemonic m)
{
    return m == ZYDIS_MNEMONIC_CMPSB || m == ZYDIS_MNEMONIC_CMPSW || m == ZYDIS_MNEMONIC_CMPSD ||
           m == ZYDIS_MNEMONIC_CMPSQ || m == ZYDIS_MNEMONIC_CALL;
}

static bool is_gp_or_ss(const struct diff_state *s)
{
    return s->vector == VEC_GP || s->vector == VEC_SS;
}

/* Two rules broken at once, #GP and #SS, by a misaligned vector at a non-canonical address of the
 * stack segment: either may come first (SDM vol 3A, table 6-2). */
static bool same_vector(const struct diff_case *c, const struct diff_state *a,
                        const struct diff_state *b)
{
    if (is_fault_of_memory(a) && is_fault_of_memory(b) && two_operands(mnemonic_at(c, a->rip)))
        return a->rip == b->rip;
    return a->vector == b->vector ||
           (is_gp_or_ss(a) && is_gp_or_ss(b) && a->rip == b->rip && !a->error && !b->error);
}

/* CR2 says which page, and which byte where it is the first one: instructions that make several
 * accesses report one of them. */
static bool same_cr2(const struct diff_case *c, const struct diff_state *a,
                     const struct diff_state *b)
{
    if (a->cr2 == b->cr2 || two_operands(mnemonic_at(c, a->rip)))
        return true;
    return coarse_fault(c, a->rip) && a->cr2 >> 12 == b->cr2 >> 12;
}

static bool same_x87(const struct diff_state *a, const struct diff_state *b)
{
    if (memcmp(a->fx, b->fx, 5) != 0)
        return false;
    for (unsigned n = 0; n < 8; n++)
        if (memcmp(a->fx + 32 + 16 * n, b->fx + 32 + 16 * n, 10) != 0)
            return false;
    return true;
}

/* With an unmasked overflow or underflow PE tells whether the result would have been exact with a
 * wider exponent, which the interpreter does not know. */
static bool same_mxcsr(const struct diff_state *a, const struct diff_state *b)
{
    uint32_t x, y;

    memcpy(&x, a->fx + 24, 4);
    memcpy(&y, b->fx + 24, 4);
    return !((x ^ y) & (a->vector == VEC_XM && (x & 0xc00) != 0xc00 ? ~0x20u : ~0u));
}

/* The first thing that differs, or NULL. */
static const char *differs(const struct diff_case *c, const struct diff_result *a,
                           const struct diff_result *b)
{
    uint64_t mask = c->c32 ? UINT32_MAX : UINT64_MAX;
    unsigned gprs = c->c32 ? 8 : GPRS;

    if (may_fault_or_not(c, &a->s) || in_shadow(&b->s))
        return NULL;
    if (!same_vector(c, &a->s, &b->s))
        return "exception";
    if (a->s.rip != b->s.rip)
        return "rip";
    if (a->s.vector == VEC_PF && !same_cr2(c, &a->s, &b->s))
        return "cr2";
    if (!two_operands(mnemonic_at(c, a->s.rip)) && (a->s.error ^ b->s.error) & error_mask(&a->s))
        return "error code";
    for (unsigned n = 0; n < gprs; n++)
        if ((a->s.gpr[n] ^ b->s.gpr[n]) & mask)
            return "general registers";
    if ((a->s.rflags ^ b->s.rflags) & flags_mask(c, &a->s))
        return "flags";
    if (!same_x87(&a->s, &b->s))
        return "x87";
    if (!same_mxcsr(&a->s, &b->s))
        return "mxcsr";
    if (memcmp(a->s.fx + 160, b->s.fx + 160, 256) != 0)
        return "xmm";
    if (memcmp(a->s.ymmh, b->s.ymmh, DIFF_YMMH) != 0)
        return "ymm";
    if (memcmp(a->data, b->data, DIFF_DATA_BYTES) != 0)
        return "memory";
    return NULL;
}

/* --- printing
 * ------------------------------------------------------------------------------------- */

static void print_code(const struct diff_case *c)
{
    ZydisDecoder d;
    ZydisFormatter f;

    start_decoder(c, &d);
    (void)ZydisFormatterInit(&f, ZYDIS_FORMATTER_STYLE_INTEL);
    for (unsigned n = 0; n < c->n; n++) {
        const uint8_t *p = c->code + c->insn[n].at;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        ZydisDecodedInstruction z;
        char text[128] = "?";

        if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&d, p, c->insn[n].len, &z, op)))
            (void)ZydisFormatterFormatInstruction(&f, &z, op, z.operand_count_visible, text,
                                                  sizeof(text), c->in.rip + c->insn[n].at, NULL);
        printf("  %" PRIx64 "  ", c->in.rip + c->insn[n].at);
        for (unsigned k = 0; k < c->insn[n].len; k++)
            printf("%02x ", p[k]);
        printf("  %s\n", text);
    }
}

static void print_bytes(const char *name, unsigned n, const uint8_t *in, const uint8_t *a,
                        const uint8_t *b, unsigned len)
{
    const uint8_t *row[3] = {in, a, b};
    static const char *const who[3] = {"before", "host", "engine"};

    if (memcmp(a, b, len) == 0 && (!in || memcmp(in, a, len) == 0))
        return;
    for (unsigned k = 0; k < 3; k++) {
        if (!row[k])
            continue;
        printf("  %s%u %-7s", name, n, who[k]);
        for (unsigned m = len; m-- > 0;)
            printf("%02x%s", row[k][m], m % 8 ? "" : " ");
        printf("\n");
    }
}

static void print_word(const char *name, uint64_t in, uint64_t a, uint64_t b, bool always)
{
    if (always || a != b || in != a)
        printf("  %-8s before %016" PRIx64 "  host %016" PRIx64 "  engine %016" PRIx64 "%s\n", name,
               in, a, b, a != b ? "  <--" : "");
}

static void print_states(const struct diff_case *c, const struct diff_result *a,
                         const struct diff_result *b, const uint8_t *pool)
{
    static const char *const names[GPRS] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                            "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    print_word("vector", 0, a->s.vector, b->s.vector, true);
    print_word("rip", c->in.rip, a->s.rip, b->s.rip, true);
    print_word("error", 0, a->s.error, b->s.error, false);
    if (a->s.vector == VEC_PF || b->s.vector == VEC_PF)
        print_word("cr2", 0, a->s.cr2, b->s.cr2, true);
    print_word("rflags", c->in.rflags, a->s.rflags & ~FL_RF, b->s.rflags & ~FL_RF, true);
    for (unsigned n = 0; n < GPRS; n++)
        print_word(names[n], c->in.gpr[n], a->s.gpr[n], b->s.gpr[n], true);
    print_bytes("fcw,fsw,ftw ", 0, c->in.fx, a->s.fx, b->s.fx, 5);
    print_bytes("mxcsr ", 0, c->in.fx + 24, a->s.fx + 24, b->s.fx + 24, 4);
    for (unsigned n = 0; n < 8; n++)
        print_bytes("st", n, c->in.fx + 32 + 16 * n, a->s.fx + 32 + 16 * n, b->s.fx + 32 + 16 * n,
                    10);
    for (unsigned n = 0; n < 16; n++) {
        print_bytes("xmm", n, c->in.fx + 160 + 16 * n, a->s.fx + 160 + 16 * n,
                    b->s.fx + 160 + 16 * n, 16);
        print_bytes("ymmh", n, c->in.ymmh + 16 * n, a->s.ymmh + 16 * n, b->s.ymmh + 16 * n, 16);
    }
    for (unsigned at = 0; at < DIFF_DATA_BYTES; at += 16)
        if (memcmp(a->data + at, b->data + at, 16) != 0)
            print_bytes("memory+", at, at < DIFF_RW_BYTES ? pool + c->pool_at + at : NULL,
                        a->data + at, b->data + at, 16);
}

/* --- running
 * ---------------------------------------------------------------------------------------- */

/* Compare one batch. Returns how many differ. */
static unsigned judge(const struct dgen *g, unsigned n, uint64_t *lost, unsigned may_print)
{
    unsigned fails = 0;

    for (unsigned k = 0; k < n; k++) {
        if (!host[k].done) {
            (*lost)++;
            continue;
        }
        const char *what = differs(&cases[k], &host[k], &guest[k]);

        if (!what)
            continue;
        if (fails++ >= may_print)
            continue;
        printf("DIFFERS: %s. --seed %" PRIu64 " --first %" PRIu64 " --cases 1%s\n", what, g->seed,
               cases[k].id, cases[k].c32 ? " (32-bit code)" : "");
        print_code(&cases[k]);
        print_states(&cases[k], &host[k], &guest[k], g->pool);
    }
    return fails;
}

static int run_all(const struct dgen *g, const struct opts *o, struct dhost *h, struct dguest *q)
{
    uint64_t id = o->first, end = o->first + o->cases, lost = 0, ran = 0;
    unsigned fails = 0;
    struct err e;

    while (id < end && fails < o->max_fails) {
        unsigned n = 0;

        for (; n < DIFF_BATCH && id < end; n++, id++)
            dgen_case(g, id, &cases[n]);
        int r = dhost_run(h, cases, n, host);
        if (r < 0) {
            printf("the host's child: %s\n", strerror(-r));
            return 1;
        }
        r = dguest_run(q, cases, n, guest, &e);
        if (r < 0) {
            printf("the engine: %s\n", e.msg);
            return 1;
        }
        fails += judge(g, n, &lost, o->max_fails - fails);
        ran += n;
    }
    printf("%" PRIu64 " cases, %" PRIu64 " lost with their child, %u differ\n", ran, lost, fails);
    return fails != 0 || lost > ran / 100;
}

static bool parse_classes(struct dgen *g, char *list)
{
    static const char *const names[DIFF_CLASSES] = {"int", "vec", "x87"};
    char *rest;

    memset(g->classes, 0, sizeof(g->classes));
    for (char *p = strtok_r(list, ",", &rest); p; p = strtok_r(NULL, ",", &rest)) {
        unsigned k = 0;

        while (k < DIFF_CLASSES && strcmp(p, names[k]) != 0)
            k++;
        if (k == DIFF_CLASSES)
            return false;
        g->classes[k] = true;
    }
    return true;
}

static bool parse_mnemonic(struct dgen *g, const char *name)
{
    for (int m = 0; m <= ZYDIS_MNEMONIC_MAX_VALUE; m++)
        if (strcmp(ZydisMnemonicGetString((ZydisMnemonic)m), name) == 0) {
            g->only = m;
            return true;
        }
    return false;
}

static bool parse(int argc, char **argv, struct dgen *g, struct opts *o)
{
    static const struct option longs[] = {
        {"seed", 1, NULL, 's'},  {"first", 1, NULL, 'f'},
        {"cases", 1, NULL, 'n'}, {"class", 1, NULL, 'c'},
        {"insns", 1, NULL, 'k'}, {"engine", 1, NULL, 'e'},
        {"only", 1, NULL, 'o'},  {"no32", 0, NULL, '6'},
        {"fails", 1, NULL, 'F'}, {0},
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        bool ok = true;

        switch (c) {
        case 's':
            g->seed = strtoull(optarg, NULL, 0);
            break;
        case 'f':
            o->first = strtoull(optarg, NULL, 0);
            break;
        case 'n':
            o->cases = strtoull(optarg, NULL, 0);
            break;
        case 'c':
            ok = parse_classes(g, optarg);
            break;
        case 'k':
            g->max_insns = (unsigned)strtoul(optarg, NULL, 0);
            ok = g->max_insns >= 1 && g->max_insns <= DIFF_INSNS;
            break;
        case 'e':
            o->engine = optarg;
            break;
        case 'o':
            ok = parse_mnemonic(g, optarg);
            break;
        case '6':
            g->no32 = true;
            break;
        case 'F':
            o->max_fails = (unsigned)strtoul(optarg, NULL, 0);
            break;
        default:
            return false;
        }
        if (!ok) {
            fprintf(stderr, "diff: --%s: bad value\n", argv[optind - 2] + 2);
            return false;
        }
    }
    return true;
}

int main(int argc, char **argv)
{
    static struct dgen g = {.max_insns = 5, .only = -1, .classes = {true, true, true}};
    static struct cpu_model model;
    struct opts o = {.cases = 20000, .max_fails = 10, .engine = "interp"};
    const struct cpu_engine *engine;
    struct dhost *h = NULL;
    struct dguest *q = NULL;
    struct err e = {0};

    if (getrandom(&g.seed, 4, 0) != 4)
        g.seed = 1;
    if (!parse(argc, argv, &g, &o))
        return 2;
    printf("diff: --seed %" PRIu64 " --first %" PRIu64 " --cases %" PRIu64 ", host against %s\n",
           g.seed, o.first, o.cases, o.engine);
    (void)fflush(stdout);
    dead_flags = strcmp(o.engine, "interp") != 0 ? FL_ARITH : 0;
    if (cpu_engine_pick(o.engine, &engine, &e) < 0 || cpu_model_init(&model, 1, 1000000, &e) < 0) {
        printf("%s\n", e.msg);
        return 1;
    }
    g.model = &model;
    dgen_init(&g);
    if (dhost_new(&g, &h) < 0 || dguest_new(&g, engine, &q, &e) < 0) {
        printf("diff: cannot start: %s\n", e.msg);
        return 1;
    }
    int r = run_all(&g, &o, h, q);
    dguest_free(q);
    dhost_free(h);
    return r;
}
