/* tlb.c: TLBs and fetch tables, one set for each of the address spaces that a machine used last.
 *
 * They need not be flushed when satp changes: what is in them is true as long as the page tables are as they
 * were, and mmu.c sees every change of those. A set is used by the value of satp that filled it.
 */
#include "machine.h"

static const uint64_t NONE = ~0ull;

static void note(address_space *space, unsigned which, uint64_t index) {
    uint16_t *count = &space->journal[which].count;
    if (*count < JOURNAL) space->journal[which].index[*count] = (uint16_t)index;
    if (*count <= JOURNAL) ++*count;
    space->filled |= (uint8_t)(1 << which);
}

static void let_go(engine *e, tlb_entry *entry) {
    if (entry->page != NONE) e->held[entry->page % HELD]--;
    *entry = (tlb_entry){NONE, NONE, NONE, NONE};
}

static void clear(engine *e, address_space *space) {
    for (unsigned which = 0; which < BANKS + TABLES; which++) {
        uint16_t count = space->journal[which].count;
        bool few = count <= JOURNAL, tlb = which < BANKS;
        if (!(space->filled >> which & 1)) continue;
        for (unsigned i = 0; i < (few ? count : tlb ? TLB_ENTRIES : 0); i++) {
            unsigned index = few ? space->journal[which].index[i] : i;
            if (tlb)
                let_go(e, &space->tlb[which][index]);
            else
                space->fetch[which - TABLE_U][index].tag = NONE;
        }
        if (!few && !tlb) memset(space->fetch[which - TABLE_U], 0xff, sizeof space->fetch[0]);
        space->journal[which].count = 0;
    }
    space->filled = 0;
}

// What the kernel maps, most spaces share: take over what the same entries of the root have led to.
static void inherit(machine *m, address_space *to, const address_space *from) {
    enum { S_BANKS = 1 << BANK_S | 1 << BANK_SUM, ALL = S_BANKS | 1 << (TABLE_U + 1) };
    engine *e = m->engine;
    bool same[512];
    if (!mmu_same_roots(m, from->satp, to->satp, same)) return;
    for (unsigned bank = BANK_S; bank <= BANK_SUM; bank++) {
        if (!(from->filled >> bank & 1)) continue;
        memcpy(to->tlb[bank], from->tlb[bank], sizeof to->tlb[bank]);
        for (tlb_entry *entry = to->tlb[bank]; entry < to->tlb[bank] + TLB_ENTRIES; entry++) {
            uint64_t tag = entry->read & entry->write; // one may be NONE
            if (tag != NONE && same[tag >> 30 & 511])
                e->held[entry->page % HELD]++;
            else
                *entry = (tlb_entry){NONE, NONE, NONE, NONE};
        }
    }
    if (from->filled >> (TABLE_U + 1) & 1) {
        memcpy(to->fetch[1], from->fetch[1], sizeof to->fetch[1]);
        for (fetch_entry *entry = to->fetch[1]; entry < to->fetch[1] + FETCH_ENTRIES; entry++)
            if (!same[entry->tag >> 30 & 511]) entry->tag = NONE;
    }
    to->filled = from->filled & ALL;
    to->ready |= to->filled;
    for (unsigned which = 0; which < BANKS + TABLES; which++)
        if (to->filled >> which & 1) to->journal[which] = from->journal[which];
}

static address_space *enter(machine *m) {
    engine *e = m->engine;
    const address_space *before = e->current;
    address_space *found = &e->spaces[0];
    for (address_space *space = found; space < &e->spaces[SPACE_M]; space++) {
        if (space->satp == m->s.satp) {
            found = space;
            break;
        }
        if (space->used < found->used) found = space;
    }
    if (found->satp != m->s.satp) {
        clear(e, found);
        found->satp = m->s.satp;
        if (before && before != found) inherit(m, found, before);
    }
    found->used = ++e->entered;
    return e->current = found;
}

static address_space *space_of(machine *m, unsigned privilege) {
    engine *e = m->engine;
    if (privilege == PRIVILEGE_M) return &e->spaces[SPACE_M];
    return likely(e->current && e->current->satp == m->s.satp) ? e->current : enter(m);
}

tlb_entry *tlb_bank(machine *m, unsigned privilege) {
    address_space *space = space_of(m, privilege);
    unsigned bank = privilege != PRIVILEGE_S ? BANK_U : m->s.mstatus & MSTATUS_SUM ? BANK_SUM : BANK_S;
    if (unlikely(!(space->ready >> bank & 1))) {
        memset(space->tlb[bank], 0xff, sizeof space->tlb[bank]);
        space->ready |= (uint8_t)(1 << bank);
    }
    return space->tlb[bank];
}

fetch_entry *tlb_fetch(machine *m) {
    address_space *space = space_of(m, m->s.privilege);
    unsigned table = m->s.privilege == PRIVILEGE_S;
    if (unlikely(!(space->ready >> (TABLE_U + table) & 1))) {
        memset(space->fetch[table], 0xff, sizeof space->fetch[table]);
        space->ready |= (uint8_t)(1 << (TABLE_U + table));
    }
    return space->fetch[table];
}

fetch_entry *tlb_fetch_for(machine *m, uint64_t pc) {
    fetch_entry *entry = &tlb_fetch(m)[pc >> PAGE_SHIFT & (FETCH_ENTRIES - 1)];
    unsigned table = m->s.privilege == PRIVILEGE_S;
    address_space *space = space_of(m, m->s.privilege);
    note(space, TABLE_U + table, (uint64_t)(entry - space->fetch[table]));
    return entry;
}

// The entry for an address, with nothing permitted yet unless it is there already.
tlb_entry *tlb_entry_for(machine *m, tlb_entry *bank, uint64_t address, uint64_t page, const uint8_t *host) {
    engine *e = m->engine;
    uint64_t tag = address & ~4095ull, addend = (uintptr_t)host - tag;
    tlb_entry *entry = &bank[address >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
    address_space *space = &e->spaces[(size_t)((uint8_t *)bank - (uint8_t *)e->spaces) / sizeof *space];
    if (entry->page == page && entry->addend == addend && (entry->read == tag || entry->write == tag))
        return entry;
    if (entry->page != NONE) e->held[entry->page % HELD]--;
    e->held[page % HELD]++;
    note(space, (unsigned)((bank - space->tlb[0]) / TLB_ENTRIES), (uint64_t)(entry - bank));
    *entry = (tlb_entry){NONE, NONE, addend, page};
    return entry;
}

void tlb_flush(engine *e) {
    for (unsigned i = 0; i < SPACES; i++)
        if (e->spaces[i].filled) clear(e, &e->spaces[i]);
}

// Nobody finds this decoded code any more.
void tlb_forget_code(engine *e, const operation *operations) {
    for (address_space *space = e->spaces; space < &e->spaces[SPACES]; space++)
        for (unsigned table = 0; table < TABLES; table++) {
            if (!(space->filled >> (TABLE_U + table) & 1)) continue;
            for (fetch_entry *entry = space->fetch[table]; entry < space->fetch[table] + FETCH_ENTRIES;
                 entry++)
                if (entry->operations == operations) entry->tag = NONE;
        }
}

// No store to this physical page hits any more, and no load if `reads`.
void tlb_forget_page(engine *e, uint64_t page, bool reads) {
    if (!e->held[page % HELD]) return;
    for (unsigned i = 0; i < SPACES; i++)
        for (unsigned bank = 0; bank < BANKS; bank++) {
            if (!(e->spaces[i].filled >> bank & 1)) continue;
            tlb_entry *entry = e->spaces[i].tlb[bank];
            for (unsigned n = 0; n < TLB_ENTRIES; n++, entry++)
                if (entry->page == page) {
                    entry->write = NONE;
                    if (reads) entry->read = NONE;
                }
        }
}

static void forget_tags(tlb_entry *entry, uint64_t start, unsigned shift) {
    if ((entry->read ^ start) >> shift && (entry->write ^ start) >> shift) return;
    entry->read = entry->write = NONE;
}

// Nothing is known any more of the virtual addresses from `start` on that share its bits above `shift`, in
// any space that has translation.
void tlb_forget_range(engine *e, uint64_t start, unsigned shift) {
    uint64_t pages = 1ull << (shift - PAGE_SHIFT), first = start >> PAGE_SHIFT;
    unsigned entries = pages < TLB_ENTRIES ? (unsigned)pages : TLB_ENTRIES;
    unsigned fetches = pages < FETCH_ENTRIES ? (unsigned)pages : FETCH_ENTRIES;
    for (address_space *space = e->spaces; space < &e->spaces[SPACE_M]; space++) {
        for (unsigned bank = 0; bank < BANKS; bank++) {
            if (!(space->filled >> bank & 1)) continue;
            tlb_entry *entry = &space->tlb[bank][first & (TLB_ENTRIES - 1) & -(uint64_t)entries];
            for (unsigned n = entries; n-- > 0; entry++) forget_tags(entry, start, shift);
        }
        for (unsigned table = 0; table < TABLES; table++) {
            if (!(space->filled >> (TABLE_U + table) & 1)) continue;
            fetch_entry *entry = &space->fetch[table][first & (FETCH_ENTRIES - 1) & -(uint64_t)fetches];
            for (unsigned n = fetches; n-- > 0; entry++)
                if (!((entry->tag ^ start) >> shift)) entry->tag = NONE;
        }
    }
}

// Nothing is known any more of the space whose root this page is.
void tlb_forget_root(engine *e, uint64_t page) {
    for (address_space *space = e->spaces; space < &e->spaces[SPACE_M]; space++) {
        if (!(space->satp >> 60) || (space->satp & 0xfffffffffff) != page) continue;
        clear(e, space);
        space->satp = NONE;
    }
}
