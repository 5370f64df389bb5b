/* tlb.c: TLBs and fetch tables, one set for each of the address spaces that a machine used last.
 *
 * They need not be flushed when satp changes: what is in them is true as long as the page tables are as they
 * were, and mmu.c sees every change of those. A space is used by the value of satp that filled it. Which sets
 * have something at an index is known by a bit each, so that a change of a page table looks at few entries.
 */
#include "machine.h"

static const uint64_t NONE = ~0ull;

enum { HELD_AT_MANY = 0xffff };

static uint32_t bit_of(size_t space, unsigned set) { return 1u << (space * SETS + set); }

static const uint32_t EVERY_SET = (1u << SETS) - 1;
static const uint32_t ALL_TLBS = (1u << BANKS) - 1; // of one space
static const uint32_t TRANSLATED = (1u << SPACE_M * SETS) - 1;

static uint32_t in_every_space(uint32_t sets) {
    uint32_t all = 0;
    for (unsigned space = 0; space < SPACES; space++) all |= sets << space * SETS;
    return all;
}

static uint64_t index_of(uint64_t address) { return address >> PAGE_SHIFT & (TLB_ENTRIES - 1); }

static void occupy(engine *e, uint64_t index, uint32_t bit) {
    if (!e->occupied[index]) {
        if (e->journal_count < JOURNAL) e->journal[e->journal_count] = (uint16_t)index;
        if (e->journal_count <= JOURNAL) e->journal_count++;
    }
    e->occupied[index] |= bit;
}

static void hold(engine *e, uint64_t page, uint64_t index) {
    uint16_t count = e->held[page % HELD].count++;
    if (!count)
        e->held[page % HELD].index = (uint16_t)index;
    else if (e->held[page % HELD].index != index)
        e->held[page % HELD].index = HELD_AT_MANY;
}

// How many entries there are for what a table's entry maps at this level, and perhaps for other addresses.
static uint16_t *entries_within(engine *e, uint64_t address, unsigned level) {
    uint64_t hash = (address >> (PAGE_SHIFT + 9 * level)) * 0x9e3779b97f4a7c15ull;
    return &e->within[level][hash >> 54];
}

static void count(engine *e, uint64_t address, int change) {
    for (unsigned level = 0; level < 3; level++) *entries_within(e, address, level) += (uint16_t)change;
}

static tlb_entry *tlb_at(engine *e, unsigned bit, uint64_t index) {
    return &e->spaces[bit / SETS].tlb[bit % SETS][index];
}

static fetch_entry *fetch_at(engine *e, unsigned bit, uint64_t index) {
    return &e->spaces[bit / SETS].fetch[bit % SETS - TABLE_U][index];
}

static void let_go(engine *e, unsigned bit, uint64_t index) {
    e->occupied[index] &= ~(1u << bit);
    if (bit % SETS < BANKS) {
        tlb_entry *entry = tlb_at(e, bit, index);
        count(e, entry->read & entry->write, -1);
        e->held[entry->page % HELD].count--;
        *entry = (tlb_entry){NONE, NONE, NONE, NONE};
    } else {
        count(e, fetch_at(e, bit, index)->tag, -1);
        fetch_at(e, bit, index)->tag = NONE;
    }
}

// For each entry of these sets, at one index.
#define EACH_AT(e, index, sets, bit)                                                                         \
    for (uint32_t left_ = (e)->occupied[index] & (sets), bit;                                                \
         left_ && (bit = (uint32_t)__builtin_ctz(left_), true); left_ &= left_ - 1)

// The n-th of the indices that may be occupied.
static unsigned occupied_count(const engine *e) {
    return e->journal_count <= JOURNAL ? e->journal_count : TLB_ENTRIES;
}

static uint64_t occupied_index(const engine *e, unsigned n) {
    return e->journal_count <= JOURNAL ? e->journal[n] : n;
}

#define EACH_INDEX(e, index)                                                                                 \
    for (uint64_t n_ = 0, end_ = occupied_count(e), index;                                                   \
         n_ < end_ && (index = occupied_index(e, (unsigned)n_), true); n_++)

static void clear(engine *e, uint32_t sets) {
    EACH_INDEX(e, index) EACH_AT(e, index, sets, bit) let_go(e, bit, index);
}

void tlb_flush(engine *e) {
    clear(e, ~0u);
    e->journal_count = 0;
}

static void make_ready(address_space *space, unsigned set) {
    if (likely(space->ready >> set & 1)) return;
    space->ready |= 1u << set;
    if (set < BANKS)
        memset(space->tlb[set], 0xff, sizeof space->tlb[set]);
    else
        memset(space->fetch[set - TABLE_U], 0xff, sizeof space->fetch[0]);
}

// What the kernel maps, most spaces share: take over what the same entries of the root have led to.
static void inherit(machine *m, size_t to, size_t from) {
    engine *e = m->engine;
    const uint32_t sets = 1u << BANK_S | 1u << BANK_SUM | 1u << TABLE_S;
    bool same[512];
    if (!mmu_same_roots(m, e->spaces[from].satp, e->spaces[to].satp, same)) return;
    for (unsigned set = 0; set < SETS; set++)
        if (sets >> set & 1) make_ready(&e->spaces[to], set);
    EACH_INDEX(e, index) EACH_AT(e, index, sets << from * SETS, bit) {
        unsigned set = bit % SETS, copy = (unsigned)to * SETS + set;
        const tlb_entry *entry = set < BANKS ? tlb_at(e, bit, index) : NULL;
        // of read and write, one may be NONE
        uint64_t tag = entry ? entry->read & entry->write : fetch_at(e, bit, index)->tag;
        if (tag == NONE || !same[tag >> 30 & 511]) continue;
        e->occupied[index] |= 1u << copy;
        count(e, tag, 1);
        if (entry) {
            *tlb_at(e, copy, index) = *entry;
            hold(e, entry->page, index);
        } else {
            *fetch_at(e, copy, index) = *fetch_at(e, bit, index);
        }
    }
}

static address_space *enter(machine *m) {
    engine *e = m->engine;
    const address_space *before = e->current;
    size_t found = 0;
    for (size_t i = 0; i < SPACE_M; i++) {
        if (e->spaces[i].satp == m->s.satp) {
            found = i;
            break;
        }
        if (e->spaces[i].used < e->spaces[found].used) found = i;
    }
    address_space *space = &e->spaces[found];
    if (space->satp != m->s.satp) {
        clear(e, EVERY_SET << found * SETS);
        space->satp = m->s.satp;
        if (before && before != space) inherit(m, found, (size_t)(before - e->spaces));
    }
    space->used = ++e->entered;
    return e->current = space;
}

static address_space *space_of(machine *m, unsigned privilege) {
    engine *e = m->engine;
    if (privilege == PRIVILEGE_M) return &e->spaces[SPACE_M];
    return likely(e->current && e->current->satp == m->s.satp) ? e->current : enter(m);
}

tlb_entry *tlb_bank(machine *m, unsigned privilege) {
    address_space *space = space_of(m, privilege);
    unsigned bank = privilege != PRIVILEGE_S ? BANK_U : m->s.mstatus & MSTATUS_SUM ? BANK_SUM : BANK_S;
    make_ready(space, bank);
    return space->tlb[bank];
}

fetch_entry *tlb_fetch(machine *m) {
    address_space *space = space_of(m, m->s.privilege);
    unsigned table = m->s.privilege == PRIVILEGE_S;
    make_ready(space, TABLE_U + table);
    return space->fetch[table];
}

void tlb_fetch_fill(machine *m, uint64_t pc, operation *operations) {
    engine *e = m->engine;
    uint64_t index = index_of(pc);
    fetch_entry *entry = &tlb_fetch(m)[index];
    if (entry->tag != NONE) count(e, entry->tag, -1);
    count(e, pc, 1);
    *entry = (fetch_entry){pc & ~4095ull, operations};
    size_t space = (size_t)(space_of(m, m->s.privilege) - e->spaces);
    occupy(e, index, bit_of(space, m->s.privilege == PRIVILEGE_S ? TABLE_S : TABLE_U));
}

// The entry for an address, with nothing permitted yet unless it is there already.
tlb_entry *tlb_entry_for(machine *m, tlb_entry *bank, uint64_t address, uint64_t page, const uint8_t *host) {
    engine *e = m->engine;
    uint64_t tag = address & ~4095ull, addend = (uintptr_t)host - tag, index = index_of(address);
    tlb_entry *entry = &bank[index];
    if (entry->page == page && entry->addend == addend && (entry->read == tag || entry->write == tag))
        return entry;
    size_t space = (size_t)((uint8_t *)bank - (uint8_t *)e->spaces) / sizeof *e->spaces;
    if (entry->page != NONE) {
        count(e, entry->read & entry->write, -1);
        e->held[entry->page % HELD].count--;
    }
    count(e, tag, 1);
    hold(e, page, index);
    occupy(e, index, bit_of(space, (unsigned)((bank - e->spaces[space].tlb[0]) / TLB_ENTRIES)));
    *entry = (tlb_entry){NONE, NONE, addend, page};
    return entry;
}

// Nobody finds this decoded code any more.
void tlb_forget_code(engine *e, const operation *operations) {
    const uint32_t sets = in_every_space(EVERY_SET & ~ALL_TLBS);
    EACH_INDEX(e, index) EACH_AT(e, index, sets, bit) {
        if (fetch_at(e, bit, index)->operations == operations) let_go(e, bit, index);
    }
}

static void forget_page_at(engine *e, uint64_t index, uint64_t page, bool reads) {
    EACH_AT(e, index, in_every_space(ALL_TLBS), bit) {
        tlb_entry *entry = tlb_at(e, bit, index);
        if (entry->page != page) continue;
        if (reads || entry->read == NONE)
            let_go(e, bit, index);
        else
            entry->write = NONE;
    }
}

// No store to this physical page hits any more, and no load if `reads`.
void tlb_forget_page(engine *e, uint64_t page, bool reads) {
    if (!e->held[page % HELD].count) return;
    uint64_t only = e->held[page % HELD].index;
    if (only != HELD_AT_MANY)
        forget_page_at(e, only, page, reads);
    else
        EACH_INDEX(e, index) forget_page_at(e, index, page, reads);
}

static uint32_t sets_below(const engine *e, uint64_t root) {
    uint32_t sets = 0;
    for (unsigned i = 0; i < SPACE_M; i++) {
        uint64_t satp = e->spaces[i].satp;
        if (satp >> 60 && (satp & 0xfffffffffff) == root) sets |= EVERY_SET << i * SETS;
    }
    return sets;
}

// Nothing is known any more of what an entry of a table of this level maps, from `start` on: in the spaces
// with this root, or in all that have translation when it is NONE. Was code among it?
bool tlb_forget_range(engine *e, uint64_t root, uint64_t start, unsigned level) {
    unsigned shift = PAGE_SHIFT + 9 * level;
    uint64_t pages = 1ull << (shift - PAGE_SHIFT), count = pages < TLB_ENTRIES ? pages : TLB_ENTRIES;
    uint64_t first = index_of(start) & -count;
    bool code = false;
    if (!*entries_within(e, start, level)) return false;
    uint32_t sets = root == NONE ? TRANSLATED : sets_below(e, root);
    if (!sets) return false;
    for (uint64_t index = first; index < first + count; index++) {
        EACH_AT(e, index, sets, bit) {
            bool tlb = bit % SETS < BANKS;
            uint64_t tag = tlb ? tlb_at(e, bit, index)->read : fetch_at(e, bit, index)->tag;
            uint64_t other = tlb ? tlb_at(e, bit, index)->write : tag;
            if ((tag ^ start) >> shift && (other ^ start) >> shift) continue;
            let_go(e, bit, index);
            code |= !tlb;
        }
    }
    return code;
}

// Nothing is known any more of the space whose root this page is.
void tlb_forget_root(engine *e, uint64_t page) {
    for (unsigned i = 0; i < SPACE_M; i++) {
        address_space *space = &e->spaces[i];
        if (!(space->satp >> 60) || (space->satp & 0xfffffffffff) != page) continue;
        clear(e, EVERY_SET << i * SETS);
        space->satp = NONE;
    }
}
