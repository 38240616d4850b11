/* The guest agent as bytes of this program: agent_image[] and agent_image_len of image/initrd.h. AGENT is the path of the
 * built program, given by the build. */
    .section .rodata
    .globl agent_image, agent_image_len
    .balign 16
agent_image:
    .incbin AGENT
.Lend:
    .balign 8
agent_image_len:
    .quad .Lend - agent_image
    .type agent_image, @object
    .size agent_image, .Lend - agent_image
    .type agent_image_len, @object
    .size agent_image_len, 8
    .section .note.GNU-stack, "", @progbits
