/* mmu.h: virtual addresses: what walks have found, and pages that need care when written. A part of
 * machine.h. */
#ifndef ORCHESTRA_MMU_H
#define ORCHESTRA_MMU_H

// tlb.c: what walks have found, for the address spaces that were used last

enum { TLB_ENTRIES = 512, FETCH_ENTRIES = TLB_ENTRIES, HOST_ENTRIES = 256, HELD = 2048, JOURNAL = 32 };
enum { BANK_U, BANK_S, BANK_SUM, BANKS, TABLE_U = BANKS, TABLE_S, TABLES = 2, SETS = BANKS + TABLES };
enum { SPACES = 5, SPACE_M = SPACES - 1 }; // the last has no translation: machine mode

typedef struct {
    uint64_t read, write; // virtual page address, or ~0
    uint64_t addend;      // host address - virtual address
    uint64_t page;        // physical page number
} tlb_entry;

typedef struct {
    uint64_t tag; // virtual page address, or ~0
    operation *operations;
} fetch_entry;

typedef struct {
    uint64_t satp;
    uint64_t used;  // when it was entered last
    uint32_t ready; // bits BANK_…, TABLE_…: sets that were ever entered
    tlb_entry tlb[BANKS][TLB_ENTRIES];
    fetch_entry fetch[TABLES][FETCH_ENTRIES];
} address_space;

// mmu.c: virtual addresses, and pages that need care when written

enum { CARE_CODE = 1, CARE_SHARED_CODE = 2, CARE_TABLE = 4, CARE_WATCHED = 8 };

typedef struct { // a physical page whose writes must be seen: it holds decoded code or page tables
    uint64_t page;
    code_page *code;
    uint64_t table_base; // virtual address that entry 0 of this page table maps
    uint8_t care, level, many_bases, used;
    uint32_t writes; // since it was last fetched from or walked
} care_entry;

typedef struct {
    struct {
        uint64_t page;
        uint8_t *host;
    } host[HOST_ENTRIES];
    care_entry *cares;
    uint32_t care_count, care_capacity;
    code_page *graveyard;
    uint32_t code_count; // pages of decoded code of the machine's own
    uint64_t leaf;       // of the last translation: the page table entry, or one that permits everything
    operation scratch[4];
    address_space *current; // of S and U
    uint64_t entered;       // counts
    struct {
        uint16_t count, index; // of TLB entries that hold a page, by its number's low bits; where, if all are
    } held[HELD];              // at one index, else HELD_AT_MANY
    uint32_t occupied[TLB_ENTRIES]; // bit space * SETS + set: which sets have an entry at this index
    uint16_t within[3][1024];       // how many entries are for a page, 2 MiB, 1 GiB, by a hash of its number
    uint16_t journal_count, journal[JOURNAL]; // the first indices that were occupied, to look at no more
    address_space spaces[SPACES];
} engine;

bool mmu_load(machine *m, uint64_t address, unsigned size, uint64_t *value);
int mmu_store(machine *m, uint64_t address, unsigned size, uint64_t value);
bool mmu_amo_load(machine *m, uint64_t address, unsigned size, uint64_t *value);
bool mmu_reserve(machine *m, uint64_t address, unsigned size, uint64_t *value);
int mmu_store_conditional(machine *m, uint64_t address, unsigned size, uint64_t value, bool *stored);
operation *mmu_fetch(machine *m, uint64_t pc);              // NULL: trap
bool mmu_fetch_raw(machine *m, uint64_t pc, uint32_t *raw); // false: trap
bool mmu_debug_translate(machine *m, uint64_t address, uint64_t *physical);
bool mmu_manage(machine *m, uint64_t address);       // may a cache block be managed?
tlb_entry *tlb_bank(machine *m, unsigned privilege); // for data
fetch_entry *tlb_fetch(machine *m);
void tlb_fetch_fill(machine *m, uint64_t pc, operation *operations);
tlb_entry *tlb_entry_for(machine *m, tlb_entry *bank, uint64_t address, uint64_t page, const uint8_t *host);
void tlb_flush(engine *e);
void tlb_forget_code(engine *e, const operation *operations);
void tlb_forget_page(engine *e, uint64_t page, bool reads);
void tlb_forget_root(engine *e, uint64_t page);
bool tlb_forget_range(engine *e, uint64_t root, uint64_t start, unsigned level); // true: code is among it
tlb_entry *mmu_bank(machine *m);
bool mmu_same_roots(machine *m, uint64_t one_satp, uint64_t other_satp, bool same[512]);
uint8_t *mmu_own(machine *m, uint64_t page, bool *leave); // for writing the whole page; NULL: out of memory
void mmu_forget(machine *m, uint64_t page);               // what was decoded or walked from it
void mmu_flush(machine *m);
void mmu_flush_writes(machine *m);
void engine_flush(machine *m);
bool engine_open(machine *m);
void engine_close(machine *m);
enum { STORE_DONE, STORE_LEAVE, STORE_TRAP }; // LEAVE: done, but the block must end here

#endif
