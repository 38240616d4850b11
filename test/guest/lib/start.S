/* Entry, trap stubs, ring 3, and the way of the other CPUs from real to long mode. */
    .text
    .code64
    .globl start, run_user, stubs, ap_start, trap_common
start:
    leaq stack_top(%rip), %rsp
    call lib_init
    call guest
    movw $0x501, %dx
    outl %eax, %dx
1:  hlt
    jmp 1b

    .balign 16
stubs: /* 16 bytes each */
    .set i, 0
    .rept 256
    .balign 16
    .if (i == 8) || (i >= 10 && i <= 14) || (i == 17) || (i == 21)
    .else
    pushq $0
    .endif
    pushq $i
    jmp trap_common
    .set i, i + 1
    .endr

trap_common:
    pushq %rax; pushq %rcx; pushq %rdx; pushq %rbx; pushq %rbp; pushq %rsi; pushq %rdi
    pushq %r8; pushq %r9; pushq %r10; pushq %r11; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    cld
    call trap_c
    movq %rbp, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %r11; popq %r10; popq %r9; popq %r8
    popq %rdi; popq %rsi; popq %rbp; popq %rbx; popq %rdx; popq %rcx; popq %rax
    addq $16, %rsp
    iretq

/* unsigned run_user(fn, user_rsp, cs, rflags) */
run_user:
    pushq %rbx; pushq %rbp; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movl $0x100, trap(%rip)
    leaq 1f(%rip), %rax
    movq %rax, resume_rip(%rip)
    movq %rsp, resume_rsp(%rip)
    pushq $0x2b
    pushq %rsi
    pushq %rcx
    movzwl %dx, %edx
    pushq %rdx
    pushq %rdi
    iretq
1:  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbp; popq %rbx
    movl trap(%rip), %eax
    ret

    /* SIPI brings a CPU here in real mode: CS:0 is this page. */
    .balign 4096
    .code16
ap_start:
    cli
    lgdtl %cs:(ap_gdtr - ap_start)
    movl %cr4, %eax
    orl $0x6a0, %eax /* PAE, PGE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $0x2000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x901, %eax /* SCE, LME, NXE */
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
    ljmpl $0x08, $ap64
    .balign 8
ap_gdtr:
    .word 0xfff
    .long 0x1000
    .code64
ap64:
    movl $0x10, %eax
    movw %ax, %ss
    movw %ax, %ds
    movw %ax, %es
    lidt idtr(%rip)
    movq ap_stack(%rip), %rsp
    movl ap_index(%rip), %edi
    movq ap_fn(%rip), %rax
    movl $1, ap_taken(%rip)
    call *%rax
1:  cli
    hlt
    jmp 1b

    .bss
    .balign 16
    .skip 8192
stack_top:
    .section .note.GNU-stack, "", @progbits
