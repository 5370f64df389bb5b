/* uart.c: a 16550 whose transmitter is always empty; what it receives waits in a FIFO of the machine's state.
 */
#include "../machine.h"

enum { RBR_THR_DLL, IER_DLM, IIR_FCR, LCR, MCR, LSR, MSR, SCR };
enum { IER_RECEIVE = 1, IER_TRANSMIT = 2, LCR_DLAB = 0x80, LSR_DATA = 1, LSR_EMPTY = 0x60, MCR_LOOP = 0x10 };
enum { IIR_NONE = 1, IIR_TRANSMIT = 2, IIR_RECEIVE = 4, IIR_FIFO = 0xc0 };

static unsigned identify(const machine *m) {
    const state *s = &m->s;
    if ((s->uart_ier & IER_RECEIVE) && s->uart_count) return IIR_RECEIVE;
    if ((s->uart_ier & IER_TRANSMIT) && s->uart_thr_interrupt) return IIR_TRANSMIT;
    return IIR_NONE;
}

static void update(machine *m) {
    bool level = identify(m) != IIR_NONE;
    if (level != (m->s.plic_level >> UART_SOURCE & 1)) plic_set(m, UART_SOURCE, level);
}

unsigned uart_receive(machine *m, const uint8_t *data, unsigned length) {
    state *s = &m->s;
    unsigned taken = 0;
    while (taken < length && s->uart_count < UART_FIFO) s->uart_fifo[s->uart_count++] = data[taken++];
    update(m);
    return taken;
}

int uart_take(machine *m) {
    state *s = &m->s;
    if (!s->uart_count) return -1;
    uint8_t byte = s->uart_fifo[0];
    s->uart_count--;
    memmove(s->uart_fifo, s->uart_fifo + 1, s->uart_count);
    s->uart_fifo[s->uart_count] = 0;
    update(m);
    return byte;
}

bool uart_load(machine *m, uint64_t offset, unsigned size, uint64_t *value) {
    state *s = &m->s;
    if (size != 1) return false;
    bool divisor = s->uart_lcr & LCR_DLAB;
    *value = 0;
    switch (offset) {
    case RBR_THR_DLL:
        if (divisor)
            *value = s->uart_dll;
        else if (s->uart_count)
            *value = (uint8_t)uart_take(m);
        break;
    case IER_DLM: *value = divisor ? s->uart_dlm : s->uart_ier; break;
    case IIR_FCR: {
        unsigned id = identify(m);
        *value = id | (s->uart_fcr & 1 ? IIR_FIFO : 0);
        if (id == IIR_TRANSMIT) s->uart_thr_interrupt = 0, update(m);
        break;
    }
    case LCR: *value = s->uart_lcr; break;
    case MCR: *value = s->uart_mcr; break;
    case LSR: *value = LSR_EMPTY | (s->uart_count ? LSR_DATA : 0); break;
    case MSR:
        *value = s->uart_mcr & MCR_LOOP
                     ? (s->uart_mcr & 2) << 3 | (s->uart_mcr & 1) << 5 | (s->uart_mcr & 12) << 4
                     : 0xb0;
        break;
    case SCR: *value = s->uart_scratch; break;
    }
    return true;
}

bool uart_store(machine *m, uint64_t offset, unsigned size, uint64_t value) {
    state *s = &m->s;
    if (size != 1) return false;
    bool divisor = s->uart_lcr & LCR_DLAB;
    uint8_t byte = (uint8_t)value;
    switch (offset) {
    case RBR_THR_DLL:
        if (divisor) {
            s->uart_dll = byte;
        } else if (s->uart_mcr & MCR_LOOP) {
            uart_receive(m, &byte, 1);
        } else {
            console_put(m, byte);
            s->uart_thr_interrupt = 1;
        }
        break;
    case IER_DLM:
        if (divisor) {
            s->uart_dlm = byte;
        } else {
            if ((byte & IER_TRANSMIT) && !(s->uart_ier & IER_TRANSMIT)) s->uart_thr_interrupt = 1;
            s->uart_ier = byte & 15;
        }
        break;
    case IIR_FCR:
        s->uart_fcr = byte & 0xc9;
        if (byte & 2) memset(s->uart_fifo, 0, UART_FIFO), s->uart_count = 0;
        break;
    case LCR: s->uart_lcr = byte; break;
    case MCR: s->uart_mcr = byte & 31; break;
    case SCR: s->uart_scratch = byte; break;
    }
    update(m);
    return true;
}
