/* The program of last.c as bytes of this one: last_image[] and last_image_len. LAST is the path of
 * the built program, given by the build. */
    .section .rodata
    .globl last_image, last_image_len
    .balign 16
last_image:
    .incbin LAST
.Lend:
    .balign 8
last_image_len:
    .quad .Lend - last_image
    .type last_image, @object
    .size last_image, .Lend - last_image
    .type last_image_len, @object
    .size last_image_len, 8
    .section .note.GNU-stack, "", @progbits
