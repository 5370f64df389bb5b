/* request.c: a request in one crossing: payload in, run, what the guest says out, back again if asked. */
#include "machine.h"

enum { SAID_PROGRESS = 1, SAID_OUTPUT = 2, SAID_REPORT = 4 };
enum { VERDICT_ACCEPTED = 1, VERDICT_REJECTED = 2 };

static unsigned yield_kind(const machine *m) { return (unsigned)(m->s.stop_data >> 56); }

static unsigned yield_reason(const machine *m) { return (unsigned)(m->s.stop_data >> 32 & 0xffff); }

// Keep what an automatic yield says; false when the host must look at it: there is no room, or it is none.
static bool keep(serve_call *call) {
    machine *m = call->machine;
    unsigned reason = yield_reason(m);
    uint32_t data = (uint32_t)m->s.stop_data;
    if (yield_kind(m) != YIELD_AUTOMATIC) return false;
    if (reason != SAID_PROGRESS && reason != SAID_OUTPUT && reason != SAID_REPORT) return false;
    uint64_t length = reason == SAID_PROGRESS ? 0 : data;
    uint64_t room = sizeof(said) + (length + 7) / 8 * 8;
    if (room > call->capacity - call->used || length > call->most) return false;
    said *record = (said *)(call->said + call->used);
    *record = (said){m->s.cycle, reason, data};
    access_call tx = {.machine = m, .address = call->tx, .data = (uint8_t *)(record + 1), .length = length};
    machine_access(&tx);
    if (!tx.done) return false;
    call->used += room;
    call->most -= length;
    return true;
}

// May fault, like what it calls: what was said before is in `said` then.
void machine_serve(serve_call *call) {
    machine *m = call->machine;
    call->refused = call->discarded = false;
    call->used = 0;
    if (call->fresh) {
        if (!m->s.yielded) {
            call->refused = true;
            return;
        }
        access_call rx = {.machine = m,
                          .address = call->rx,
                          .data = (uint8_t *)call->payload,
                          .length = call->fromhost & 0xffffffff,
                          .write = true};
        machine_access(&rx);
        machine_answer(m, call->fromhost);
        call->fresh = false;
    }
    run_call run = {.machine = m,
                    .until = call->until,
                    .cycles = ~0ull,
                    .console_bytes = call->console_bytes,
                    .clock = call->clock,
                    .cpu_end = call->cpu_end};
    m->look_at = 0;
    do {
        run_on(&run);
        if (run.stop != STOP_YIELDED || !keep(call)) break;
        if (run_used_up(m, run.clock, run.cpu_end)) run.stop = STOP_CYCLE;
    } while (run.stop == STOP_YIELDED);
    call->stop = run.stop;
    call->console_length = run.console_length;
    call->cycle = m->s.cycle;
    call->stop_data = m->s.stop_data;
    if (!call->discard || run.stop != STOP_YIELDED || run.console_length) return;
    if (yield_kind(m) == YIELD_MANUAL && yield_reason(m) <= VERDICT_REJECTED) {
        machine_rollback(m);
        call->discarded = true;
    }
}
