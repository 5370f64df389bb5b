/* htif.c: how a guest speaks to its host: halt, console, yield (DESIGN 2.2). */
#include "../machine.h"

enum { TOHOST = 0, FROMHOST = 8, IHALT = 0x10, ICONSOLE = 0x18, IYIELD = 0x20 };
enum { DEVICE_HALT = 0, DEVICE_CONSOLE = 1, DEVICE_YIELD = 2 };

// What the guest printed waits here for the host; when there is enough of it the machine stops.
void console_put(machine *m, uint8_t byte) {
    if (m->console_length == m->console_capacity) {
        uint32_t capacity = m->console_capacity ? m->console_capacity * 2 : 256;
        uint8_t *console = realloc(m->console, capacity);
        if (!console) return;
        m->console = console;
        m->console_capacity = capacity;
    }
    m->console[m->console_length++] = byte;
    if (m->console_length >= m->console_limit) m->stop = STOP_CONSOLE, m->attention = true;
}

static void answer(machine *m, uint64_t fromhost) {
    state *s = &m->s;
    s->tohost = 0;
    s->fromhost = fromhost;
    if (m->home->watched == ~0ull) return;
    uint64_t zero = 0; // the ELF's own tohost and fromhost
    dma_write(m, m->home->watched, &zero, sizeof zero, true);
    if (m->home->watched_fromhost != ~0ull && fromhost)
        dma_write(m, m->home->watched_fromhost, &fromhost, sizeof fromhost, true);
}

void htif_command(machine *m, uint64_t tohost) {
    state *s = &m->s;
    unsigned device = tohost >> 56, command = tohost >> 48 & 255;
    uint64_t data = tohost & 0xffffffffffffull, echo = tohost & 0xffff000000000000ull;
    s->tohost = tohost;
    m->attention = true;
    switch (device) {
    case DEVICE_HALT:
        if (command != 0 || !(data & 1)) break; // a proxied system call: nobody serves it
        s->halted = 1;
        s->stop_data = data >> 1;
        s->stop_reason = STOP_HALTED;
        return; // tohost keeps the verdict
    case DEVICE_CONSOLE:
        if (command == 1) {
            console_put(m, (uint8_t)data);
            answer(m, echo);
            return;
        }
        if (command == 0) {
            int byte = uart_take(m);
            answer(m, echo | (uint64_t)(byte + 1)); // 0: nothing there
            return;
        }
        break;
    case DEVICE_YIELD:
        if (!(m->home->devices & DEVICE_CMIO) || command > YIELD_MANUAL) break;
        answer(m, 0);
        s->stop_data = data | (uint64_t)command << 56;
        if (command == YIELD_MANUAL)
            s->yielded = 1;
        else
            m->stop = STOP_YIELDED;
        s->stop_reason = STOP_YIELDED;
        return;
    }
    answer(m, 0);
}

bool htif_load(machine *m, uint64_t offset, unsigned size, uint64_t *value) {
    if (size < 4) return false;
    uint64_t whole = 0;
    switch (offset & ~7ull) {
    case TOHOST: whole = m->s.tohost; break;
    case FROMHOST: whole = m->s.fromhost; break;
    case IHALT: whole = 1; break; // commands that each device understands, as bits
    case ICONSOLE: whole = 3; break;
    case IYIELD: whole = m->home->devices & DEVICE_CMIO ? 3 : 0; break;
    }
    *value = size == 8 ? whole : (uint32_t)(whole >> (offset & 4 ? 32 : 0));
    return true;
}

bool htif_store(machine *m, uint64_t offset, unsigned size, uint64_t value) {
    if (size < 4) return false;
    uint64_t *whole = (offset & ~7ull) == TOHOST     ? &m->s.tohost
                      : (offset & ~7ull) == FROMHOST ? &m->s.fromhost
                                                     : NULL;
    if (!whole) return true;
    if (size == 8)
        *whole = value;
    else if (offset & 4)
        *whole = (*whole & 0xffffffff) | value << 32;
    else
        *whole = (*whole & ~0xffffffffull) | (uint32_t)value;
    // a 32-bit guest writes the low half first and the command with the high half
    if (whole == &m->s.tohost && *whole && (size == 8 || (offset & 4) || *whole >> 48 == 0))
        htif_command(m, *whole);
    return true;
}
