# hello.S: says hello on the HTIF console and halts with code 0.
        .section .text.start, "ax"
        .globl _start
_start: li      s0, 0x40008000          # HTIF: tohost
        li      s1, 0x0101              # device 1, command 1: putchar
        slli    s1, s1, 48
        la      s2, message
next:   lbu     t0, 0(s2)
        beqz    t0, done
        or      t0, t0, s1
        sd      t0, 0(s0)
        addi    s2, s2, 1
        j       next
done:   li      t0, 1                   # device 0: halt, code << 1 | 1
        sd      t0, 0(s0)
        j       done

        .section .rodata, "a"
message: .asciz "hello from the guest\n"
