# start.S: M-mode entry of the ledger; memory not in the ELF's files is zero at reset.
        .section .text.start, "ax"
        .globl _start
_start: bnez    a0, sleep               # one hart serves; any other sleeps
        la      t0, trap
        csrw    mtvec, t0
        csrw    mie, zero
        li      t0, 1 << 13             # mstatus.FS = Initial: the compiler may use f registers
        csrs    mstatus, t0
        la      sp, stack_top
        call    serve
sleep:  wfi
        j       sleep

        .balign 4
trap:   la      sp, trap_stack_top
        csrr    a0, mcause
        csrr    a1, mepc
        csrr    a2, mtval
        call    trapped
        j       sleep

        .section .bss.stack, "aw", @nobits
        .balign 16
        .skip   16384
stack_top:
        .skip   4096
trap_stack_top:
