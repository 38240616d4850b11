/* cpu/interp/native.c - memory for stubs, and which handler an instruction gets. */
#include "cpu/interp/native_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { NATIVE_BYTES = 4 << 20 }; /* of stubs per vCPU; touched as needed */

int native_new(struct native **ret, struct err *e)
{
    struct native *n = calloc(1, sizeof(*n));

    if (!n)
        return err_set(e, -ENOMEM, "no memory for native stubs");
    n->fd = memfd_create("kiln-native", MFD_CLOEXEC);
    if (n->fd < 0 || ftruncate(n->fd, NATIVE_BYTES) < 0) {
        int r = err_errno(e, -errno, "memory for native stubs");

        native_free(n);
        return r;
    }
    void *rw = mmap(NULL, NATIVE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, n->fd, 0);
    void *rx = mmap(NULL, NATIVE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED, n->fd, 0);
    int err = errno;
    n->rw = rw == MAP_FAILED ? NULL : rw;
    n->rx = rx == MAP_FAILED ? NULL : rx;
    if (!n->rw || !n->rx) {
        native_free(n);
        return err_errno(e, -err, "mapping native stubs");
    }
    *ret = n;
    return 0;
}

void native_free(struct native *n)
{
    if (!n)
        return;
    if (n->rw)
        (void)munmap(n->rw, NATIVE_BYTES);
    if (n->rx)
        (void)munmap((void *)(uintptr_t)n->rx, NATIVE_BYTES);
    if (n->fd >= 0)
        (void)close(n->fd);
    free(n);
}

void native_reset(struct native *n)
{
    n->used = 0;
}

unsigned native_room(const struct native *n)
{
    return NATIVE_BYTES - n->used;
}

/* --- decoding ------------------------------------------------------------------------------------
 */

static void memory_needs(const struct native_job *j)
{
    for (unsigned n = 0; n < j->z->operand_count_visible; n++) {
        if (j->op[n].type != ZYDIS_OPERAND_TYPE_MEMORY)
            continue;
        if (j->op[n].actions & ZYDIS_OPERAND_ACTION_MASK_READ)
            j->i->x |= NX_READ;
        if (j->op[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)
            j->i->x |= NX_WRITE;
        if (native_isa_aligned(j))
            j->i->x |= NX_ALIGN;
    }
}

static void needs(const struct native_job *j, enum native_kind kind)
{
    const ZydisAccessedFlags *f = j->z->cpu_flags;

    j->i->x = 0;
    memory_needs(j);
    if (kind == NATIVE_AVX)
        j->i->x |= NX_VEX;
    if (kind == NATIVE_X87 || kind == NATIVE_MMX)
        j->i->x |= NX_FX_STUB;
    if (kind != NATIVE_X87 && native_isa_mxcsr(j->z))
        j->i->x |= NX_MXCSR;
    if (native_isa_has(j, ZYDIS_REGCLASS_XMM))
        j->i->x |= NX_XMM;
    if (f && (f->modified | f->set_0 | f->set_1 | f->undefined))
        j->i->x |= NX_FLAGS;
}

static insn_fn handler(const struct native_job *j, enum native_kind kind)
{
    switch (kind) {
    case NATIVE_X87:
        j->i->y = (j->z->opcode & 7u) << 8 | j->raw[j->z->raw.modrm.offset];
        return native_x87;
    case NATIVE_MMX:
        return native_mmx;
    case NATIVE_SSE:
    case NATIVE_AVX:
        return j->i->x & (NX_READ | NX_WRITE | NX_MXCSR | NX_FLAGS) ? native_vec : native_vec_reg;
    default:
        return NULL;
    }
}

/* Those that are C alone. */
static bool special(const struct native_job *j, enum native_kind kind)
{
    insn_fn fn = native_xsave_handler(j->z->mnemonic);

    if (!fn && kind == NATIVE_X87)
        fn = native_env_handler(j->z->mnemonic);
    if (j->z->mnemonic == ZYDIS_MNEMONIC_VZEROUPPER)
        fn = native_zeroupper;
    else if (j->z->mnemonic == ZYDIS_MNEMONIC_VZEROALL)
        fn = native_zeroall;
    if (!fn)
        return native_mask_decode(j);
    j->i->fn = fn;
    return true;
}

int native_decode(struct vcpu *v, struct native *n, const ZydisDecodedInstruction *z,
                  const ZydisDecodedOperand *ops, const uint8_t *raw, struct insn *i)
{
    struct native_job j = {.z = z, .op = ops, .raw = raw, .i = i};
    enum native_kind kind = native_isa_kind(v, &j);

    if (kind == NATIVE_NONE)
        return 0;
    needs(&j, kind);
    if (special(&j, kind))
        return 1;
    i->fn = handler(&j, kind);
    if (!i->fn)
        return 0;
    int r = native_stub(n, &j);
    return r < 0 ? r : 1;
}
