/* clint.c: software interrupts and the timer; time is the machine's cycles, never the host's clock. */
#include "../machine.h"

enum { MSIP = 0, MTIMECMP = 0x4000, MTIME = 0xbff8 };

uint64_t clint_time(const machine *m) { return cycle_now(m) / m->home->cycles_per_tick + m->s.mtime_offset; }

// When time reaches `compare`: 0 if it has, ~0 if it never will. A guest may have set the time back or ahead.
static uint64_t due_cycle(const machine *m, uint64_t compare) {
    uint64_t tick = m->s.cycle / m->home->cycles_per_tick, time = tick + m->s.mtime_offset, due;
    if (compare <= time) return 0;
    bool never = __builtin_add_overflow(tick, compare - time, &due) ||
                 __builtin_mul_overflow(due, m->home->cycles_per_tick, &due);
    return never ? ~0ull : due;
}

uint64_t clint_timer_cycle(const machine *m, uint64_t enabled) {
    const state *s = &m->s;
    uint64_t now = s->cycle, next = ~0ull;
    if (enabled >> IRQ_MTI & 1) next = due_cycle(m, s->mtimecmp);
    if ((enabled >> IRQ_STI & 1) && (s->menvcfg & MENVCFG_STCE)) {
        uint64_t supervisor = due_cycle(m, s->stimecmp);
        if (supervisor > now && (next <= now || supervisor < next)) next = supervisor;
    }
    return next;
}

static void part_of(uint64_t whole, uint64_t offset, unsigned size, uint64_t *value) {
    *value = size == 8 ? whole : (uint32_t)(whole >> (offset & 4 ? 32 : 0));
}

static uint64_t with_part(uint64_t whole, uint64_t offset, unsigned size, uint64_t value) {
    if (size == 8) return value;
    return offset & 4 ? (whole & 0xffffffff) | value << 32 : (whole & ~0xffffffffull) | (uint32_t)value;
}

bool clint_load(machine *m, uint64_t offset, unsigned size, uint64_t *value) {
    if (size < 4) return false;
    switch (offset & ~7ull) {
    case MSIP: part_of(m->s.msip, offset, size, value); return true;
    case MTIMECMP: part_of(m->s.mtimecmp, offset, size, value); return true;
    case MTIME: part_of(clint_time(m), offset, size, value); return true;
    }
    *value = 0;
    return true;
}

bool clint_store(machine *m, uint64_t offset, unsigned size, uint64_t value) {
    if (size < 4) return false;
    switch (offset & ~7ull) {
    case MSIP:
        if (!(offset & 4)) m->s.msip = value & 1;
        break;
    case MTIMECMP: m->s.mtimecmp = with_part(m->s.mtimecmp, offset, size, value); break;
    case MTIME: m->s.mtime_offset += with_part(clint_time(m), offset, size, value) - clint_time(m); break;
    }
    m->attention = true;
    return true;
}
