/* The few pieces of code that all blocks share. C's callee-saved registers and the host's stack
 * pointer are kept in the entry stub's frame; every call-out goes through bt_cpu. */
#include "cpu/bt/bt.h"

#define CPU(field) ((uint32_t)offsetof(struct bt_cpu, field))
#define GPR(n) ((uint32_t)(offsetof(struct vcpu, s.gpr) + 8 * (n)))

/* op reg, [base + disp32]; base is T0 or T1. */
static void emit_at(struct emit *e, uint8_t op, unsigned reg, unsigned base, uint32_t disp)
{
    emit_rex(e, true, reg, 0, base);
    emit_1(e, op);
    emit_1(e, (uint8_t)(0x80 | (reg & 7) << 3 | (base & 7)));
    emit_4(e, disp);
}

static bool in_register(unsigned g)
{
    return g != RSP && g != R9 && g != R10 && g != R11;
}

/* All guest registers to v->s.gpr. T0 and T1 clobbered, EFLAGS kept. */
static void save_gprs(struct emit *e)
{
    emit_load_gs(e, T0, CPU(v));
    for (unsigned g = 0; g < GPRS; g++) {
        if (in_register(g))
            emit_at(e, 0x89, g, T0, GPR(g));
    }
    emit_at(e, 0x89, HOST_GUEST_RSP, T0, GPR(RSP));
    for (unsigned i = 0; i < 3; i++) {
        emit_load_gs(e, T1, CPU(mem_gpr) + 8 * i);
        emit_at(e, 0x89, T1, T0, GPR(R9 + i));
    }
}

static void load_gprs(struct emit *e)
{
    emit_load_gs(e, T0, CPU(v));
    for (unsigned i = 0; i < 3; i++) {
        emit_at(e, 0x8b, T1, T0, GPR(R9 + i));
        emit_store_gs(e, T1, CPU(mem_gpr) + 8 * i);
    }
    emit_at(e, 0x8b, HOST_GUEST_RSP, T0, GPR(RSP));
    for (unsigned g = 0; g < GPRS; g++) {
        if (in_register(g))
            emit_at(e, 0x8b, g, T0, GPR(g));
    }
}

/* XSAVE64 / XRSTOR64 of x87, SSE and AVX at v->s.xsave; edx:eax must be free. T0 = v. */
static void xsave_op(struct emit *e, unsigned ext)
{
    static const uint8_t op[] = {0x49, 0x0f, 0xae};

    emit_mov_imm32(e, H_AX, XCR0_ALL);
    emit_mov_imm32(e, H_DX, 0);
    emit_bytes(e, op, sizeof(op));
    emit_1(e, (uint8_t)(0x80 | ext << 3 | (T0 & 7)));
    emit_4(e, (uint32_t)offsetof(struct vcpu, s.xsave));
}

/* If the guest's vector state is live: save it, give C its own control words. Registers are saved
 * already. */
static void vec_out(struct emit *e)
{
    static const uint8_t fninit[] = {0xdb, 0xe3};

    emit_load_gs(e, T1, CPU(vec_live));
    emit_rr(e, true, 0x85, T1, T1);
    uint8_t *skip = emit_jcc_fwd(e, CC_E);
    emit_load_gs(e, T0, CPU(v));
    xsave_op(e, 4);
    /* The last x87 instruction's addresses would be the host's. */
    emit_rr(e, false, 0x33, H_AX, H_AX);
    emit_at(e, 0x89, H_AX, T0, (uint32_t)offsetof(struct vcpu, s.xsave) + 8);
    emit_at(e, 0x89, H_AX, T0, (uint32_t)offsetof(struct vcpu, s.xsave) + 16);
    emit_bytes(e, fninit, sizeof(fninit));
    emit_1(e, 0x65); /* ldmxcsr gs:[host_mxcsr] */
    emit_1(e, 0x0f);
    emit_1(e, 0xae);
    emit_1(e, 0x14);
    emit_1(e, 0x25);
    emit_4(e, CPU(host_mxcsr));
    emit_patch(e, skip);
}

static void vec_in(struct emit *e)
{
    emit_load_gs(e, T1, CPU(vec_live));
    emit_rr(e, true, 0x85, T1, T1);
    uint8_t *skip = emit_jcc_fwd(e, CC_E);
    emit_load_gs(e, T0, CPU(v));
    xsave_op(e, 5);
    emit_patch(e, skip);
}

/* EFLAGS from bt_cpu.flags: ADD makes OF of 127 + 1, SAHF the rest. T1 clobbered. */
static void flags_in(struct emit *e)
{
    static const uint8_t make[] = {0x04, 0x7f, 0x9e}; /* add al, 127; sahf */

    emit_mov_rr(e, T1, H_AX);
    emit_gs(e, false, 0x8b, H_AX, CPU(flags));
    emit_bytes(e, make, sizeof(make));
    emit_mov_rr(e, H_AX, T1);
}

static const uint8_t callee_saved[] = {H_BX, H_BP, H_R12, H_R13, H_R14, H_R15};

static void push(struct emit *e, unsigned r)
{
    emit_rex(e, false, 0, 0, r);
    emit_1(e, (uint8_t)(0x50 | (r & 7)));
}

static void pop(struct emit *e, unsigned r)
{
    emit_rex(e, false, 0, 0, r);
    emit_1(e, (uint8_t)(0x58 | (r & 7)));
}

/* void enter(const void *entry): rdi. After six pushes and the return address, 8 more align the
 * stack. */
static void stub_enter(struct bt_vm *b, struct emit *e)
{
    b->stub_enter = emit_here(e);
    for (unsigned i = 0; i < sizeof(callee_saved); i++)
        push(e, callee_saved[i]);
    push(e, H_DI);
    emit_store_gs(e, H_SP, CPU(host_rsp));
    load_gprs(e);
    static const uint8_t jmp_at_rsp[] = {0xff, 0x24, 0x24}; /* jmp [rsp]: the entry pushed */
    emit_bytes(e, jmp_at_rsp, sizeof(jmp_at_rsp));
}

static void leave_frame(struct emit *e)
{
    emit_load_gs(e, H_SP, CPU(host_rsp));
    pop(e, T0);
    for (unsigned i = sizeof(callee_saved); i-- > 0;)
        pop(e, callee_saved[i]);
    emit_1(e, 0xc3);
}

static void stub_leave(struct bt_vm *b, struct emit *e)
{
    b->stub_leave = emit_here(e);
    save_gprs(e);
    vec_out(e);
    emit_mov_imm32(e, T1, 0);
    emit_store_gs(e, T1, CPU(vec_live));
    leave_frame(e);
}

/* Called from a block: T0 = linear address, T1d = site. C may change all guest state. */
static void stub_call(struct emit *e, const void **at,
                      uint64_t (*fn)(struct bt_cpu *, uint64_t, uint32_t))
{
    *at = emit_here(e);
    emit_store_gs(e, T0, CPU(tmp[0]));
    emit_store_gs(e, T1, CPU(tmp[1]));
    save_gprs(e);
    vec_out(e);
    emit_load_gs(e, H_DI, CPU(self));
    emit_load_gs(e, H_SI, CPU(tmp[0]));
    emit_load_gs(e, H_DX, CPU(tmp[1]));
    emit_alu_imm(e, true, 5, H_SP, 8);
    emit_mov_imm64(e, H_AX, (uint64_t)(uintptr_t)fn);
    emit_1(e, 0xff); /* call rax */
    emit_1(e, 0xd0);
    emit_alu_imm(e, true, 0, H_SP, 8);
    emit_alu_imm(e, false, 7, H_AX, BT_DONE);
    uint8_t *retry = emit_jcc_fwd(e, CC_B), *leave = emit_jcc_fwd(e, CC_A);
    /* Done: behind the jump that the call is followed by. */
    static const uint8_t skip5[] = {0x48, 0x83, 0x04, 0x24, 0x05}; /* add qword [rsp], 5 */
    emit_bytes(e, skip5, sizeof(skip5));
    vec_in(e);
    load_gprs(e);
    flags_in(e);
    emit_1(e, 0xc3);
    emit_patch(e, retry);
    vec_in(e);
    load_gprs(e);
    emit_load_gs(e, T0, CPU(tmp[0]));
    emit_1(e, 0xc3);
    emit_patch(e, leave);
    emit_mov_imm32(e, T1, 0);
    emit_store_gs(e, T1, CPU(vec_live)); /* saved by vec_out() */
    leave_frame(e);
}

static void stub_vecload(struct bt_vm *b, struct emit *e)
{
    b->stub_vecload = emit_here(e);
    emit_store_gs(e, H_AX, CPU(tmp[0]));
    emit_store_gs(e, H_DX, CPU(tmp[1]));
    emit_load_gs(e, T0, CPU(v));
    xsave_op(e, 5);
    emit_mov_imm32(e, T1, 1);
    emit_store_gs(e, T1, CPU(vec_live));
    emit_load_gs(e, H_AX, CPU(tmp[0]));
    emit_load_gs(e, H_DX, CPU(tmp[1]));
    emit_1(e, 0xc3);
}

void btstub_emit(struct bt_vm *b)
{
    struct emit *e = &b->code.e;

    stub_enter(b, e);
    stub_leave(b, e);
    stub_call(e, &b->stub_miss, bt_on_miss);
    stub_call(e, &b->stub_interp, bt_on_interp);
    stub_vecload(b, e);
}
