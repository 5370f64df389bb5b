/* trap.c: traps, interrupts and returns from them (The RISC-V Instruction Set Manual, volume II, chapters 3
 * and 10). */
#include "machine.h"

// Enter the handler; s.pc is the trapping instruction, or the next one when interrupted.
void trap_enter(machine *m, uint64_t cause, uint64_t value) {
    state *s = &m->s;
    bool interrupt = cause >> 63;
    uint64_t delegated = interrupt ? s->mideleg : s->medeleg;
    bool to_s = s->privilege != PRIVILEGE_M && (delegated >> (cause & 63) & 1);
    uint64_t vector = to_s ? s->stvec : s->mtvec;
    if (to_s) {
        s->scause = cause, s->sepc = s->pc, s->stval = value;
        uint64_t status = s->mstatus & ~(MSTATUS_SPP | MSTATUS_SPIE | MSTATUS_SIE);
        if (s->mstatus & MSTATUS_SIE) status |= MSTATUS_SPIE;
        if (s->privilege == PRIVILEGE_S) status |= MSTATUS_SPP;
        s->mstatus = status;
        s->privilege = PRIVILEGE_S;
    } else {
        s->mcause = cause, s->mepc = s->pc, s->mtval = value;
        uint64_t status = s->mstatus & ~(MSTATUS_MPP | MSTATUS_MPIE | MSTATUS_MIE);
        if (s->mstatus & MSTATUS_MIE) status |= MSTATUS_MPIE;
        s->mstatus = status | (uint64_t)s->privilege << 11;
        s->privilege = PRIVILEGE_M;
    }
    s->pc = (vector & ~3ull) + (interrupt && (vector & 1) ? 4 * (cause & 63) : 0);
    m->attention = true;
}

uint64_t interrupts_pending(const machine *m) {
    const state *s = &m->s;
    uint64_t pending = s->mip; // what software wrote
    if (s->msip) pending |= 1ull << IRQ_MSI;
    if (clint_time(m) >= s->mtimecmp) pending |= 1ull << IRQ_MTI;
    if (s->menvcfg & MENVCFG_STCE) {
        pending &= ~(1ull << IRQ_STI);
        if (clint_time(m) >= s->stimecmp) pending |= 1ull << IRQ_STI;
    }
    if (plic_line(m, 0)) pending |= 1ull << IRQ_MEI;
    if (plic_line(m, 1)) pending |= 1ull << IRQ_SEI;
    return pending;
}

uint64_t interrupts_enabled(const machine *m) {
    const state *s = &m->s;
    uint64_t pending = s->mie ? interrupts_pending(m) & s->mie : 0;
    if (!pending) return 0;
    bool machine_enabled = s->privilege < PRIVILEGE_M || (s->mstatus & MSTATUS_MIE);
    bool supervisor_enabled =
        s->privilege < PRIVILEGE_S || (s->privilege == PRIVILEGE_S && (s->mstatus & MSTATUS_SIE));
    uint64_t to_m = machine_enabled ? pending & ~s->mideleg : 0;
    return to_m ? to_m : supervisor_enabled ? pending & s->mideleg : 0;
}

bool trap_interrupt(machine *m) {
    static const uint8_t urgency[] = {IRQ_MEI, IRQ_MSI, IRQ_MTI, IRQ_SEI, IRQ_SSI, IRQ_STI};
    uint64_t enabled = interrupts_enabled(m);
    if (!enabled) return false;
    for (unsigned i = 0; i < sizeof urgency; i++)
        if (enabled >> urgency[i] & 1) {
            m->s.waiting = 0;
            trap_enter(m, 1ull << 63 | urgency[i], 0);
            return true;
        }
    return false;
}

// mret and sret; false: illegal here.
bool trap_return(machine *m, unsigned from) {
    state *s = &m->s;
    if (s->privilege < from ||
        (from == PRIVILEGE_S && s->privilege == PRIVILEGE_S && (s->mstatus & MSTATUS_TSR)))
        return false;
    uint64_t status = s->mstatus;
    if (from == PRIVILEGE_M) {
        s->privilege = status >> 11 & 3;
        status = (status & ~MSTATUS_MIE) | (status & MSTATUS_MPIE ? MSTATUS_MIE : 0) | MSTATUS_MPIE;
        status &= ~MSTATUS_MPP;
        s->pc = s->mepc;
    } else {
        s->privilege = status & MSTATUS_SPP ? PRIVILEGE_S : PRIVILEGE_U;
        status = (status & ~MSTATUS_SIE) | (status & MSTATUS_SPIE ? MSTATUS_SIE : 0) | MSTATUS_SPIE;
        status &= ~MSTATUS_SPP;
        s->pc = s->sepc;
    }
    if (s->privilege != PRIVILEGE_M) status &= ~MSTATUS_MPRV;
    s->mstatus = status;
    m->attention = true;
    return true;
}
