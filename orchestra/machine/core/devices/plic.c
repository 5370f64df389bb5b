/* plic.c: the platform interrupt controller: 31 sources, one hart, contexts 0 (M) and 1 (S). */
#include "../machine.h"

enum { PENDING = 0x1000, ENABLE = 0x2000, ENABLE_STRIDE = 0x80, CONTEXT = 0x200000, CONTEXT_STRIDE = 0x1000 };

static unsigned best(const machine *m, unsigned context) {
    const state *s = &m->s;
    uint32_t candidates = s->plic_pending & s->plic_enable[context] & ~s->plic_claimed,
             priority = s->plic_threshold[context];
    unsigned found = 0;
    for (unsigned source = 1; candidates >> source && source < PLIC_SOURCES; source++)
        if ((candidates >> source & 1) && s->plic_priority[source] > priority) {
            found = source;
            priority = s->plic_priority[source];
        }
    return found;
}

bool plic_line(const machine *m, unsigned context) { return m->s.plic_pending && best(m, context); }

// A source's wire; level triggered, latched until claimed.
void plic_set(machine *m, unsigned source, bool level) {
    uint32_t bit = 1u << source;
    if (level)
        m->s.plic_level |= bit, m->s.plic_pending |= m->s.plic_claimed & bit ? 0 : bit;
    else
        m->s.plic_level &= ~bit;
    m->attention = true;
}

static unsigned claim(machine *m, unsigned context) {
    unsigned source = best(m, context);
    m->s.plic_pending &= ~(1u << source);
    if (source) m->s.plic_claimed |= 1u << source;
    m->attention = true;
    return source;
}

static void complete(machine *m, unsigned context, uint32_t source) {
    if (source == 0 || source >= PLIC_SOURCES || !(m->s.plic_enable[context] >> source & 1)) return;
    m->s.plic_claimed &= ~(1u << source);
    m->s.plic_pending |= m->s.plic_level & (1u << source);
}

bool plic_load(machine *m, uint64_t offset, unsigned size, uint64_t *value) {
    if (size != 4) return false;
    *value = 0;
    if (offset < 4 * PLIC_SOURCES)
        *value = m->s.plic_priority[offset / 4];
    else if (offset == PENDING)
        *value = m->s.plic_pending;
    for (unsigned context = 0; context < PLIC_CONTEXTS; context++) {
        if (offset == ENABLE + context * ENABLE_STRIDE) *value = m->s.plic_enable[context];
        if (offset == CONTEXT + context * CONTEXT_STRIDE) *value = m->s.plic_threshold[context];
        if (offset == CONTEXT + context * CONTEXT_STRIDE + 4) *value = claim(m, context);
    }
    return true;
}

bool plic_store(machine *m, uint64_t offset, unsigned size, uint64_t value) {
    if (size != 4) return false;
    if (offset && offset < 4 * PLIC_SOURCES) m->s.plic_priority[offset / 4] = value & 7;
    for (unsigned context = 0; context < PLIC_CONTEXTS; context++) {
        if (offset == ENABLE + context * ENABLE_STRIDE) m->s.plic_enable[context] = (uint32_t)value & ~1u;
        if (offset == CONTEXT + context * CONTEXT_STRIDE) m->s.plic_threshold[context] = value & 7;
        if (offset == CONTEXT + context * CONTEXT_STRIDE + 4) complete(m, context, (uint32_t)value);
    }
    m->attention = true;
    return true;
}
