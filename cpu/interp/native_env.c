/* cpu/interp/native_env.c - x87 control instructions. Formats: SDM vol 1, figures 8-9 to 8-12. */
#include "cpu/interp/native_priv.h"

#include "base/cleanup.h"

enum { ENV_MAX = 28, REG_BYTES = 10, SAVE_MAX = ENV_MAX + 8 * REG_BYTES };
enum { TAG_VALID, TAG_ZERO, TAG_SPECIAL, TAG_EMPTY };

static int nm_check(struct vcpu *v)
{
    if (v->s.cr0 & (CR0_EM | CR0_TS))
        return soft_exc(v, VEC_NM);
    native_live(v);
    return SOFT_OK;
}

/* Operands longer than an access of the MMU may be; they are aligned by word or doubleword. */
static int linear(struct vcpu *v, const struct insn *i, bool write, gva_t *lin)
{
    int rc = insn_lin(v, i, write, lin);

    return rc ? rc : native_align(v, *lin, i->memlen <= 2 || i->opsize == 2 ? 2 : 4);
}

static int load(struct vcpu *v, const struct insn *i, uint8_t *dst)
{
    gva_t lin;
    int rc = linear(v, i, false, &lin);

    for (unsigned at = 0; !rc && at < i->memlen; at += 64) {
        unsigned n = i->memlen - at < 64 ? i->memlen - at : 64;

        rc = mmu_read_slow(v, lin + at, dst + at, n, MMU_READ);
    }
    return rc;
}

static int store(struct vcpu *v, const struct insn *i, const uint8_t *src)
{
    gva_t lin;
    int rc = linear(v, i, true, &lin);

    if (!rc)
        rc = mmu_probe(v, lin, i->memlen, MMU_WRITE);
    for (unsigned at = 0; !rc && at < i->memlen; at += 64) {
        unsigned n = i->memlen - at < 64 ? i->memlen - at : 64;

        rc = mmu_write_slow(v, lin + at, src + at, n, MMU_WRITE);
    }
    return rc;
}

/* --- tags: SDM vol 1, 8.1.7 and 10.5.1.1 ------------------------------------------------------ */

static unsigned tag_of(const uint8_t *st)
{
    uint64_t frac = native_get64(st);
    unsigned exp = native_get16(st + 8) & 0x7fff;

    if (exp == 0)
        return frac ? TAG_SPECIAL : TAG_ZERO;
    return exp != 0x7fff && frac >> 63 ? TAG_VALID : TAG_SPECIAL;
}

static uint16_t full_tags(const uint8_t *fx)
{
    unsigned top = native_get16(fx + FX_FSW) >> 11 & 7;
    uint16_t tags = 0;

    for (unsigned n = 0; n < 8; n++) {
        unsigned tag = TAG_EMPTY;

        if (fx[FX_FTW] >> n & 1)
            tag = tag_of(fx + FX_ST + 16 * ((n - top) & 7));
        tags |= (uint16_t)(tag << 2 * n);
    }
    return tags;
}

static uint8_t abridged(uint16_t tags)
{
    uint8_t r = 0;

    for (unsigned n = 0; n < 8; n++)
        if ((tags >> 2 * n & 3) != TAG_EMPTY)
            r |= (uint8_t)(1u << n);
    return r;
}

/* --- environment ----------------------------------------------------------------------------- */

static bool real_form(const struct vcpu *v)
{
    return !(v->mode & MODE_PE) || v->s.rflags & FL_VM;
}

static unsigned env_bytes(const struct insn *i)
{
    return i->opsize == 2 ? ENV_MAX / 2 : ENV_MAX;
}

static void env_put(const struct vcpu *v, const struct insn *i, uint8_t *p)
{
    const uint8_t *x = v->s.xsave;
    unsigned step = i->opsize == 2 ? 2 : 4;
    uint32_t fip = native_get32(x + FX_FIP), fdp = native_get32(x + FX_FDP);
    uint32_t fop = native_get16(x + FX_FOP) & 0x7ff;
    uint32_t w[7] = {
        native_get16(x + FX_FCW) | 0xffff0000,
        native_get16(x + FX_FSW) | 0xffff0000,
        full_tags(x) | 0xffff0000,
        fip,
        fop << 16,
        fdp,
        0xffff0000,
    };

    if (real_form(v)) {
        w[3] = (fip & 0xffff) | 0xffff0000;
        w[4] = (fip >> 16) << 12 | fop;
        w[5] = (fdp & 0xffff) | 0xffff0000;
        w[6] = (fdp >> 16) << 12;
    }
    for (unsigned n = 0; n < 7; n++)
        memcpy(p + step * n, &w[n], step);
}

static void env_get(struct vcpu *v, const struct insn *i, const uint8_t *p)
{
    unsigned step = i->opsize == 2 ? 2 : 4;
    uint8_t *x = v->s.xsave;
    uint32_t w[7] = {0};

    for (unsigned n = 0; n < 7; n++)
        memcpy(&w[n], p + step * n, step);
    native_x87_top(x, w[1] >> 11 & 7);
    native_put16(x + FX_FCW, (w[0] & 0x1f7f) | 0x40);
    native_put16(x + FX_FSW, (uint16_t)w[1]);
    x[FX_FTW] = abridged((uint16_t)w[2]);
    x[FX_FTW + 1] = 0;
    if (real_form(v)) {
        native_put64(x + FX_FIP, (w[3] & 0xffff) | (w[4] & 0x0ffff000) << 4);
        native_put64(x + FX_FDP, (w[5] & 0xffff) | (w[6] & 0x0ffff000) << 4);
        native_put16(x + FX_FOP, w[4] & 0x7ff);
    } else {
        native_put64(x + FX_FIP, w[3]);
        native_put64(x + FX_FDP, w[5]);
        native_put16(x + FX_FOP, step == 4 ? w[4] >> 16 & 0x7ff : 0);
    }
    native_x87_summary(x);
}

/* Registers keep what they hold. */
static void init(uint8_t *x)
{
    native_x87_top(x, 0);
    memset(x, 0, FX_MXCSR);
    native_put16(x + FX_FCW, 0x37f);
}

/* --- instructions ------------------------------------------------------------------------------
 */

static int fninit(struct vcpu *v, const struct insn *i)
{
    int rc = nm_check(v);

    if (!rc)
        init(v->s.xsave);
    return rc;
}

static int fnclex(struct vcpu *v, const struct insn *i)
{
    uint8_t *x = v->s.xsave;
    int rc = nm_check(v);

    if (!rc)
        native_put16(x + FX_FSW, native_get16(x + FX_FSW) & 0x7f00);
    return rc;
}

/* FNSTCW, FNSTSW; to memory or AX */
static int put_word(struct vcpu *v, const struct insn *i, unsigned at)
{
    int rc = nm_check(v);

    if (rc)
        return rc;
    if (i->flags & I_MEM)
        return store(v, i, v->s.xsave + at);
    memcpy(&v->s.gpr[RAX], v->s.xsave + at, 2);
    return SOFT_OK;
}

static int fnstcw(struct vcpu *v, const struct insn *i)
{
    return put_word(v, i, FX_FCW);
}

static int fnstsw(struct vcpu *v, const struct insn *i)
{
    return put_word(v, i, FX_FSW);
}

static int fldcw(struct vcpu *v, const struct insn *i)
{
    uint8_t buf[2];
    int rc = native_x87_check(v);

    if (!rc)
        rc = load(v, i, buf);
    if (rc)
        return rc;
    native_put16(v->s.xsave + FX_FCW, (native_get16(buf) & 0x1f7f) | 0x40);
    native_x87_summary(v->s.xsave);
    return SOFT_OK;
}

static int fnstenv(struct vcpu *v, const struct insn *i)
{
    uint8_t buf[ENV_MAX], *x = v->s.xsave;
    int rc = nm_check(v);

    if (rc)
        return rc;
    env_put(v, i, buf);
    rc = store(v, i, buf);
    if (rc)
        return rc;
    native_put16(x + FX_FCW, native_get16(x + FX_FCW) | FPU_EXC);
    native_x87_summary(x);
    return SOFT_OK;
}

static int fldenv(struct vcpu *v, const struct insn *i)
{
    uint8_t buf[ENV_MAX];
    int rc = native_x87_check(v);

    if (!rc)
        rc = load(v, i, buf);
    if (!rc)
        env_get(v, i, buf);
    return rc;
}

static int fnsave(struct vcpu *v, const struct insn *i)
{
    uint8_t buf[SAVE_MAX];
    unsigned env = env_bytes(i);
    int rc = nm_check(v);

    if (rc)
        return rc;
    env_put(v, i, buf);
    for (unsigned n = 0; n < 8; n++)
        memcpy(buf + env + REG_BYTES * n, v->s.xsave + FX_ST + 16 * n, REG_BYTES);
    rc = store(v, i, buf);
    if (!rc)
        init(v->s.xsave);
    return rc;
}

static int frstor(struct vcpu *v, const struct insn *i)
{
    uint8_t buf[SAVE_MAX];
    unsigned env = env_bytes(i);
    int rc = native_x87_check(v);

    if (!rc)
        rc = load(v, i, buf);
    if (rc)
        return rc;
    env_get(v, i, buf);
    for (unsigned n = 0; n < 8; n++)
        memcpy(v->s.xsave + FX_ST + 16 * n, buf + env + REG_BYTES * n, REG_BYTES);
    return SOFT_OK;
}

/* SDM vol 2, WAIT/FWAIT: #NM only if MP says so too. */
static int fwait(struct vcpu *v, const struct insn *i)
{
    uint64_t both = CR0_MP | CR0_TS;

    if ((v->s.cr0 & both) == both)
        return soft_exc(v, VEC_NM);
    native_live(v);
    return native_get16(v->s.xsave + FX_FSW) & FSW_ES ? soft_exc(v, VEC_MF) : SOFT_OK;
}

/* What the 8087 and 80287 did with these is no more done. */
static int obsolete(struct vcpu *v, const struct insn *i)
{
    return nm_check(v);
}

insn_fn native_env_handler(ZydisMnemonic m)
{
    static const struct {
        ZydisMnemonic m;
        insn_fn fn;
    } table[] = {
        {ZYDIS_MNEMONIC_FENI8087_NOP, obsolete},
        {ZYDIS_MNEMONIC_FDISI8087_NOP, obsolete},
        {ZYDIS_MNEMONIC_FSETPM287_NOP, obsolete},
        {ZYDIS_MNEMONIC_FNINIT, fninit},
        {ZYDIS_MNEMONIC_FNCLEX, fnclex},
        {ZYDIS_MNEMONIC_FNSTCW, fnstcw},
        {ZYDIS_MNEMONIC_FNSTSW, fnstsw},
        {ZYDIS_MNEMONIC_FLDCW, fldcw},
        {ZYDIS_MNEMONIC_FNSTENV, fnstenv},
        {ZYDIS_MNEMONIC_FLDENV, fldenv},
        {ZYDIS_MNEMONIC_FNSAVE, fnsave},
        {ZYDIS_MNEMONIC_FRSTOR, frstor},
        {ZYDIS_MNEMONIC_FWAIT, fwait},
    };

    for (unsigned n = 0; n < ARRAY_LEN(table); n++)
        if (table[n].m == m)
            return table[n].fn;
    return NULL;
}
