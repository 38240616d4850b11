#include <Zydis/Zydis.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cpu/lockstep/lockstep.h"

struct out {
    char *p;
    unsigned left;
};

__attribute__((format(printf, 2, 3))) static void say(struct out *o, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = vsnprintf(o->p, o->left, fmt, ap);
    va_end(ap);
    unsigned took = n < 0 ? 0 : (unsigned)n < o->left ? (unsigned)n : o->left - 1;
    o->p += took;
    o->left -= took;
}

/* --- the block ----------------------------------------------------------------------------------
 */

static void say_insn(struct out *o, const ZydisDisassembledInstruction *d, const uint8_t *bytes)
{
    char hex[3 * ZYDIS_MAX_INSTRUCTION_LENGTH + 1] = "";

    for (unsigned i = 0; i < d->info.length; i++)
        snprintf(hex + 3 * i, 4, "%02x ", bytes[i]);
    say(o, "  %16" PRIx64 "  %-24s %s\n", d->runtime_address, hex, d->text);
}

/* Blocks are 64-bit code within one page. */
static void say_block(struct out *o, const struct bt_piece *p, const struct mem *m)
{
    const uint8_t *code = mem_hva(m, p->gpa);
    ZydisDisassembledInstruction d;

    for (unsigned at = 0; at < p->bytes; at += d.info.length) {
        if (!ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, p->rip + at, code + at,
                                                p->bytes - at, &d)))
            return;
        say_insn(o, &d, code + at);
    }
}

static void say_code(struct out *o, const struct lockstep *l, const struct vcpu *v)
{
    for (const struct ours *b = l->ours; b <= l->at; b++) {
        if (b != l->ours)
            say(o, "  and on to\n");
        say_block(o, &l->piece[b - l->ours], v->vm->c.mem);
    }
}

/* --- how it ended -------------------------------------------------------------------------------
 */

static void say_end(struct out *o, const char *who, int stop, const struct soft_exc *x)
{
    static const char *const words[] = {
        [SOFT_OK] = "reached the end", [SOFT_FAULT] = "exception",
        [SOFT_EXIT] = "a device",      [SOFT_BREAK] = "finished, and asks to be looked at",
        [SOFT_SHUTDOWN] = "shut down", [SOFT_STUCK] = "stuck",
    };

    say(o, "%-8s %s", who, words[stop]);
    if (stop == SOFT_FAULT)
        say(o, " %u, error %#x, address %#" PRIx64, x->vector, x->error, x->cr2);
    say(o, "\n");
}

static void say_word(struct out *o, const char *name, uint64_t was, uint64_t ours, uint64_t theirs)
{
    say(o, "%-8s %016" PRIx64 "  %016" PRIx64 "  %016" PRIx64 "%s\n", name, was, ours, theirs,
        ours != theirs ? "  <--" : "");
}

static void say_registers(struct out *o, const struct lockstep *l, const struct vcpu *v)
{
    static const char *const names[GPRS] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                            "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

    say(o, "%-8s %-16s  %-16s  %-16s\n", "", "before", "interp", "bt");
    say_word(o, "rip", l->before.rip, l->at->s.rip, v->s.rip);
    say_word(o, "rflags", l->before.rflags, l->at->s.rflags, v->s.rflags);
    for (unsigned n = 0; n < GPRS; n++)
        say_word(o, names[n], l->before.gpr[n], l->at->s.gpr[n], v->s.gpr[n]);
    if (l->began_flags != (l->before.rflags & FL_ARITH))
        say(o, "interp began with flags %#" PRIx64 ": bt's were wrong, or forgotten, before\n",
            l->began_flags);
}

static void say_vectors(struct out *o, const struct lockstep *l, const struct vcpu *v)
{
    for (unsigned at = 0; at < XSAVE_BYTES; at += 8) {
        uint64_t was, ours, theirs;

        memcpy(&was, l->before.xsave + at, 8);
        memcpy(&ours, l->at->s.xsave + at, 8);
        memcpy(&theirs, v->s.xsave + at, 8);
        if (ours == theirs)
            continue;
        char name[16];
        snprintf(name, sizeof(name), "xsave+%u", at);
        say_word(o, name, was, ours, theirs);
    }
}

static gpa_t gpa_of(const struct mem *m, const uint8_t *hva)
{
    uint64_t at = (uint64_t)(hva - m->hva);

    return at < m->low ? at : at - m->low + MEM_HIGH_BASE;
}

/* Bytes interp stored there; the others are memory's. */
static void say_memory(struct out *o, const struct lockstep *l, const struct vcpu *v)
{
    const struct overlay_word *w = overlay_differs(&l->overlay);
    uint64_t ours, theirs;

    if (!w)
        return;
    memcpy(&theirs, w->hva, 8);
    ours = theirs;
    for (unsigned i = 0; i < 8; i++)
        if (w->set >> i & 1)
            memcpy((uint8_t *)&ours + i, w->bytes + i, 1);
    say(o, "memory at %#" PRIx64 " (physical): interp %016" PRIx64 ", bt %016" PRIx64 "\n",
        gpa_of(v->vm->c.mem, w->hva), ours, theirs);
}

/* How it came there: the blocks before, the latest last. */
static void say_trail(struct out *o, const struct lockstep *l)
{
    for (uint64_t n = TRAIL; n > 0; n--) {
        const struct trail *t = &l->trail[(l->n_trail - n) % TRAIL];

        if (n <= l->n_trail)
            say(o, "before: code at %#" PRIx64 ", then flags %#" PRIx64 " / %#" PRIx64 "\n", t->rip,
                t->ours, t->theirs);
    }
}

void lockreport(const struct lockstep *l, const struct vcpu *v, const char *what, char *text)
{
    struct out o = {.p = text, .left = LOCKREPORT_BYTES};

    say(&o,
        "lockstep: %s, in the code from %#" PRIx64 ", CPL %u, after %" PRIu64
        " blocks that agreed\n",
        what, l->before.rip, (l->before.seg[SEG_SS].attr >> SEG_DPL_SHIFT) & 3, l->compared);
    say_code(&o, l, v);
    say_end(&o, "interp", l->at->stop, &l->at->exc);
    say_end(&o, "bt", l->stop, &v->exc);
    say_registers(&o, l, v);
    say_vectors(&o, l, v);
    say_memory(&o, l, v);
    say_trail(&o, l);
}
