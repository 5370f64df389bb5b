# start.S: Linux entry of the agent: the stack holds argc, argv, 0, envp, 0.
        .section .text.start, "ax"
        .globl _start
_start: ld      a0, 0(sp)
        addi    a1, sp, 8
        slli    a2, a0, 3
        add     a2, a2, a1
        addi    a2, a2, 8               # envp
        andi    sp, sp, -16
        tail    agent
