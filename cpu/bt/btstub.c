/* The few pieces of code that all blocks share. C's callee-saved registers and the host's stack
 * pointer are kept in the entry stub's frame; every call-out goes through bt_cpu. */
#include "cpu/bt/xlat_priv.h"

static bool in_register(unsigned g)
{
    return g != RSP && g != R9 && g != R10 && g != R11;
}

/* All guest registers that live in the host's to v.s.gpr. EFLAGS kept. */
static void save_gprs(struct emit *e)
{
    for (unsigned g = 0; g < GPRS; g++) {
        if (in_register(g))
            emit_store_gs(e, g, GPR(g));
    }
    emit_store_gs(e, HOST_GUEST_RSP, GPR(RSP));
}

static void load_gprs(struct emit *e)
{
    emit_load_gs(e, HOST_GUEST_RSP, GPR(RSP));
    for (unsigned g = 0; g < GPRS; g++) {
        if (in_register(g))
            emit_load_gs(e, g, GPR(g));
    }
}

/* XSAVE64 / XRSTOR64 of x87, SSE and AVX at v.s.xsave; edx:eax must be free. */
static void xsave_op(struct emit *e, unsigned ext)
{
    static const uint8_t op[] = {0x65, 0x48, 0x0f, 0xae};

    emit_mov_imm32(e, H_AX, XCR0_ALL);
    emit_mov_imm32(e, H_DX, 0);
    emit_bytes(e, op, sizeof(op));
    emit_1(e, (uint8_t)(0x04 | ext << 3));
    emit_1(e, 0x25);
    emit_4(e, CPU(v.s.xsave));
}

static uint8_t *skip_unless_live(struct emit *e)
{
    emit_load_gs(e, T1, CPU(vec_live));
    emit_rr(e, true, 0x85, T1, T1);
    return emit_jcc_fwd(e, CC_E);
}

/* If the guest's vector state is live: save it, give C its own control words. Registers are saved
 * already. */
static void vec_out(struct emit *e)
{
    static const uint8_t fninit[] = {0xdb, 0xe3};
    uint8_t *skip = skip_unless_live(e);

    xsave_op(e, 4);
    /* The last x87 instruction's addresses would be the host's. */
    emit_rr(e, false, 0x33, H_AX, H_AX);
    emit_store_gs(e, H_AX, CPU(v.s.xsave) + 8);
    emit_store_gs(e, H_AX, CPU(v.s.xsave) + 16);
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
    uint8_t *skip = skip_unless_live(e);

    xsave_op(e, 5);
    emit_patch(e, skip);
}

static void vec_not_live(struct emit *e)
{
    emit_mov_imm32(e, T1, 0);
    emit_store_gs(e, T1, CPU(vec_live));
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

/* Out of the code for good; EFLAGS are not looked at. */
static void leave(struct emit *e)
{
    save_gprs(e);
    vec_out(e);
    vec_not_live(e);
    leave_frame(e);
}

/* Called: struct exit_site follows. */
static void stub_exit(struct bt_vm *b, struct emit *e, bool eflags)
{
    b->stub_exit[eflags] = emit_here(e);
    pop(e, T0);
    emit_store_gs(e, T0, CPU(exit_site));
    if (eflags)
        xinsn_save_flags(e);
    leave(e);
}

/* Jumped to: T0 = target ^ epoch, T1d = exit_branch. */
static void stub_jump(struct bt_vm *b, struct emit *e, bool super)
{
    b->stub_jump[super] = emit_here(e);
    emit_gs(e, true, 0x33, T0, CPU(epoch_xor) + 8 * super);
    emit_store_gs(e, T0, CPU(exit_rip));
    emit_gs(e, false, 0x89, T1, CPU(exit_branch));
    emit_mov_imm32(e, T0, 0);
    emit_store_gs(e, T0, CPU(exit_site));
    leave(e);
}

/* Called: T0 = linear address, or nothing; a site follows. C may change all guest state. `vec`: the
 * block goes on to use the vector registers if they were live. */
static void call_out(struct emit *e, bool vec,
                     const uint8_t *(*fn)(struct bt_cpu *, uint64_t, const uint8_t *))
{
    static const uint8_t test_rax[] = {0x48, 0x85, 0xc0};

    pop(e, T1);
    emit_store_gs(e, T0, CPU(tmp[0]));
    emit_store_gs(e, T1, CPU(tmp[1]));
    save_gprs(e);
    vec_out(e);
    if (!vec)
        vec_not_live(e);
    emit_load_gs(e, H_DI, CPU(self));
    emit_load_gs(e, H_SI, CPU(tmp[0]));
    emit_load_gs(e, H_DX, CPU(tmp[1]));
    emit_mov_imm64(e, H_AX, (uint64_t)(uintptr_t)fn);
    emit_1(e, 0xff); /* call rax */
    emit_1(e, 0xd0);
    emit_bytes(e, test_rax, sizeof(test_rax));
    uint8_t *out = emit_jcc_fwd(e, CC_E);
    emit_store_gs(e, H_AX, CPU(tmp[1]));
    if (vec)
        vec_in(e);
    load_gprs(e);
    xinsn_load_flags(e);
    emit_load_gs(e, T0, CPU(tmp[0]));
    emit_gs(e, false, 0xff, 4, CPU(tmp[1])); /* jmp gs:[tmp[1]] */
    emit_patch(e, out);
    if (vec)
        vec_not_live(e); /* saved by vec_out() */
    leave_frame(e);
}

static void stub_miss(struct bt_vm *b, struct emit *e, unsigned set, bool write, bool vec)
{
    b->stub_miss[set][write][vec] = emit_here(e);
    emit_gs_base(e, true, 0x33, T0, T1, btmem_tag(set, write));
    call_out(e, vec, bt_on_miss);
}

/* Jumped to after a change of mode: T0 = linear address, T1 = offset of the mode's jump cache;
 * flags in memory. */
static void stub_go(struct bt_vm *b, struct emit *e, bool super)
{
    uint32_t epoch = CPU(epoch_xor) + 8 * super, jc = CPU(jc);

    b->stub_go[super] = emit_here(e);
    emit_store_gs(e, T1, CPU(tmp[0]));
    xflow_hash(e);
    emit_gs(e, true, 0x03, T1, CPU(tmp[0]));
    emit_gs(e, true, 0x33, T0, epoch);
    emit_gs_base(e, true, 0x3b, T0, T1, jc + (uint32_t)offsetof(struct jc_entry, rip));
    uint8_t *miss = emit_jcc_fwd(e, CC_NE);
    emit_cmp_gs(e, CPU(v.requests), 0);
    uint8_t *requested = emit_jcc_fwd(e, CC_NE);
    emit_gs(e, true, 0x33, T0, epoch);
    emit_alu_imm(e, true, 4, T0, ~(MEM_PAGE - 1));
    emit_store_gs(e, T0, CPU(page_lin));
    emit_gs_base(e, false, 0xff, 4, T1, jc + (uint32_t)offsetof(struct jc_entry, entry));
    emit_patch(e, miss);
    emit_patch(e, requested);
    emit_mov_imm32(e, T1, EXIT_DIRECT);
    emit_jmp(e, b->stub_jump[super]);
}

static void stub_vecload(struct bt_vm *b, struct emit *e)
{
    b->stub_vecload = emit_here(e);
    emit_store_gs(e, H_AX, CPU(tmp[0]));
    emit_store_gs(e, H_DX, CPU(tmp[1]));
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
    stub_vecload(b, e);
    for (unsigned k = 0; k < 2; k++) {
        stub_exit(b, e, k);
        stub_jump(b, e, k);
        b->stub_interp[k] = emit_here(e);
        call_out(e, k, bt_on_interp);
        stub_go(b, e, k);
    }
    b->stub_switch = emit_here(e);
    call_out(e, false, bt_on_switch);
    for (unsigned k = 0; k < TLB_SETS * 4; k++)
        stub_miss(b, e, k / 4, k & 2, k & 1);
}
