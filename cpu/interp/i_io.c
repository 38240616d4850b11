/* cpu/interp/i_io.c - IN OUT INS OUTS. Source: SDM vol 2; vol 1 chapter 19 (permission: soft_in,
 * soft_out). */
#include "cpu/interp/pick.h"
#include "cpu/interp/strop.h"

/* y: the port is imm, else DX. */
static uint16_t port_of(const struct vcpu *v, const struct insn *i)
{
    return (uint16_t)(i->y ? i->imm : v->s.gpr[RDX]);
}

static int in(struct vcpu *v, const struct insn *i)
{
    uint32_t val = 0;
    int rc = soft_in(v, port_of(v, i), i->opsize, &val);

    if (!rc)
        operand_reg_put(v, RAX * 8, i->opsize, val);
    return rc;
}

static int out(struct vcpu *v, const struct insn *i)
{
    return soft_out(v, port_of(v, i), i->opsize, (uint32_t)operand_reg(v, RAX * 8, i->opsize));
}

/* The destination must be writable before the port is read, which cannot be undone. */
static int ins_one(struct vcpu *v, const struct insn *i)
{
    uint32_t val = 0;
    gva_t to;
    int rc = strop_dest(v, i, true, &to);

    if (!rc)
        rc = mmu_probe(v, to, i->opsize, MMU_WRITE);
    if (!rc)
        rc = soft_in(v, (uint16_t)v->s.gpr[RDX], i->opsize, &val);
    if (!rc)
        rc = mmu_write_slow(v, to, &val, i->opsize, MMU_WRITE);
    if (!rc)
        strop_move(v, i, RDI, 1);
    return rc;
}

static int outs_one(struct vcpu *v, const struct insn *i)
{
    uint32_t val = 0;
    gva_t from;
    int rc = strop_source(v, i, &from);

    if (!rc)
        rc = mmu_read_slow(v, from, &val, i->opsize, MMU_READ);
    if (!rc)
        rc = soft_out(v, (uint16_t)v->s.gpr[RDX], i->opsize, val);
    if (!rc)
        strop_move(v, i, RSI, 1);
    return rc;
}

/* Permission comes first, before a count of 0 and before the faults of the memory operand. */
static int string_io(struct vcpu *v, const struct insn *i,
                     int (*one)(struct vcpu *v, const struct insn *i))
{
    int rc = soft_port_allowed(v, (uint16_t)v->s.gpr[RDX], i->opsize);

    return rc ? rc : strop_run(v, i, one, NULL);
}

static int ins(struct vcpu *v, const struct insn *i)
{
    return string_io(v, i, ins_one);
}

static int outs(struct vcpu *v, const struct insn *i)
{
    return string_io(v, i, outs_one);
}

int io_pick(struct pick *p)
{
    struct insn *i = p->i;
    uint8_t opcode = p->z->opcode;

    /* Bit 0 of the opcode: more than a byte, of which there are at most four. */
    i->opsize = !(opcode & 1) ? 1 : p->z->operand_width == 16 ? 2 : 4;
    switch (opcode & 0xfe) {
    case 0x6c:
        i->fn = ins;
        break;
    case 0x6e:
        i->fn = outs;
        break;
    case 0xe4:
    case 0xec:
        i->y = opcode < 0xe8;
        i->fn = in;
        return 1;
    default:
        i->y = opcode < 0xe8;
        i->fn = out;
        return 1;
    }
    if (i->flags & (I_REP | I_REPNE))
        i->flags |= I_ENDS;
    return 1;
}
