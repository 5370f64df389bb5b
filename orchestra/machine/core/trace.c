/* trace.c: one instruction at a time, with a note of what each did. */
#include "machine.h"

static void record(machine *m, commit *c, const state *before) {
    const state *s = &m->s;
    uint32_t word = (c->raw & 3) == 3 ? c->raw : decode_expand(m->home, (uint16_t)c->raw);
    const instruction *i = &instructions[word ? decode_opcode(m->home, word) : OP_illegal];
    unsigned rd = word >> 7 & 31;
    c->rd = (uint8_t)rd;
    c->trapped = s->minstret_offset != before->minstret_offset && c->csr != 0xb02;
    if (i->operands[0] == 'f' && i->operands[1] == 'd')
        c->destination = 2, c->value = s->f[rd];
    else if (i->operands[0] == 'r' && i->operands[1] == 'd' && rd)
        c->destination = 1, c->value = s->x[rd];
    if (c->csr) csr_read(m, c->csr, &c->csr_value);
    if (c->csr == 0x100 || c->csr == 0x104 || c->csr == 0x144) csr_read(m, c->csr | 0x200, &c->behind);
    bool dirtied = (before->mstatus & MSTATUS_FS) != MSTATUS_FS && (s->mstatus & MSTATUS_FS) == MSTATUS_FS;
    if (dirtied || i == &instructions[OP_mret] || i == &instructions[OP_sret])
        csr_read(m, 0x300, &c->mstatus);
}

// Arithmetic accrues its flags onto zeros while it is traced, so that it can be seen which of them are its
// own.
static bool raises_flags(const machine *m, uint32_t raw) {
    const instruction *i = &instructions[(raw & 3) == 3 ? decode_opcode(m->home, raw) : OP_illegal];
    return strstr(i->operands, ",fs1") || strstr(i->operands, ",rm");
}

// Run one instruction at a time and write down what each did.
void machine_trace(trace_call *call) {
    machine *m = call->machine;
    call->stop = STOP_MEMORY;
    call->count = 0;
    if (!engine_open(m)) return;
    call->stop = STOP_CYCLE;
    m->console_limit = UINT32_MAX;
    run_begins(m);
    mmu_flush(m);
    while (call->count < call->capacity && m->s.cycle < call->until && call->stop == STOP_CYCLE) {
        commit *c = &call->commits[call->count];
        state before = m->s;
        *c = (commit){0};
        m->trace = c;
        m->at = NULL;
        m->limit = m->s.cycle;
        m->budget = 0;
        bool stands = m->s.halted || m->s.yielded || m->stop;
        if (!stands && m->s.work.phase) {
            if (__atomic_exchange_n(&m->stop_flag, 0, __ATOMIC_ACQUIRE))
                call->stop = STOP_INTERRUPTED;
            else
                virtio_serve(m, call->until);
            continue;
        }
        if (!stands && m->s.waiting) {
            if (!run_skips_idle(m, call->until)) call->stop = STOP_IDLE;
            if (m->s.waiting) continue;
            before = m->s;
        }
        if (!stands && trap_interrupt(m)) before = m->s;
        c->pc = m->s.pc;
        c->privilege = m->s.privilege;
        int cause = m->cause;
        uint64_t value = m->value;
        if (!mmu_fetch_raw(m, m->s.pc, &c->raw)) c->trapped = 1;
        m->cause = cause, m->value = value;
        bool arithmetic = raises_flags(m, c->raw);
        if (arithmetic) c->fflags = m->s.fflags, m->s.fflags = 0;
        call->stop = run_until(m, m->s.cycle + 1);
        if (arithmetic) c->fflags_raised = m->s.fflags, m->s.fflags |= c->fflags;
        m->s.x[32] = 0;
        m->trace = NULL;
        if (m->s.cycle == before.cycle) continue;
        if (!c->trapped) record(m, c, &before);
        call->count++;
    }
    mmu_flush(m);
    run_ends(m);
}
