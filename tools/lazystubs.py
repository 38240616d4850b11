#!/usr/bin/env python3
"""Write stubs for functions of libraries that are loaded when the first of them is called (base/lazy.h).

usage: lazystubs.py OUT.S NM READELF KILN.a LIB.so...     KILN.a: whose undefined symbols are wanted

What is wanted is found in the objects, so there is no list to keep.
"""
import os
import subprocess
import sys

ENTER = """
    .text
    .type lazy_enter, @function
lazy_enter: /* the index is on the stack; every register that may hold an argument is kept */
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %r8
    pushq %r9
    pushq %rax
    subq $136, %rsp
    movups %xmm0, 0(%rsp)
    movups %xmm1, 16(%rsp)
    movups %xmm2, 32(%rsp)
    movups %xmm3, 48(%rsp)
    movups %xmm4, 64(%rsp)
    movups %xmm5, 80(%rsp)
    movups %xmm6, 96(%rsp)
    movups %xmm7, 112(%rsp)
    movq 192(%rsp), %rdi
    call lazy_resolve
    movq %rax, %r11
    movups 0(%rsp), %xmm0
    movups 16(%rsp), %xmm1
    movups 32(%rsp), %xmm2
    movups 48(%rsp), %xmm3
    movups 64(%rsp), %xmm4
    movups 80(%rsp), %xmm5
    movups 96(%rsp), %xmm6
    movups 112(%rsp), %xmm7
    addq $136, %rsp
    popq %rax
    popq %r9
    popq %r8
    popq %rcx
    popq %rdx
    popq %rsi
    popq %rdi
    addq $8, %rsp
    jmp *%r11
    .size lazy_enter, .-lazy_enter
"""


def symbols(nm, options, path):
    out = subprocess.run([nm, *options, path], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1].split("@")[0] for line in out.splitlines() if len(line.split()) >= 2}


def soname(readelf, path):
    for line in subprocess.run([readelf, "-d", path], capture_output=True, text=True, check=True).stdout.splitlines():
        if "(SONAME)" in line:
            return line.split("[")[1].rstrip("]")
    return os.path.basename(path)


def main():
    out, nm, readelf, kiln, *libs = sys.argv[1:]
    wanted = symbols(nm, ["-u"], kiln)
    table = []  # (symbol, library)
    for index, lib in enumerate(libs):
        table += [(name, index) for name in sorted(wanted & symbols(nm, ["-D", "--defined-only"], lib))]
    text = ["/* Written by tools/lazystubs.py. */", ENTER]
    for n, (name, _) in enumerate(table):
        text.append(f"""
    .globl {name}
    .type {name}, @function
{name}:
    endbr64
    jmp *lazy_slot+{8 * n}(%rip)
    .size {name}, .-{name}
.Lfirst{n}:
    pushq ${n}
    jmp lazy_enter""")
    text.append("\n    .data\n    .balign 8\n    .globl lazy_slot\nlazy_slot:")
    text += [f"    .quad .Lfirst{n}" for n in range(len(table))]
    text.append("\n    .section .rodata\n    .globl lazy_symbol, lazy_soname, lazy_count\nlazy_symbol:")
    text += [f"    .byte {lib}\n    .asciz \"{name}\"" for name, lib in table]
    text.append("    .byte 255\n    .balign 4\nlazy_count:\n    .long %d" % len(table))
    text.append("lazy_soname:")
    text += [f"    .asciz \"{soname(readelf, lib)}\"" for lib in libs]
    text.append("    .asciz \"\"\n    .section .note.GNU-stack, \"\", @progbits\n")
    with open(out, "w", encoding="ascii") as f:
        f.write("\n".join(text))


if __name__ == "__main__":
    main()
