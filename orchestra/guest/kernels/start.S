# start.S: runs one kernel in S-mode under Sv39, prints its result, powers off; on orchestra as on QEMU's virt board.
#
# The host writes which kernel, and how many rounds of it, into the two words behind the first instruction.
        .equ    UART, 0x10000000
        .equ    POWER, 0x00100000
        .equ    LINE_STATUS, 5
        .equ    IDLE, 0x20
        .equ    OFF, 0x5555
        .equ    FAILED, 0x13333

        .section .text.start, "ax"
        .globl _start
_start: j       begin
        .balign 8
which:  .dword  0
rounds: .dword  1

begin:  bnez    a0, sleep               # one hart works
        la      t0, no_protection
        csrw    mtvec, t0
        li      t0, -1                  # S-mode may use all memory, where there is physical memory protection
        csrw    pmpaddr0, t0
        li      t0, 0x1f
        csrw    pmpcfg0, t0
        .balign 4
no_protection:
        la      t0, trap
        csrw    mtvec, t0
        csrw    mie, zero
        csrw    medeleg, zero
        la      sp, stack_top
        la      a0, tables
        call    map_memory              # returns satp
        csrw    satp, a0
        sfence.vma
        li      t0, 3 << 11
        csrc    mstatus, t0
        li      t0, 1 << 11 | 1 << 13   # MPP = S, FS = Initial
        csrs    mstatus, t0
        la      t0, supervisor
        csrw    mepc, t0
        ld      a0, which
        ld      a1, rounds
        mret

supervisor:
        call    run_kernel
        ecall

        .balign 4
trap:   csrr    t0, mcause
        li      t1, 9                   # an ecall from S-mode: a0 is the result
        li      a1, OFF
        beq     t0, t1, print
        csrr    a0, mepc
        li      a1, FAILED
print:  li      t0, UART
        li      t1, 60
digit:  srl     t2, a0, t1
        andi    t2, t2, 15
        sltiu   t3, t2, 10
        addi    t2, t2, 'a' - 10
        beqz    t3, put
        addi    t2, t2, '0' - 'a' + 10
put:    lbu     t3, LINE_STATUS(t0)
        andi    t3, t3, IDLE
        beqz    t3, put
        sb      t2, 0(t0)
        addi    t1, t1, -4
        bgez    t1, digit
        li      t0, POWER
        sw      a1, 0(t0)
sleep:  wfi
        j       sleep

        .section .bss.stack, "aw", @nobits
        .balign 4096
tables: .skip   18 * 4096               # one of gigapages, one of 2 MiB, sixteen of pages
        .skip   65536
stack_top:
