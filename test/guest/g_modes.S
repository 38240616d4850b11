/* Real mode, 16-bit and 32-bit protected mode, long mode and back again: what each start needs. Starts in real mode
 * at CS = 0x1000, IP = start. Every check leaves its number in BP before it is made. */
    .pushsection .header, "a"
    .long 0x54534754, 1, 16, start, 1
    .popsection
    .text
    .code16
    .globl start
#define OFF(x) (x - 0x10000)

start:
    cli
    movw %cs, %ax
    movw %ax, %ds
    movw %ax, %es
    xorw %bx, %bx
    movw %bx, %ss /* the stack lies at 0:0x7000 */
    movw $0x7000, %sp

    movw $1, %bp /* segment arithmetic */
    movw $0x1001, %ax
    movw %ax, %es
    movl $0x12345678, %es:0x8000
    cmpl $0x12345678, OFF(0x18010)
    jne fail16
    movw $2, %bp /* addresses wrap in 16 bits of offset */
    movw $0xfffe, %bx
    movw $0x7777, %es:4(%bx)
    cmpw $0x7777, %es:2
    jne fail16

    movw $3, %bp /* INT through the vector table, IRET back */
    xorw %ax, %ax
    movw %ax, %es
    movw $OFF(int77), %es:0x77*4
    movw $0x1000, %es:0x77*4+2
    xorw %cx, %cx
    int $0x77
    cmpw $0x55, %cx
    jne fail16
    movw $4, %bp /* a division by zero comes back behind the handler's fix */
    movw $OFF(int0), %es:0
    movw $0x1000, %es:2
    xorw %bx, %bx
    movw $8, %ax
    xorw %dx, %dx
    divw %bx
    cmpw $8, %ax
    jne fail16
    movw $5, %bp /* beyond the segment's limit: #GP, vector 13 */
    movw $OFF(int13), %es:13*4
    movw $0x1000, %es:13*4+2
    movl $0x10000, %ebx
    xorw %cx, %cx
after13 = . + 4 /* past the load: the handler goes there */
    movb (%ebx), %al
    nop
    cmpw $0x13, %cx
    jne fail16
    movw $6, %bp /* far call and return */
    lcall $0x1000, $OFF(far16)
    cmpw $0x66, %cx
    jne fail16
    jmp protected

int77:
    movw $0x55, %cx
    iret
int0:
    movw $1, %bx
    iret
int13:
    movw $0x13, %cx
    pushw %bp
    movw %sp, %bp
    addw $4, 2(%bp) /* 67 8a 03, nop */
    popw %bp
    iret
far16:
    movw $0x66, %cx
    lret

fail16:
    movw $0x501, %dx
    movw %bp, %ax
    outw %ax, %dx
    jmp .

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff /* 0x08 32-bit code */
    .quad 0x00cf93000000ffff /* 0x10 data */
    .quad 0x00af9b000000ffff /* 0x18 64-bit code */
    .quad 0x00009b010000ffff /* 0x20 16-bit code, base 0x10000 */
    .quad 0x000093010000ffff /* 0x28 16-bit data, base 0x10000 */
    .quad 0x00009300000000ff /* 0x30 data of 256 bytes */
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .long gdt
idtr_real:
    .word 0x3ff
    .long 0
    .balign 8
idt32: /* vector 13 alone, a 32-bit interrupt gate */
    .fill 13, 8, 0
    .word OFF(gp32)
    .word 0x08
    .word 0x8e00
    .word 1
idt32_end:
idtr32:
    .word idt32_end - idt32 - 1
    .long idt32

protected:
    movw $10, %bp
    lgdtl OFF(gdtr)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpw $0x20, $OFF(prot16) /* 16-bit code at first */
prot16:
    movw $0x28, %ax
    movw %ax, %ds
    movw $11, %bp
    cmpl $0x12345678, OFF(0x18010)
    jne fail16
    smsw %ax
    testw $1, %ax
    jz fail16
    ljmpl $0x08, $prot32
    .code32
prot32:
    movl $0x10, %eax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $0x9000, %esp
    lidtl idtr32
    movl $12, %ebp /* a limit of 256 bytes: #GP(0) */
    movl $0x30, %eax
    movw %ax, %fs
    movl $0xfc, %ebx
    movl %fs:(%ebx), %ecx
    xorl %ecx, %ecx
    movl $after_gp, %edi
    movl $0xfd, %ebx
    movl %fs:(%ebx), %eax
    jmp fail32
after_gp:
    cmpl $0x1313, %ecx
    jne fail32

    movl $13, %ebp /* paging with 4 MiB pages: identity, and 0x400000 onto 0 */
    movl $0x20000, %edi
    xorl %eax, %eax
    movl $1024, %ecx
    rep stosl
    movl $0x83, 0x20000
    movl $0x83, 0x20004
    movl %cr4, %eax
    orl $0x10, %eax /* PSE */
    movl %eax, %cr4
    movl $0x20000, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    jmp 1f
1:  cmpl $0x12345678, 0x418010
    jne fail32
    testl $0x20, 0x20004
    jz fail32
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0

    movl $14, %ebp /* PAE, then long mode over the same tables */
    movl $0x20000, %edi
    xorl %eax, %eax
    movl $0x1000, %ecx
    rep stosl
    movl $0x21003, 0x20000 /* PML4 */
    movl $0x22001, 0x21000 /* PDPT: for PAE R/W is reserved */
    movl $0x83, 0x22000
    movl $0x83, 0x22008    /* 0x200000 onto 0 */
    movl %cr4, %eax
    andl $~0x10, %eax
    orl $0x20, %eax
    movl %eax, %cr4
    movl $0x21000, %eax
    movl %eax, %cr3
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    cmpl $0x12345678, 0x218010
    jne fail32
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0
    movl $0x22003, 0x21000
    movl $0x20000, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x100, %eax
    wrmsr
    movl $15, %ebp
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    movl $0xc0000080, %ecx
    rdmsr
    testl $0x400, %eax /* LMA */
    jz fail32
    .byte 0x40 /* INC EAX: compatibility mode still */
    ljmpl $0x18, $long
    .code64
long:
    movl $16, %ebp
    movq $0x1122334455667788, %rax
    shrq $32, %rax
    cmpl $0x11223344, %eax
    jne fail64
    cmpl $0x12345678, 0x218010
    jne fail64
    ljmpl *back(%rip) /* back to 32 bits */
back:
    .long compat
    .word 0x08
fail64:
fail32:
    movl %ebp, %eax
    movw $0x501, %dx
    outl %eax, %dx
    jmp .
    .code32
gp32: /* EDI: where to go on */
    movl $0x1313, %ecx
    cmpl $0, (%esp)
    je 1f
    movl $0, %ecx
1:  movl %edi, 4(%esp)
    addl $4, %esp
    iretl
compat:
    movl $17, %ebp
    movl %cr0, %eax
    andl $0x7fffffff, %eax
    movl %eax, %cr0 /* leaves long mode */
    movl $0xc0000080, %ecx
    rdmsr
    testl $0x400, %eax
    jnz fail32
    andl $~0x100, %eax
    wrmsr
    movl $18, %ebp /* and to real mode */
    ljmpw $0x20, $OFF(1f)
    .code16
1:  movw $0x28, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %cr0, %eax
    andb $0xfe, %al
    movl %eax, %cr0
    ljmpw $0x1000, $OFF(1f)
1:  lidtl %cs:OFF(idtr_real)
    movw %cs, %ax
    movw %ax, %ds
    xorw %ax, %ax
    movw %ax, %ss
    movw $0x7000, %sp
    movw $19, %bp
    xorw %cx, %cx
    int $0x77
    cmpw $0x55, %cx
    jne fail16
    cmpl $0x12345678, OFF(0x18010)
    jne fail16
    movw $0x501, %dx
    xorl %eax, %eax
    outl %eax, %dx
    jmp .
    .section .note.GNU-stack, "", @progbits
