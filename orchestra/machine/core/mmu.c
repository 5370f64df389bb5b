/* mmu.c: virtual addresses, by way of TLBs that guests cannot tell from none.
 *
 * Pages that were walked as page tables are never written through the TLB: a store to them takes the slow
 * path and drops what was derived from the entry it changes. So translations are always coherent, sfence.vma
 * has nothing to do, and a machine that continues with a cold TLB (another thread, a snapshot, a fork) sees
 * what it would have seen. Pages that hold decoded code are written with the same care.
 */
#include "machine.h"

enum { PTE_V = 1, PTE_R = 2, PTE_W = 4, PTE_X = 8, PTE_U = 16, PTE_A = 64, PTE_D = 128 };
// stores to a page in a row after which nobody seems to use it as code, or as table (of pages), any more
enum { CARE_WRITES = 64, TABLE_WRITES = 512 };
enum { DECODED_PATIENCE = 16 }; // a new page of 48 KiB is as slow as so many other slow operations
static const uint64_t NONE = ~0ull;

static uint64_t canonical(uint64_t address) { return (uint64_t)((int64_t)(address << 25) >> 25); }

// pages that need care

static uint32_t care_slot(const engine *e, uint64_t page) {
    uint32_t mask = e->care_capacity - 1, i = (uint32_t)(page * 0x9e3779b97f4a7c15ull >> 40) & mask;
    while (e->cares[i].used && e->cares[i].page != page) i = (i + 1) & mask;
    return i;
}

static care_entry *care_find(const engine *e, uint64_t page) {
    if (!e->care_count) return NULL;
    care_entry *c = &e->cares[care_slot(e, page)];
    return c->used && c->care ? c : NULL;
}

static care_entry *care_make(engine *e, uint64_t page) {
    if (e->care_count * 2 >= e->care_capacity) {
        uint32_t capacity = e->care_capacity ? e->care_capacity * 2 : 64, old_capacity = e->care_capacity;
        care_entry *old = e->cares, *cares = calloc(capacity, sizeof *cares);
        if (!cares) return NULL;
        e->cares = cares, e->care_capacity = capacity, e->care_count = 0;
        for (uint32_t i = 0; i < old_capacity; i++)
            if (old[i].used && old[i].care) {
                cares[care_slot(e, old[i].page)] = old[i];
                e->care_count++;
            }
        free(old);
    }
    care_entry *c = &e->cares[care_slot(e, page)];
    if (!c->used) {
        *c = (care_entry){.page = page, .used = 1};
        e->care_count++;
    }
    return c;
}

static void bury(engine *e, care_entry *c) { // the interpreter may still stand in it
    if (c->code && (c->care & CARE_CODE)) {
        c->code->next = e->graveyard;
        e->graveyard = c->code;
        e->code_count--;
    }
    c->code = NULL;
    c->care &= (uint8_t) ~(CARE_CODE | CARE_SHARED_CODE);
}

void mmu_flush(machine *m) {
    if (m->engine) tlb_flush(m->engine);
}

// The machine's pages have become immutable: stores must copy them first, and others may run their code.
void mmu_flush_writes(machine *m) {
    engine *e = m->engine;
    if (!e) return;
    mmu_flush(m);
    for (uint32_t i = 0; i < e->care_capacity; i++) {
        care_entry *c = &e->cares[i];
        if (!c->used || !(c->care & CARE_CODE)) continue;
        if (memory_writable(m, c->page) || memory_in_place(m, c->page)) continue;
        code_donate(m->home, c->code);
        e->code_count--;
        c->code = NULL;
        c->care &= (uint8_t)~CARE_CODE;
    }
}

static void forget_page_mappings(engine *e, uint64_t page, bool reads) {
    tlb_forget_page(e, page, reads);
    if (reads) e->host[page % HOST_ENTRIES].page = NONE;
}

// What was walked through this table. Was code among it?
static bool forget_table(machine *m, const care_entry *table) {
    if (!table->many_bases && table->level < 2)
        return tlb_forget_range(m->engine, NONE, canonical(table->table_base), table->level + 1u);
    if (table->many_bases)
        mmu_flush(m);
    else
        tlb_forget_root(m->engine, table->page);
    return true;
}

static bool forget(machine *m, care_entry *c) {
    engine *e = m->engine;
    bool code = c->care & (CARE_CODE | CARE_SHARED_CODE);
    if (code) tlb_forget_code(e, c->code->operations);
    if (c->care & CARE_TABLE) code |= forget_table(m, c);
    bury(e, c);
    c->care &= (uint8_t)~CARE_TABLE;
    c->writes = 0;
    return code;
}

void mmu_forget(machine *m, uint64_t page) {
    care_entry *c = m->engine ? care_find(m->engine, page) : NULL;
    if (c) forget(m, c);
}

// The page for writing, with everything derived from its old place or content forgotten where it moved.
static uint8_t *own(machine *m, uint64_t page, bool *leave) {
    bool moved;
    uint8_t *host = memory_own(m, page, &moved);
    if (!host) {
        m->stop = STOP_MEMORY;
        m->attention = true;
        m->cause = CAUSE_NONE;
        return NULL;
    }
    if (moved && m->engine) {
        forget_page_mappings(m->engine, page, true);
        care_entry *c = care_find(m->engine, page);
        if (c && (c->care & (CARE_CODE | CARE_SHARED_CODE))) {
            tlb_forget_code(m->engine, c->code->operations);
            bury(m->engine, c);
            *leave = true;
        }
    }
    return host;
}

uint8_t *mmu_own(machine *m, uint64_t page, bool *leave) {
    uint8_t *host = own(m, page, leave);
    if (host) mmu_forget(m, page);
    return host;
}

static uint8_t *host_of(machine *m, uint64_t page) {
    engine *e = m->engine;
    unsigned index = page % HOST_ENTRIES;
    if (e->host[index].page != page) {
        e->host[index].host = memory_peek(m, page);
        e->host[index].page = page;
    }
    return e->host[index].host;
}

bool engine_open(machine *m) {
    if (!m->engine) {
        engine *e = pool_take_one(m->home->pool, BLOCK_ENGINE); // most of it is written when it is used
        if (!e) return false;
        memset(e, 0, offsetof(engine, spaces));
        for (unsigned i = 0; i < SPACES; i++) {
            e->spaces[i].satp = NONE;
            e->spaces[i].used = e->spaces[i].ready = 0;
        }
        m->engine = e;
        for (unsigned i = 1; i < sizeof e->scratch / sizeof *e->scratch; i++)
            e->scratch[i].handler = interpreter_handlers()[OP_STEP_DONE * 4];
        engine_flush(m);
    }
    return m->engine;
}

void engine_flush(machine *m) {
    engine *e = m->engine;
    if (!e) return;
    mmu_flush(m);
    memset(e->host, 0xff, sizeof e->host);
    for (uint32_t i = 0; i < e->care_capacity; i++)
        if (e->cares[i].used) bury(e, &e->cares[i]);
    while (e->graveyard) {
        code_page *next = e->graveyard->next;
        code_free(m->home, e->graveyard);
        e->graveyard = next;
    }
    if (e->care_capacity) memset(e->cares, 0, e->care_capacity * sizeof *e->cares);
    e->care_count = 0;
    if (m->home->watched != NONE) {
        care_entry *c = care_make(e, m->home->watched >> PAGE_SHIFT);
        if (c) c->care = CARE_WATCHED;
    }
}

void engine_close(machine *m) {
    if (!m->engine) return;
    engine_flush(m);
    free(m->engine->cares);
    pool_give_one(m->home->pool, BLOCK_ENGINE, m->engine);
    m->engine = NULL;
}

// page table walks

static unsigned data_privilege(const machine *m) {
    const state *s = &m->s;
    return s->mstatus & MSTATUS_MPRV ? s->mstatus >> 11 & 3 : s->privilege;
}

tlb_entry *mmu_bank(machine *m) { return tlb_bank(m, data_privilege(m)); }

static bool fail(machine *m, access_kind kind, bool page_fault, uint64_t address) {
    static const uint8_t causes[2][3] = {{CAUSE_LOAD_ACCESS, CAUSE_STORE_ACCESS, CAUSE_FETCH_ACCESS},
                                         {CAUSE_LOAD_PAGE, CAUSE_STORE_PAGE, CAUSE_FETCH_PAGE}};
    m->cause = causes[page_fault][kind];
    m->value = address;
    return false;
}

static const memory_range *guest_memory(const machine *m, uint64_t address, unsigned rights) {
    const memory_range *r = board_range(m->home, address);
    return r && (r->flags & RANGE_GUEST) && (r->flags & rights) == rights ? r : NULL;
}

static void watch_table(machine *m, uint64_t page, unsigned level, uint64_t base) {
    engine *e = m->engine;
    care_entry *c = care_make(e, page);
    if (!c) return;
    c->writes = 0;
    if (!(c->care & CARE_TABLE)) {
        c->care |= CARE_TABLE;
        c->level = (uint8_t)level;
        c->table_base = base;
        c->many_bases = 0;
        forget_page_mappings(e, page, false);
    } else if (c->level != level || c->table_base != base) {
        c->many_bases = 1;
    }
}

static bool permitted(const machine *m, uint64_t pte, access_kind kind, unsigned privilege) {
    uint64_t status = m->s.mstatus;
    if (pte & PTE_U) {
        if (privilege == PRIVILEGE_S && (kind == ACCESS_FETCH || !(status & MSTATUS_SUM))) return false;
    } else if (privilege == PRIVILEGE_U) {
        return false;
    }
    if (kind == ACCESS_FETCH) return pte & PTE_X;
    if (kind == ACCESS_STORE) return pte & PTE_W;
    return (pte & PTE_R) || ((status & MSTATUS_MXR) && (pte & PTE_X));
}

// Sv39. `debug` neither sets A and D nor looks at permissions.
static bool translate(machine *m, uint64_t address, access_kind kind, unsigned privilege, bool debug,
                      uint64_t *physical) {
    if (privilege == PRIVILEGE_M || !(m->s.satp >> 60)) {
        *physical = address;
        if (m->engine) m->engine->leaf = PTE_W | PTE_D;
        return true;
    }
    if (canonical(address) != address) return fail(m, kind, true, address);
    uint64_t table = (m->s.satp & 0xfffffffffffull) << PAGE_SHIFT;
    const uint64_t below_root = (1ull << 39) - 1; // the rest of an address repeats bit 38
    for (int level = 2; level >= 0; level--) {
        unsigned shift = PAGE_SHIFT + 9 * (unsigned)level;
        uint64_t place = table + (address >> shift & 511) * 8, page = table >> PAGE_SHIFT, pte;
        if (!guest_memory(m, place, RANGE_READ)) return fail(m, kind, false, address);
        if (!debug)
            watch_table(m, page, (unsigned)level, address & below_root & ~((1ull << (shift + 9)) - 1));
        memcpy(&pte, (debug ? memory_peek(m, page) : host_of(m, page)) + (place & 4095), sizeof pte);
        if (!(pte & PTE_V) || ((pte & PTE_W) && !(pte & PTE_R)) || pte >> 54)
            return fail(m, kind, true, address);
        if (!(pte & (PTE_R | PTE_X))) {
            if (pte & (PTE_A | PTE_D | PTE_U)) return fail(m, kind, true, address);
            table = (pte >> 10) << PAGE_SHIFT;
            continue;
        }
        uint64_t below = (1ull << shift) - 1, frame = (pte >> 10) << PAGE_SHIFT;
        if (frame & below & ~4095ull) return fail(m, kind, true, address);
        *physical = (frame & ~below) | (address & below);
        if (debug) return true;
        if (!permitted(m, pte, kind, privilege)) return fail(m, kind, true, address);
        m->engine->leaf = pte;
        uint64_t wanted = pte | PTE_A | (kind == ACCESS_STORE ? PTE_D : 0);
        if (wanted != pte) {
            if (!guest_memory(m, place, RANGE_WRITE)) return fail(m, kind, false, address);
            bool leave = false;
            uint8_t *host = own(m, page, &leave);
            if (!host) return false;
            care_entry *c = care_find(m->engine, page);
            if (c && (c->care & CARE_CODE)) {
                code_invalidate(m->home, c->code, place & 4095, sizeof wanted);
                leave = true;
            }
            if (leave) m->attention = true; // the block under way may lie in the table
            memcpy(host + (place & 4095), &wanted, sizeof wanted);
        }
        return true;
    }
    return fail(m, kind, true, address);
}

bool mmu_debug_translate(machine *m, uint64_t address, uint64_t *physical) {
    return translate(m, address, ACCESS_LOAD, m->s.privilege, true, physical);
}

// Which entries of the two roots are the same? From now on both are watched.
bool mmu_same_roots(machine *m, uint64_t one_satp, uint64_t other_satp, bool same[512]) {
    uint64_t one = one_satp & 0xfffffffffff, other = other_satp & 0xfffffffffff, entries[512];
    if (!(one_satp >> 60) || !(other_satp >> 60) || one_satp == NONE) return false;
    if (!guest_memory(m, one << PAGE_SHIFT, RANGE_READ) || !guest_memory(m, other << PAGE_SHIFT, RANGE_READ))
        return false;
    watch_table(m, one, 2, 0);
    watch_table(m, other, 2, 0);
    memcpy(entries, host_of(m, one), sizeof entries);
    const uint8_t *others = host_of(m, other);
    for (unsigned i = 0; i < 512; i++) same[i] = !memcmp(&entries[i], others + 8 * i, sizeof entries[i]);
    return true;
}

// loads and stores that missed the TLB

static tlb_entry *entry_for(machine *m, uint64_t address, uint64_t page, const uint8_t *host) {
    return tlb_entry_for(m, mmu_bank(m), address, page, host);
}

// After a load: stores hit as well where they would change nothing but the data.
static void fill(machine *m, uint64_t address, uint64_t physical, const uint8_t *host) {
    enum { MAY_WRITE = PTE_W | PTE_D };
    uint64_t page = physical >> PAGE_SHIFT;
    tlb_entry *entry = entry_for(m, address, page, host);
    entry->read = address & ~4095ull;
    if ((m->engine->leaf & MAY_WRITE) == MAY_WRITE && guest_memory(m, physical, RANGE_WRITE) &&
        !care_find(m->engine, page) && memory_writable(m, page))
        entry->write = entry->read;
}

static void note(machine *m, unsigned kind, uint64_t address, unsigned size, uint64_t value) {
    if (!m->trace) return;
    m->trace->memory = (uint8_t)kind, m->trace->size = (uint8_t)size;
    m->trace->address = address, m->trace->stored = value;
}

static bool crosses(uint64_t address, unsigned size) { return (address & 4095) + size > PAGE_BYTES; }

bool mmu_load(machine *m, uint64_t address, unsigned size, uint64_t *value) {
    uint64_t physical;
    *value = 0;
    if (machine_tires(m)) m->attention = true;
    if (crosses(address, size)) {
        for (unsigned i = 0; i < size; i++) {
            uint64_t byte;
            if (!mmu_load(m, address + i, 1, &byte)) return false;
            *value |= byte << (8 * i);
        }
        note(m, 1, address, size, 0);
        return true;
    }
    if (!translate(m, address, ACCESS_LOAD, data_privilege(m), false, &physical)) return false;
    if (!guest_memory(m, physical, RANGE_READ))
        return bus_load(m, physical, size, value) || fail(m, ACCESS_LOAD, false, address);
    uint8_t *host = host_of(m, physical >> PAGE_SHIFT);
    if (!m->trace) fill(m, address, physical, host);
    memcpy(value, host + (physical & 4095), size);
    note(m, 1, address, size, 0);
    return true;
}

// What this entry of a table has led to, which was valid. A table below it is likely to become other memory.
static bool forget_translation(machine *m, const care_entry *table, unsigned index, uint64_t pte) {
    if (table->many_bases) {
        mmu_flush(m);
        return true;
    }
    unsigned shift = PAGE_SHIFT + 9 * (unsigned)table->level;
    uint64_t start = table->table_base + ((uint64_t)index << shift);
    if (table->level == 2) return tlb_forget_range(m->engine, table->page, canonical(start), 2);
    care_entry *below = pte & (PTE_R | PTE_W | PTE_X) ? NULL : care_find(m->engine, pte >> 10);
    if (below && !below->many_bases && below->table_base == start) below->care &= (uint8_t)~CARE_TABLE;
    return tlb_forget_range(m->engine, NONE, canonical(start), table->level);
}

// The code under way is in the fetch table; as long as nothing goes from there, it goes on.
static int store_with_care(machine *m, care_entry *c, uint8_t *host, uint64_t physical, unsigned size,
                           uint64_t value) {
    unsigned offset = physical & 4095;
    int result = STORE_DONE;
    if (c->care & CARE_TABLE) {
        for (unsigned index = offset / 8; index <= (offset + size - 1) / 8; index++) {
            uint64_t pte;
            memcpy(&pte, host + 8 * index, sizeof pte);
            if ((pte & PTE_V) && forget_translation(m, c, index, pte)) result = STORE_LEAVE;
        }
    }
    if (c->care & CARE_CODE) {
        code_invalidate(m->home, c->code, offset, size);
        result = STORE_LEAVE;
    }
    memcpy(host + offset, &value, size);
    bool last_level = (c->care & CARE_TABLE) && c->level == 0;
    if (++c->writes > (last_level ? TABLE_WRITES : CARE_WRITES) && (c->care & (CARE_CODE | CARE_TABLE)) &&
        forget(m, c))
        result = STORE_LEAVE;
    if (c->care & CARE_WATCHED) {
        uint64_t tohost, at = m->home->watched;
        memcpy(&tohost, host + (at & 4095), sizeof tohost);
        if (tohost && physical < at + 8 && physical + size > at) {
            htif_command(m, tohost);
            result = STORE_LEAVE;
        }
    }
    return result;
}

// To one page of memory that may be written.
static int store_physical(machine *m, uint64_t physical, unsigned size, uint64_t value, uint8_t **plain) {
    bool leave = false;
    uint64_t page = physical >> PAGE_SHIFT;
    uint8_t *host = own(m, page, &leave);
    if (!host) return STORE_TRAP;
    care_entry *c = care_find(m->engine, page);
    if (c) {
        int result = store_with_care(m, c, host, physical, size, value);
        return leave ? STORE_LEAVE : result;
    }
    memcpy(host + (physical & 4095), &value, size);
    *plain = host;
    return leave ? STORE_LEAVE : STORE_DONE;
}

// Both pages are translated before either is written: the store may change what maps them.
static int store_across(machine *m, uint64_t address, uint64_t physical, unsigned size, uint64_t value) {
    uint64_t second, next = (address | 4095) + 1;
    unsigned part = (unsigned)(next - address);
    uint8_t *plain;
    if (!guest_memory(m, physical, RANGE_WRITE)) return fail(m, ACCESS_STORE, false, address), STORE_TRAP;
    if (!translate(m, next, ACCESS_STORE, data_privilege(m), false, &second)) return STORE_TRAP;
    if (!guest_memory(m, second, RANGE_WRITE)) return fail(m, ACCESS_STORE, false, next), STORE_TRAP;
    int low = store_physical(m, physical, part, value, &plain);
    if (low == STORE_TRAP) return low;
    int high = store_physical(m, second, size - part, value >> (8 * part), &plain);
    if (high == STORE_TRAP) return high;
    note(m, 2, address, size, value);
    return low == STORE_LEAVE || m->attention ? STORE_LEAVE : high;
}

int mmu_store(machine *m, uint64_t address, unsigned size, uint64_t value) {
    uint64_t physical;
    uint8_t *plain = NULL;
    if (machine_tires(m)) m->attention = true;
    if (!translate(m, address, ACCESS_STORE, data_privilege(m), false, &physical)) return STORE_TRAP;
    if (crosses(address, size)) return store_across(m, address, physical, size, value);
    if (!guest_memory(m, physical, RANGE_WRITE)) {
        fail(m, ACCESS_STORE, false, address); // unless a device gives the store up for later
        if (guest_memory(m, physical, 0) || !bus_store(m, physical, size, value)) return STORE_TRAP;
        note(m, 2, address, size, value);
        return STORE_LEAVE;
    }
    int result = store_physical(m, physical, size, value, &plain);
    if (result == STORE_TRAP) return result;
    note(m, 2, address, size, value);
    if (plain && !m->trace) {
        tlb_entry *entry = entry_for(m, address, physical >> PAGE_SHIFT, plain);
        entry->write = address & ~4095ull;
        if (guest_memory(m, physical, RANGE_READ)) entry->read = entry->write; // W comes with R
    }
    return m->attention ? STORE_LEAVE : result;
}

// atomics: only on memory, only aligned

static bool atomic_place(machine *m, uint64_t address, unsigned size, access_kind kind, uint64_t *physical) {
    if (address & (size - 1)) {
        m->cause = kind == ACCESS_LOAD ? CAUSE_LOAD_MISALIGNED : CAUSE_STORE_MISALIGNED;
        m->value = address;
        return false;
    }
    if (!translate(m, address, kind, data_privilege(m), false, physical)) return false;
    unsigned rights = kind == ACCESS_LOAD ? RANGE_READ : RANGE_READ | RANGE_WRITE;
    return guest_memory(m, *physical, rights) || fail(m, kind, false, address);
}

bool mmu_amo_load(machine *m, uint64_t address, unsigned size, uint64_t *value) {
    uint64_t physical;
    *value = 0;
    if (!atomic_place(m, address, size, ACCESS_STORE, &physical)) return false;
    memcpy(value, host_of(m, physical >> PAGE_SHIFT) + (physical & 4095), size);
    return true;
}

bool mmu_reserve(machine *m, uint64_t address, unsigned size, uint64_t *value) {
    uint64_t physical;
    *value = 0;
    if (machine_tires(m)) m->attention = true;
    if (!atomic_place(m, address, size, ACCESS_LOAD, &physical)) return false;
    memcpy(value, host_of(m, physical >> PAGE_SHIFT) + (physical & 4095), size);
    m->s.reservation = physical;
    if (!m->trace) fill(m, address, physical, host_of(m, physical >> PAGE_SHIFT));
    note(m, 1, address, size, 0);
    return true;
}

int mmu_store_conditional(machine *m, uint64_t address, unsigned size, uint64_t value, bool *stored) {
    uint64_t physical;
    if (!atomic_place(m, address, size, ACCESS_STORE, &physical)) return STORE_TRAP;
    *stored = m->s.reservation == physical;
    int result = *stored ? mmu_store(m, address, size, value) : STORE_DONE;
    if (result == STORE_TRAP) return result;
    m->s.reservation = NONE;
    return m->attention ? STORE_LEAVE : result;
}

// A block that may be loaded may be managed; what is wrong with it is wrong with a store.
bool mmu_manage(machine *m, uint64_t address) {
    uint64_t physical;
    if (translate(m, address, ACCESS_LOAD, data_privilege(m), false, &physical))
        return guest_memory(m, physical, RANGE_READ) || fail(m, ACCESS_STORE, false, address);
    if (m->cause == CAUSE_LOAD_PAGE) m->cause = CAUSE_STORE_PAGE;
    if (m->cause == CAUSE_LOAD_ACCESS) m->cause = CAUSE_STORE_ACCESS;
    return false;
}

// instruction fetch

static uint8_t *fetch_host(machine *m, uint64_t pc, uint64_t *page) {
    uint64_t physical;
    if (!translate(m, pc, ACCESS_FETCH, m->s.privilege, false, &physical)) return NULL;
    if (!guest_memory(m, physical, RANGE_READ | RANGE_EXECUTE)) {
        fail(m, ACCESS_FETCH, false, pc);
        return NULL;
    }
    *page = physical >> PAGE_SHIFT;
    return host_of(m, *page);
}

// The pages of its own are as many as they may be: begin anew.
static void forget_own_code(machine *m) {
    engine *e = m->engine;
    mmu_flush(m);
    for (uint32_t i = 0; i < e->care_capacity; i++)
        if (e->cares[i].used) bury(e, &e->cares[i]);
    m->patience = 0; // they are free when the run loop was there
}

static code_page *decoded(machine *m, care_entry *c, uint8_t *host) {
    engine *e = m->engine;
    bool changes = memory_writable(m, c->page) || memory_in_place(m, c->page);
    if (!changes && (c->code = code_shared(m->home, host))) {
        c->care |= CARE_SHARED_CODE;
        return c->code;
    }
    if (e->code_count >= OWN_CODE_PAGES) forget_own_code(m);
    if (!(c->code = code_new(m->home, host))) return NULL;
    m->patience -= DECODED_PATIENCE;
    c->care |= CARE_CODE;
    e->code_count++;
    forget_page_mappings(e, c->page, false);
    return c->code;
}

operation *mmu_fetch(machine *m, uint64_t pc) {
    engine *e = m->engine;
    uint64_t page;
    uint8_t *host = fetch_host(m, pc, &page);
    if (!host) return NULL;
    care_entry *c = care_make(e, page);
    if (!c) goto out_of_memory;
    if (!c->code && !decoded(m, c, host)) goto out_of_memory;
    c->writes = 0;
    if (c->code->hot) hot_renew(m->home->cache, c->code);
    tlb_fetch_fill(m, pc, c->code->operations);
    return c->code->operations + (pc & 4095) / 2;
out_of_memory:
    m->stop = STOP_MEMORY;
    m->attention = true;
    m->cause = CAUSE_NONE;
    return NULL;
}

// Of a page that was fetched from already, it is known where it is.
static const uint8_t *fetched_host(machine *m, uint64_t pc) {
    const fetch_entry *f = &tlb_fetch(m)[pc >> PAGE_SHIFT & (FETCH_ENTRIES - 1)];
    uint64_t page;
    if (f->tag != (pc & ~4095ull)) return fetch_host(m, pc, &page);
    return ((const code_page *)((const char *)f->operations - offsetof(code_page, operations)))->host;
}

bool mmu_fetch_raw(machine *m, uint64_t pc, uint32_t *raw) {
    uint16_t half;
    const uint8_t *host = fetched_host(m, pc);
    if (!host) return false;
    memcpy(&half, host + (pc & 4095), sizeof half);
    *raw = half;
    if ((half & 3) != 3) return true;
    if ((pc & 4095) == PAGE_BYTES - 2 && !(host = fetched_host(m, pc + 2))) return false;
    memcpy(&half, host + ((pc + 2) & 4095), sizeof half);
    *raw |= (uint32_t)half << 16;
    return true;
}
