/* run.c: the loop around the interpreter: when it runs, for how long, and why a run stopped. */
#include "machine.h"

enum { CHUNK_CYCLES = 1 << 16, PATIENCE = 256 }; // the stop flag is looked at this often

// The clock before the operation under way.
uint64_t cycle_now(const machine *m) {
    return m->at ? m->limit - (uint64_t)(m->budget + m->at->n) : m->s.cycle;
}

void run_begins(machine *m) {
    m->host_modes = fast_begin();
    m->running = true;
}

void run_ends(machine *m) {
    if (m->running) fast_end(m->host_modes);
    m->running = false;
}

// A host fault ended the last call somewhere: stand before the operation that was under way.
void machine_unwind(machine *m, const uint64_t *registers) {
    bool translated = translation_unwind(m, registers);
    codecache_leave(m);
    if (!translated && m->at) {
        m->s.pc = ((uintptr_t)m->at >> 3) + m->delta;
        m->budget += m->at->n;
        m->at = NULL;
    }
    m->s.cycle = m->limit - (uint64_t)m->budget;
    m->s.x[32] = 0;
    if (m->trace) m->s.fflags |= m->trace->fflags;
    m->trace = NULL;
    m->cpu_end = 0;
    mmu_flush(m);
    run_ends(m);
}

static bool wakes(const machine *m) { return interrupts_pending(m) & m->s.mie; }

// Until then no instruction is done.
void run_passes_time(machine *m, uint64_t to) {
    m->s.minstret_offset -= to - m->s.cycle;
    m->s.cycle = to;
}

// Idle: go to the next timer event, at most to `until`; false when there is nothing to wait for.
bool run_skips_idle(machine *m, uint64_t until) {
    state *s = &m->s;
    if (wakes(m)) {
        s->waiting = 0;
        return true;
    }
    uint64_t timer = clint_timer_cycle(m, s->mie);
    if (timer == ~0ull) return false;
    run_passes_time(m, timer < until ? timer : until);
    return true;
}

// Asking for a thread's CPU time is a system call: it has used no more since than has passed on the wall.
bool run_used_up(machine *m, host_clock clock, uint64_t cpu_end) {
    if (!cpu_end || clock(0) < m->look_at) return false;
    uint64_t used = clock(1);
    if (used >= cpu_end) return true;
    m->look_at = clock(0) + (cpu_end - used);
    return false;
}

// Run until cycle `until`, or until there is a reason to stop; the reason is also in s.stop_reason.
int run_until(machine *m, uint64_t until) {
    state *s = &m->s;
    for (bool ran = false;; ran = true) {
        if (s->halted) return STOP_HALTED;
        if (s->yielded) return STOP_YIELDED;
        if (m->stop) {
            int stop = (int)m->stop;
            m->stop = STOP_NONE;
            return stop;
        }
        if (s->cycle >= until) return STOP_CYCLE;
        if (__atomic_exchange_n(&m->stop_flag, 0, __ATOMIC_ACQUIRE)) return STOP_INTERRUPTED;
        if (ran && run_used_up(m, m->clock, m->cpu_end)) return STOP_CYCLE;
        if (s->work.phase) {
            virtio_serve(m, until);
            continue;
        }
        trap_interrupt(m);
        if (s->waiting) {
            if (!run_skips_idle(m, until)) return STOP_IDLE;
            continue;
        }
        uint64_t limit = until - s->cycle > CHUNK_CYCLES ? s->cycle + CHUNK_CYCLES : until;
        uint64_t timer = clint_timer_cycle(m, ~0ull);
        if (timer > s->cycle && timer < limit) limit = timer;
        m->limit = limit;
        m->budget = (int64_t)(limit - s->cycle);
        if (m->warmth && !m->trace) codecache_look(m);
        m->patience = PATIENCE;
        interpret(m);
        s->cycle = limit - (uint64_t)m->budget;
    }
}

void run_on(run_call *call) {
    machine *m = call->machine;
    if (!engine_open(m)) {
        call->stop = STOP_MEMORY;
        return;
    }
    m->at = NULL;
    m->limit = m->s.cycle;
    m->budget = 0;
    m->console_limit = call->console_bytes;
    uint64_t left = ~0ull - m->s.cycle, end = m->s.cycle + (call->cycles < left ? call->cycles : left);
    if (end < call->until) call->until = end;
    m->clock = call->clock;
    m->cpu_end = call->cpu_end;
    codecache_enter(m);
    run_begins(m);
    call->stop = run_until(m, call->until);
    run_ends(m);
    codecache_leave(m);
    m->cpu_end = 0;
    call->console_length = m->console_length;
    m->s.x[32] = 0;
}

// Called through the host's guard: a fault of backing memory leaves it by longjmp, and machine_unwind must
// follow.
void machine_run(run_call *call) {
    call->machine->look_at = 0;
    run_on(call);
}
