/* machine.c: what the host does with a machine: make, fork, look at, change. */
#include "machine.h"

machine *machine_new(layer *base) {
    machine *m = NULL;
    if (!(m = calloc(1, sizeof *m))) return NULL;
    m->home = board_hold(base->home);
    m->s = base->state;
    memory_attach(m, base);
    return m;
}

void machine_free(machine *m) {
    if (!m) return;
    engine_close(m);
    board *b = m->home;
    memory_release(m);
    board_release(b);
    free(m->console);
    free(m);
}

// Run blocks as host code once they were entered `warmth` times (0: never); false: there is no way to.
bool machine_translate(machine *m, uint32_t warmth) {
    codecache *c = m->home->cache;
    if (warmth && (!c || !c->length)) return false;
    m->warmth = warmth < 255 ? warmth : 255;
    if (warmth) m->home->translating = true;
    return true;
}

// A state as it is at reset.
void state_reset(state *s, board *b, uint64_t pc, uint64_t device_tree) {
    memset(s, 0, sizeof *s);
    s->pc = pc;
    s->x[11] = device_tree;
    s->privilege = PRIVILEGE_M;
    s->mtimecmp = ~0ull;
    s->reservation = ~0ull;
    s->uart_mcr = 8;
    for (unsigned slot = 0; slot < VIRTIO_SLOTS; slot++) s->virtio[slot].random = b->virtio[slot].seed;
}

// Nothing in a state that came from a file may lead the core astray.
const char *state_flaw(const state *s) {
    if (s->privilege > PRIVILEGE_M || s->privilege == 2) return "privilege";
    if ((s->mstatus >> 11 & 3) == 2) return "mstatus.MPP";
    if (s->pc & 1) return "pc";
    if (s->x[0] || s->x[32]) return "x0";
    if (s->fflags > 31 || s->frm > 7) return "fcsr";
    if (s->uart_count > UART_FIFO) return "uart fifo";
    if (s->satp >> 60 != 0 && s->satp >> 60 != 8) return "satp";
    if ((s->medeleg & ~0xb3feull) || (s->mideleg & ~0x222ull) || (s->mie & ~0xaaaull) || (s->mip & ~0x222ull))
        return "interrupt registers";
    for (unsigned slot = 0; slot < VIRTIO_SLOTS; slot++)
        for (unsigned queue = 0; queue < VIRTIO_QUEUES; queue++) {
            uint16_t size = s->virtio[slot].queues[queue].size;
            if (size > 256 || (size & (size - 1))) return "virtio queue size";
        }
    const virtio_work *w = &s->work;
    if (w->phase > WORK_DONE || w->slot >= VIRTIO_SLOTS || w->queue >= VIRTIO_QUEUES) return "virtio work";
    if (w->phase && !s->virtio[w->slot].queues[w->queue].size) return "virtio work";
    return NULL;
}

const state *machine_state(const machine *m) { return &m->s; }

layer *machine_base(machine *m) { return m->memory.base; }

// Guest memory the host touches; all of these may fault, so they are called through the guard.

void machine_seal(seal_call *call) { call->layer = memory_seal(call->machine, call->stored); }

void machine_rollback(machine *m) {
    flat_undo(m);
    engine_flush(m);
    memory_drop_top(m);
    m->s = m->memory.base->state;
    m->stop = STOP_NONE;
    m->console_length = 0;
}

void machine_access(access_call *call) {
    machine *m = call->machine;
    uint64_t address = call->address, left = call->length;
    uint8_t *data = call->data;
    call->done = false;
    while (left) {
        uint64_t physical = address, part = PAGE_BYTES - (address & 4095);
        if (part > left) part = left;
        call->failure = address;
        if (call->virtual_address && !mmu_debug_translate(m, address, &physical)) return;
        const memory_range *r = board_range(m->home, physical);
        if (!r || (call->virtual_address && !(r->flags & RANGE_GUEST))) return;
        if (!(call->write ? dma_write(m, physical, data, part, false)
                          : dma_read(m, physical, data, part, false)))
            return;
        address += part, data += part, left -= part;
    }
    call->done = true;
}

// registers: 0..31 x, 32..63 f, 64 pc, 65 privilege, 66 cycle, 0x1000 + n CSR n

bool machine_register(machine *m, unsigned number, uint64_t *value) {
    state *s = &m->s;
    m->at = NULL;
    if (number < 32)
        *value = s->x[number];
    else if (number < 64)
        *value = s->f[number - 32];
    else if (number == 64)
        *value = s->pc;
    else if (number == 65)
        *value = s->privilege;
    else if (number == 66)
        *value = s->cycle;
    else
        return number >= 0x1000 && csr_name(number - 0x1000) && csr_read(m, number - 0x1000, value);
    return true;
}

bool machine_set_register(machine *m, unsigned number, uint64_t value) {
    state *s = &m->s;
    m->at = NULL;
    if (number == 0) return value == 0;
    if (number < 32)
        s->x[number] = value;
    else if (number < 64)
        s->f[number - 32] = value;
    else if (number == 64)
        s->pc = value & ~1ull;
    else if (number == 65) {
        if (value > PRIVILEGE_M || value == 2) return false;
        s->privilege = (uint8_t)value;
    } else if (number < 0x1000 || !csr_name(number - 0x1000))
        return false;
    else if (number - 0x1000 == 0xb00)
        s->mcycle_offset = value - s->cycle;
    else if (number - 0x1000 == 0xb02)
        s->minstret_offset = value - s->cycle;
    else
        csr_write(m, number - 0x1000, value);
    mmu_flush(m);
    return true;
}

int machine_csr_number(const char *name) { return csr_number(name); }

const char *machine_csr_name(unsigned number) { return csr_name(number); }

// console and requests

unsigned machine_console_input(machine *m, const uint8_t *data, unsigned length) {
    m->at = NULL;
    return uart_receive(m, data, length);
}

uint32_t machine_console_length(const machine *m) { return m->console_length; }

uint32_t machine_console_output(machine *m, uint8_t *data, uint32_t capacity) {
    uint32_t length = m->console_length < capacity ? m->console_length : capacity;
    memcpy(data, m->console, length);
    m->console_length -= length;
    memmove(m->console, m->console + length, m->console_length);
    return length;
}

// The response to a manual yield: fromhost is set and the machine may run again.
bool machine_answer(machine *m, uint64_t fromhost) {
    if (!m->s.yielded) return false;
    m->s.yielded = 0;
    m->s.fromhost = fromhost;
    m->s.stop_reason = STOP_NONE;
    return true;
}

void machine_interrupt(machine *m) { __atomic_store_n(&m->stop_flag, 1, __ATOMIC_RELEASE); }

void machine_clear_interrupt(machine *m) { __atomic_store_n(&m->stop_flag, 0, __ATOMIC_RELEASE); }

// Give back the caches of a machine that will not run soon.
void machine_cool(machine *m) { engine_close(m); }

// Was this built with AddressSanitizer? CI wants to know that its sanitized build is one.
bool sanitized(void) {
#if defined(__SANITIZE_ADDRESS__)
    return true;
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
    return true;
#    else
    return false;
#    endif
#else
    return false;
#endif
}
