/* machine.h: everything the core's files share: one machine's state, its memory, its engine. */
#ifndef ORCHESTRA_MACHINE_H
#define ORCHESTRA_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "float_fast.h"

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

enum { PAGE_SHIFT = 12, PAGE_BYTES = 4096, PAGE_SLOTS = PAGE_BYTES / 2 };
enum { PRIVILEGE_U = 0, PRIVILEGE_S = 1, PRIVILEGE_M = 3 };
typedef enum { ACCESS_LOAD, ACCESS_STORE, ACCESS_FETCH } access_kind;

typedef struct machine machine;
typedef struct board board;
typedef struct layer layer;
typedef struct arena arena;
typedef struct node node;
typedef struct code_page code_page;
typedef struct codecache codecache;
typedef struct hot_page hot_page;

// Held for a moment only, and never while memory is touched that may fault.
static inline void spin_lock(uint32_t *lock) {
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(lock, __ATOMIC_RELAXED)) {
        }
}

static inline void spin_unlock(uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }

// state.c: all of a machine except its memory; a snapshot stores these bytes as they are (little endian)

enum { VIRTIO_SLOTS = 16, VIRTIO_QUEUES = 2, UART_FIFO = 64, PLIC_SOURCES = 32, PLIC_CONTEXTS = 2 };

typedef struct {
    uint64_t descriptors, driver, device; // physical addresses
    uint16_t size, ready, next_available, reserved;
} virtqueue;

typedef struct {
    uint32_t status, device_features_select, driver_features_select, queue_select;
    uint64_t driver_features;
    uint32_t interrupt_status, reserved;
    uint64_t random; // rng: the generator's state
    virtqueue queues[VIRTIO_QUEUES];
} virtio_state;

typedef struct {                                // what a virtio device is doing, while the hart stands still
    uint64_t until;                             // cycle: when its last step is over
    uint64_t table, address;                    // of descriptors; of what is left of the segment at hand
    uint64_t position;                          // block: in the drive, bytes
    uint32_t table_length, left, type, written; // descriptors; bytes; block: the request's; bytes
    uint16_t available;                         // the driver's index, at the notification
    uint16_t head, next, flags;                 // of the chain; of the descriptor at hand
    uint16_t count, reserved;                   // descriptors met, this one included
    uint8_t phase, slot, queue, status;         // all zeros: no device is busy
} virtio_work;

typedef struct {
    uint64_t x[33]; // x[32] takes the writes to x0; it is 0 whenever the machine stands
    uint64_t f[32]; // NaN-boxed
    uint64_t pc;
    uint64_t cycle;           // the machine's clock: every instruction, trap and skipped idle cycle counts
    uint64_t mcycle_offset;   // mcycle = cycle + mcycle_offset
    uint64_t minstret_offset; // minstret = cycle + minstret_offset
    uint64_t mtime_offset;    // mtime = cycle / cycles_per_tick + mtime_offset
    uint64_t mstatus, medeleg, mideleg, mie, mip, mtvec, mscratch, mepc, mcause, mtval, mcounteren, menvcfg;
    uint64_t stvec, sscratch, sepc, scause, stval, satp, scounteren, senvcfg;
    uint64_t reservation; // physical address of the last LR, or ~0
    uint64_t mtimecmp;
    uint64_t tohost, fromhost, ihalt, iconsole, iyield;
    uint64_t stop_data; // of the halt or yield the machine stands at
    uint32_t fflags, frm;
    uint32_t plic_priority[PLIC_SOURCES];
    uint32_t plic_pending, plic_claimed, plic_level;
    uint32_t plic_enable[PLIC_CONTEXTS], plic_threshold[PLIC_CONTEXTS];
    uint32_t stop_reason;
    uint8_t privilege, waiting, halted, yielded;
    uint8_t msip;
    uint8_t uart_ier, uart_lcr, uart_mcr, uart_scratch, uart_dll, uart_dlm, uart_fcr;
    uint8_t uart_count, uart_thr_interrupt;
    uint8_t uart_reserved[2];
    uint8_t uart_fifo[UART_FIFO];
    uint64_t stimecmp;
    virtio_work work;
    uint64_t reserved[86];
    virtio_state virtio[VIRTIO_SLOTS];
    uint8_t padding[640];
} state;

_Static_assert(sizeof(virtqueue) == 32 && sizeof(virtio_state) == 104 && sizeof(virtio_work) == 64,
               "virtio state layout");
_Static_assert(offsetof(state, f) == 264 && offsetof(state, pc) == 520 && offsetof(state, mstatus) == 560,
               "registers stay where snapshots have them");
_Static_assert(offsetof(state, virtio) == 1792 && sizeof(state) == PAGE_BYTES, "the state fills one page");

// guest memory as a value: sorted extents of mapped files below a persistent radix tree of pages

enum { NODE_BITS = 6, NODE_CHILDREN = 1 << NODE_BITS };
enum { RANGE_READ = 1, RANGE_WRITE = 2, RANGE_EXECUTE = 4, RANGE_GUEST = 8 };
enum { EXTENT_SHARED = 1 }; // stores go to the extent itself (a flat, writable file)

typedef struct {
    uint64_t start, length; // bytes, page granular
    uint32_t flags, reserved;
} memory_range;

typedef struct {
    uint64_t page, count;
    uint8_t *host;
    uint32_t flags, reserved;
} memory_extent;

typedef struct {
    uint8_t *host;
    uint64_t first, count; // slots
} arena_chunk;

typedef void *(*arena_grow)(void *context, uint64_t wanted_bytes, uint64_t *got_bytes);

// pool.c: blocks of a few sizes, for all machines of the process

typedef enum {
    BLOCK_PAGE,
    BLOCK_NODE,
    BLOCK_LAYER,
    BLOCK_CODE,
    BLOCK_ENGINE,
    BLOCK_HASHES,
    BLOCK_KINDS
} block_kind;
typedef void *(*block_take)(uint64_t bytes); // zeros, aligned to their number
typedef void (*block_give)(void *start, uint64_t bytes);

typedef struct chunk chunk;

typedef struct {                         // of one size
    uint32_t lock, block, blocks, first; // bytes of a block, how many a chunk has, where they begin
    uint64_t chunk;                      // bytes
    chunk *list, *last;
    uint64_t used, warm, chunks;
    block_take take;    // NULL: from the C heap
    block_give give;    // a whole chunk
    block_give discard; // what some pages hold; NULL: that cannot be
} __attribute__((aligned(64))) shelf;

typedef struct {
    shelf shelves[BLOCK_KINDS];
    uint32_t lock;
    board *boards;
} pool;

pool *pool_new(block_take take, block_give give, block_give discard);
unsigned pool_take(pool *p, block_kind kind, void **blocks, unsigned count);
void *pool_take_one(pool *p, block_kind kind);
void pool_give(pool *p, block_kind kind, void *const *blocks, unsigned count);
void pool_give_one(pool *p, block_kind kind, void *block);
void pool_count(pool *p, unsigned kind, uint64_t counts[3]);
void pool_hold(void *context, int hold);
void pool_add_board(pool *p, board *b);
void pool_remove_board(board *b);

// arena.c: pages in a machine's own file; slot n is the file's n-th page after its header

struct arena {
    arena *next; // of the board's; its lock covers all of this
    arena_grow grow;
    void *context;
    arena_chunk *chunks; // in the order of their addresses
    uint64_t chunk_count, slots;
    uint8_t *fresh; // pages of the last chunk that were never taken
    uint64_t fresh_count;
    uint8_t **free; // pages that were given back
    uint64_t free_count;
    uint64_t live; // pages that are taken
    bool open;     // some machine's top
};

arena *arena_open(board *b, arena_grow grow, void *context);
void arena_close(board *b, arena *a);
uint8_t *arena_take(board *b, arena *a);
unsigned arenas_give(board *b, void **pages, unsigned count);
bool arena_slot(const arena *a, const uint8_t *host, uint64_t *slot);
uint64_t arena_used(const arena *a);

// tree.c: pages by their numbers, as many trees that share nodes

struct node {
    uint64_t epoch;        // of whoever made it
    uint64_t owned;        // leaf: bit i set when child[i] goes with it
    uint64_t in_place;     // leaf: bit i set when child[i] is stored to where it is (flat.c)
    uint64_t page;         // the first that it leads to
    uint64_t level;        // 0: a leaf
    node *next, *previous; // in its owner's list
    node *under;           // what it was copied from
    void *child[NODE_CHILDREN];
};

typedef struct { // what one owner has added to a tree
    node *root;  // of the whole tree
    node *nodes; // its own
    uint64_t count, epoch;
} stratum;

typedef enum { PUT_MAPPED, PUT_OWNED, PUT_IN_PLACE } put_kind;

node *tree_leaf(const board *b, node *root, uint64_t page);
bool tree_put(board *b, stratum *s, uint64_t floor, node **spare, uint64_t page, uint8_t *host,
              put_kind kind);
stratum tree_merge(const board *b, stratum lower, uint64_t floor, stratum upper, node **dead);
uint64_t tree_owned(const node *n, uint64_t *pages);
uint64_t tree_next(const board *b, node *root, uint64_t page);
unsigned leaf_pages(const node *leaf, void **pages);
void pages_give(board *b, void **pages, unsigned count);
void nodes_give(board *b, node *n);
void nodes_bury(board *b, node *nodes);

// layer.c: immutable memories, and the states that go with them

struct layer {
    uint32_t references;
    bool stored; // everything from here down is in files
    layer *parent;
    layer *heirs, *sibling, *sibling_before; // the layers on top of it, and its parent's others
    stratum own;
    board *home;
    state state;
};

layer *layer_hold(layer *l);
void layer_release(layer *l);
layer *layer_make(board *b, const void *initial);
void layer_put_on(layer *l, layer *base, stratum top, bool stored);
node *layer_take_in(layer *l, stratum top, const state *s, bool stored);

// memory.c: a base layer and a top of the machine's own

enum { PAGES_AT_HAND = 16 };

typedef struct { // pages of files that were stored to in place since the last seal (flat.c)
    uint64_t *pages;
    uint8_t **before; // what they held, if anybody may want to undo it
    uint64_t count, capacity;
    bool undoes;
} flat_writes;

typedef struct {
    layer *base;
    stratum own;
    node *spare;
    void *pages[PAGES_AT_HAND]; // that nobody uses
    unsigned page_count;
    arena *top;        // where pages come from; NULL: the pool
    uint64_t *changed; // pages of earlier tops, since somebody asked
    uint64_t changed_count, changed_capacity;
    bool tracking;
    flat_writes flat;
} memory;

extern const uint8_t zero_page[PAGE_BYTES];
uint8_t *memory_peek(machine *m, uint64_t page);             // host address for reading; never NULL
uint8_t *memory_own(machine *m, uint64_t page, bool *moved); // host address for writing; NULL: out of memory
bool memory_writable(machine *m, uint64_t page);
bool memory_in_place(const machine *m, uint64_t page);
uint64_t memory_next(const machine *m, uint64_t page); // that is not known to be zeros; ~0: none
void memory_attach(machine *m, layer *base);
void memory_drop_top(machine *m);
void memory_release(machine *m);
layer *memory_seal(machine *m, bool stored);

// sha256.c

typedef struct {
    uint8_t bytes[32];
} hash;

typedef void (*sha256_feed)(uint32_t h[8], const uint8_t *data, uint64_t blocks);
sha256_feed sha256_best(bool plain);
hash sha256(sha256_feed feed, const void *data, uint64_t length);

// merkle.c: the hashes of a memory's pages, as a value

enum { MERKLE_HEIGHT = 52, MERKLE_NODE_BYTES = 64 };
typedef struct merkle_node merkle_node; // a tree is its top; NULL: all zeros

typedef struct {
    pool *pool; // its owner keeps it as long as any tree
    sha256_feed feed;
    hash zeros[MERKLE_HEIGHT + 1]; // of 2**n pages of zeros
} merkle;

merkle *merkle_new(pool *p, bool plain);
bool merkle_put(const merkle *k, merkle_node *tree, const uint64_t *numbers, const uint8_t *hashes,
                uint64_t count, merkle_node **made);
void merkle_find(const merkle *k, const merkle_node *n, unsigned height, uint64_t number, uint8_t *out);
void merkle_release(const merkle *k, merkle_node *n);

// flat.c: memory that is a file, stored to in place

bool flat_note(flat_writes *f, uint64_t page, const uint8_t *host);
void flat_keep(flat_writes *f);
void flat_undo(machine *m);
void flat_free(flat_writes *f);
void machine_keep_undo(machine *m);

// board.c: what machines of one kind share: the memory map, the devices, decoded code of immutable pages

enum { VIRTIO_NONE = 0, VIRTIO_BLOCK = 1, VIRTIO_RANDOM = 2 };

typedef struct {
    uint32_t kind, read_only;
    uint64_t start, length; // block: the content's place in the memory map, bytes
    uint64_t seed;          // random
} virtio_config;

enum { CODE_BUCKETS = 4096, OP_COUNT_AT_MOST = 1024 };
enum { SHARED_CODE_PAGES = 8192, OWN_CODE_PAGES = 4096 }; // decoded at a time, 48 KiB each

// what a board may have beyond RV64GC; the order of the bits is nobody's business but this list's
#define EXTENSIONS(X)                                                                                        \
    X(zba)                                                                                                   \
    X(zbb) X(zbs) X(zcb) X(zicbom) X(zicbop) X(zicboz) X(zicond) X(zihintpause) X(sstc) X(svinval) X(zfa)
enum extension {
#define EXTENSION(name) EXTENSION_INDEX_##name,
    EXTENSIONS(EXTENSION)
#undef EXTENSION
#define EXTENSION(name) EXTENSION_##name = 1 << EXTENSION_INDEX_##name,
        EXTENSIONS(EXTENSION)
#undef EXTENSION
};

typedef struct { // candidates by major opcode and funct3, so that decoding tries few lines of the table
    uint16_t start[257];
    uint16_t list[8 * OP_COUNT_AT_MOST];
    uint32_t extensions; // bits of enum extension
} decoder;

struct board {
    uint32_t references;
    uint32_t height; // levels of the radix tree
    memory_range *ranges;
    memory_extent *extents;
    uint32_t range_count, extent_count, ram; // ranges[ram] is asked first
    virtio_config virtio[VIRTIO_SLOTS];
    uint64_t cycles_per_tick;
    uint64_t watched; // physical address of an ELF's tohost, or ~0
    uint64_t watched_fromhost;
    uint32_t devices;
    uint64_t epochs;
    uint32_t lock; // of layers and arenas
    arena *arenas;
    pool *pool;             // its owner keeps it as long as any board
    board *next, *previous; // in the pool
    uint32_t code_lock;
    code_page *code[CODE_BUCKETS];
    const decoder *decoder; // its owner keeps it as long as any board
    codecache *cache;       // likewise; NULL: nothing is translated
    uint32_t code_count;    // pages in `code`
    bool translating;       // a machine of this board has used the cache
};

enum { DEVICE_UART = 1, DEVICE_HTIF = 2, DEVICE_SYSCON = 4, DEVICE_CMIO = 8 };

const memory_range *board_range(const board *b, uint64_t address);
board *board_hold(board *b);
void board_release(board *b);

// decode.c: guest code as arrays of 16-byte operations, one per 2-byte slot

typedef struct {
    _Alignas(8) const void *handler;
    int32_t imm;
    uint8_t rd, rs1, rs2;
    uint8_t n; // instructions from here to the end of the block; 0: the handler charges for itself
} operation;
_Static_assert(sizeof(operation) == 16, "a slot of 2 bytes is an operation of 16");

struct code_page {
    const uint8_t *host; // the guest page it was made from
    code_page *next;
    hot_page *hot; // behind the operations; NULL without a code cache
    uint64_t reserved;
    operation operations[PAGE_SLOTS + 2];
};

enum opcode {
#define OP(name, ...) OP_##name,
#include "isa.def"
#undef OP
    OP_COUNT,
    OP_UNDECODED = OP_COUNT, // decode the block that starts here
    OP_STEP,                 // straddles a page, or stands at a block's maximal length: run it alone
    OP_PAGE_END,
    OP_STEP_DONE,
    OP_WARM, // counts, and goes to the block's translation; hot_page.forms says what it really is
    OP_TOTAL
};

typedef struct {
    const char *name, *operands;
    uint32_t match, mask, extension; // extension 0: always there
    uint8_t format;
    bool ends_block;
} instruction;

extern const instruction instructions[OP_COUNT];
const void *const *interpreter_handlers(void); // [OP_TOTAL][4]: 2 bytes, 4 bytes; the same with far branches

decoder *decoder_new(uint32_t extensions);
uint32_t extension_bit(const char *name); // 0: no such extension
void decoder_free(decoder *d);
unsigned decode_opcode(const board *b, uint32_t word);
uint32_t decode_expand(const board *b,
                       uint16_t half); // a compressed instruction as its 32-bit form; 0 when illegal
void decode_operation(const board *b, uint32_t raw, unsigned offset, bool far, operation *out);
void decode_block(const board *b, code_page *page, unsigned slot);
code_page *code_new(const board *b, const uint8_t *host);
void code_free(const board *b, code_page *page);
void code_invalidate(const board *b, code_page *page, unsigned offset, unsigned length);
code_page *code_shared(board *b, const uint8_t *host); // NULL: there are many already, or out of memory
void code_donate(board *b, code_page *page);
void code_purge(board *b, void *const *pages, unsigned count);

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

// codecache.c, translate.c: blocks that are run often, as host code
//
// Translations belong to the page they were made from, as operations do, and know neither its virtual address
// nor the machine. They never call: whatever has no template, misses the TLB or needs a second look goes back
// to the interpreter, at that operation, with everything before it done.

enum {
    LEAVE_PLAIN, // at an address that has no translation yet
    LEAVE_SIDE,  // at an operation that the interpreter must do
    LEAVE_TAIL,  // at a block that does not fit into the budget
    LEAVE_NOW,   // after an operation that says so
    HELP_JUMPS,  // not at all: translation_help says that it goes on at s.pc, perhaps in another mode

    CALL_FLOAT,  // does not leave if floats may be computed with here
    CALL_ACCESS, // does not leave if translation_help can load or store
    CALL_SYSTEM, // or do this instruction
};
enum { FORM_NONE = 0xffff, BLOCK_DONE = 0xff, HELP_COUNT_SHIFT = 11, HELP_SYSTEM = 0x8000 };
// registers of the host at a fault: integer ones by number; on x86-64 mxcsr; the lower halves of the others
enum { HOST_PC = 32, HOST_FLOAT_STATUS, HOST_FLOAT, HOST_REGISTERS = HOST_FLOAT + 32 };

typedef struct { // a host instruction that touches guest memory
    uint32_t place;
    uint16_t slot; // of the guest instruction
    uint16_t back; // instructions of its block that are not done, itself included
} code_site;

typedef struct { // the address field of a host jump to a slot that has no translation yet
    uint32_t place;
    uint16_t slot, reserved;
} code_link;

struct hot_page {                 // what the translator knows of a page
    uint32_t entries[PAGE_SLOTS]; // places in the code cache; 0: no translation
    uint16_t forms[PAGE_SLOTS];   // index of the handler of what is decoded, or FORM_NONE
    uint8_t heat[PAGE_SLOTS];     // 0: not known to be where a block starts
    uint8_t covered[PAGE_SLOTS / 8];
    code_link *links;
    uint32_t link_count, link_capacity;
    uint32_t generation; // of the cache
    uint32_t drops;
    uint32_t bytes; // of the cache, that its translations take
};

struct codecache { // in memory that a forked child finds zeroed: its parent goes on writing to the cache
    uint8_t *writable;
    const uint8_t *executable; // the same memory
    uint32_t length;           // 0: no cache
    uint32_t lock;
    uint32_t generation;            // counts how often it was emptied
    uint32_t first, hot, cold, top; // code grows up from `first`, what is rarely run down from `top`
    uint32_t users;                 // machines that are running
    uint32_t full;                  // to be emptied once nobody is running
    uint32_t dead;                  // bytes of translations that nobody can come to
    uint32_t enter, enter_float, float_tiny, help, find_page, leave[LEAVE_NOW], leave_address;
    code_site *sites; // ascending
    uint32_t site_count, site_capacity;
};

typedef struct {            // a host jump of the run under way
    uint32_t place, resume; // where to go on after CALL_…
    uint16_t slot;
    uint8_t kind, done;
    uint16_t block, count; // of accesses that CALL_ACCESS makes
} run_jump;

enum { RUN_INSTRUCTIONS = 200, RUN_BLOCKS = 64, BLOCK_INSTRUCTIONS = 100, RUN_JUMPS = 6 * RUN_INSTRUCTIONS };

typedef struct { // a run of blocks that is being translated
    codecache *cache;
    code_page *page;
    uint8_t *at;
    run_jump jumps[RUN_JUMPS];
    code_site sites[RUN_INSTRUCTIONS];
    struct {
        uint32_t entry;
        uint16_t slot, length; // in instructions
    } blocks[RUN_BLOCKS];
    unsigned jump_count, site_count, block_count, first_site, access;
    unsigned slot, slots, done; // of the instruction under way
    bool float_ready;           // checked in this block
} assembly;

codecache *codecache_start(void *memory, uintptr_t writable, uintptr_t executable, uint64_t length);
bool codecache_enter(machine *m);
void codecache_leave(machine *m);
void codecache_look(machine *m);
const code_site *codecache_site(const codecache *c, uint32_t place);
void codecache_lock(codecache *c);
void codecache_unlock(codecache *c);
uint32_t translation_make(machine *m, code_page *page, unsigned slot);
int translation_run(machine *m, uint32_t entry, tlb_entry *tlb);
bool translation_unwind(machine *m, const uint64_t *registers);
void hot_mark(const board *b, code_page *page, unsigned slot);
void hot_forget(codecache *c, code_page *page, unsigned slot);
void hot_free(codecache *c, hot_page *hot);
void hot_renew(codecache *c, code_page *page);
void run_jump_to(assembly *a, unsigned kind, unsigned slot);
void run_site(assembly *a);
void run_step(assembly *a, unsigned slot, unsigned slots);
void run_resume(assembly *a, unsigned jump);
int translation_help(machine *m, uint32_t where);

// translate_x86_64*.c, translate_aarch64*.c: the templates

enum { GROUP_ACCESSES = 15 };

typedef struct { // loads, or stores, one after the other that start at the same register
    unsigned count;
    bool stores;
    int32_t low, high; // bytes from that register
    struct {
        const operation *operation;
        uint16_t slot;
        uint8_t slots, bytes;
        bool is_signed;
    } members[GROUP_ACCESSES];
} access_group;

bool has_template(unsigned opcode);
bool rounds_to_nearest(const operation *o);
bool host_translates(unsigned opcode);
void host_publish(codecache *c, uint32_t from, uint32_t to); // code was written here
bool host_start(codecache *c);
void host_begin(assembly *a);
void host_charge(assembly *a, uint32_t entry, unsigned instructions);
void host_operation(assembly *a, unsigned opcode, const operation *o);
void host_group(assembly *a, const access_group *g);
void host_branch(assembly *a, unsigned opcode, const operation *o, bool far);
void host_link(assembly *a, const operation *o);
void host_jump(assembly *a, unsigned slot);
void host_jump_far(assembly *a, int64_t offset);
void host_jump_register(assembly *a, const operation *o);
uint32_t host_stub(codecache *c, unsigned kind, unsigned slot, unsigned back, uint32_t resume);
void host_gather_flags(machine *m, uint32_t status);
void host_aim(codecache *c, uint32_t place, uint32_t target);
enum { FLOAT_CONTROL = 0x1f80 }; // x86-64's mxcsr: nearest, nothing trapped, no flags
void host_unspill(machine *m, const uint64_t *registers);

// bus.c: physical addresses

bool bus_load(machine *m, uint64_t address, unsigned size, uint64_t *value); // devices only
bool bus_store(machine *m, uint64_t address, unsigned size, uint64_t value);
bool dma_inside(const machine *m, uint64_t address, uint64_t length, bool guest, unsigned rights);
bool dma_read(machine *m, uint64_t address, void *data, uint64_t length, bool guest);
bool dma_write(machine *m, uint64_t address, const void *data, uint64_t length, bool guest);
void dma_touch(machine *m, uint64_t address, uint64_t length);
uint32_t dma_part(uint64_t address, uint64_t length);
bool dma_copy(machine *m, uint64_t target, uint64_t source, uint32_t length, bool guest_target,
              bool guest_source);

// csr.c, trap.c

#define MSTATUS_SIE  (1ull << 1)
#define MSTATUS_MIE  (1ull << 3)
#define MSTATUS_SPIE (1ull << 5)
#define MSTATUS_MPIE (1ull << 7)
#define MSTATUS_SPP  (1ull << 8)
#define MSTATUS_MPP  (3ull << 11)
#define MSTATUS_FS   (3ull << 13)
#define MSTATUS_MPRV (1ull << 17)
#define MSTATUS_SUM  (1ull << 18)
#define MSTATUS_MXR  (1ull << 19)
#define MSTATUS_TVM  (1ull << 20)
#define MSTATUS_TW   (1ull << 21)
#define MSTATUS_TSR  (1ull << 22)
#define MSTATUS_UXL  (2ull << 32)
#define MSTATUS_SXL  (2ull << 34)
#define MSTATUS_SD   (1ull << 63)

#define ENVCFG_CBIE  (3ull << 4)
#define ENVCFG_CBCFE (1ull << 6)
#define ENVCFG_CBZE  (1ull << 7)
#define MENVCFG_STCE (1ull << 63)

enum { IRQ_SSI = 1, IRQ_MSI = 3, IRQ_STI = 5, IRQ_MTI = 7, IRQ_SEI = 9, IRQ_MEI = 11 };

enum cause {
    CAUSE_NONE = -1, // the instruction was given up without a trap: m->stop says why
    CAUSE_FETCH_MISALIGNED,
    CAUSE_FETCH_ACCESS,
    CAUSE_ILLEGAL,
    CAUSE_BREAKPOINT,
    CAUSE_LOAD_MISALIGNED,
    CAUSE_LOAD_ACCESS,
    CAUSE_STORE_MISALIGNED,
    CAUSE_STORE_ACCESS,
    CAUSE_ECALL_U,
    CAUSE_ECALL_S,
    CAUSE_ECALL_M = 11,
    CAUSE_FETCH_PAGE,
    CAUSE_LOAD_PAGE,
    CAUSE_STORE_PAGE = 15,
};

bool csr_read(machine *m, unsigned number, uint64_t *value);
bool csr_write(machine *m, unsigned number, uint64_t value);
bool csr_access(machine *m, unsigned number, bool writes); // may the present mode?
bool csr_environment(const machine *m, uint64_t bits);     // do menvcfg and senvcfg let the present mode?
const char *csr_name(unsigned number);                     // NULL: no such CSR
int csr_number(const char *name);                          // -1: no such CSR
uint64_t interrupts_pending(const machine *m);             // mip with the wires
void trap_enter(machine *m, uint64_t cause, uint64_t value);
uint64_t interrupts_enabled(const machine *m); // those that would be taken now
bool trap_interrupt(machine *m);               // takes the most urgent enabled interrupt, if any
bool trap_return(machine *m, unsigned from);

// devices/

enum {
    STOP_NONE,
    STOP_HALTED,
    STOP_YIELDED,
    STOP_CYCLE,
    STOP_INTERRUPTED,
    STOP_IDLE,
    STOP_CONSOLE,
    STOP_MEMORY
};
enum { YIELD_AUTOMATIC = 0, YIELD_MANUAL = 1 };

bool clint_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool clint_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
uint64_t clint_time(const machine *m);
uint64_t clint_timer_cycle(const machine *m, uint64_t enabled); // when the next of these interrupts is due
bool plic_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool plic_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
void plic_set(machine *m, unsigned source, bool level);
bool plic_line(const machine *m, unsigned context);
bool uart_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool uart_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
unsigned uart_receive(machine *m, const uint8_t *data, unsigned length);
int uart_take(machine *m);
bool htif_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool htif_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
void htif_command(machine *m, uint64_t tohost);
bool syscon_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool syscon_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
bool virtio_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool virtio_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
void virtio_reset(machine *m, unsigned slot);
void console_put(machine *m, uint8_t byte);

enum { WORK_NONE, WORK_TAKE, WORK_FETCH, WORK_PART, WORK_END, WORK_DONE };
enum { DESCRIPTOR_NEXT = 1, DESCRIPTOR_WRITE = 2, DESCRIPTOR_INDIRECT = 4 };
#define VIRTIO_MALFORMED UINT32_MAX // a part of this length is no part
void virtio_begin(machine *m, unsigned slot, unsigned queue);
void virtio_serve(machine *m, uint64_t until);
void virtio_interrupt(machine *m, unsigned slot, uint32_t bits);
void virtio_broken(machine *m, unsigned slot);
uint32_t virtio_block_part(machine *m, virtio_work *w);
uint32_t virtio_random_part(machine *m, virtio_work *w);
uint64_t virtio_block_config(const machine *m, unsigned slot, uint64_t offset);

enum { UART_SOURCE = 20 }; // PLIC sources: virtio slot k has k + 1

// interpret.c, run.c

typedef struct { // one retired instruction, for traces
    uint64_t pc, address, stored, value;
    uint32_t raw;
    uint8_t privilege, memory, size; // memory: 0 none, 1 load, 2 store
    uint8_t rd, destination;         // destination: 0 none, 1 x, 2 f
    uint8_t trapped;
    uint16_t csr; // 0: none written
    uint64_t csr_value;
    uint64_t behind;        // of the M-mode register that sstatus, sie or sip shows
    uint64_t mstatus;       // when it changed by itself: FS became dirty, or a return from a trap; else 0
    uint32_t fflags;        // before the instruction
    uint32_t fflags_raised; // by its arithmetic
} commit;

typedef uint64_t (*host_clock)(int cpu); // nanoseconds: on the wall, or of the calling thread's CPU

struct machine {
    state s;                      // first, so that x[i] is at the machine's own address
    const operation *volatile at; // the operation whose memory access is under way; NULL: between operations
    uint64_t delta;               // pc = (at >> 3) + delta
    int64_t budget;               // cycles left before limit, as of the last block entered
    uint64_t limit;
    uint64_t page;            // translated code: the virtual address of the page it is in
    const fetch_entry *fetch; // translated code: where pages of this privilege are looked up
    const uint8_t *code;      // translated code: place 0
    tlb_entry *bank;          // translated code: of this mode
    int (*help)(machine *m, uint32_t where);
    uint32_t float_status, float_control, host_float_control;
    uint32_t float_again; // translated code: load them again after a call
    uint32_t float_ready; // translated code: floats are in host registers
    int cause;            // of the trap under way
    uint64_t value;       // and its mtval
    board *home;
    memory memory;
    engine *engine;
    commit *trace;
    uint8_t *console;
    uint32_t console_length, console_capacity, console_limit;
    uint32_t stop_flag;
    uint32_t stop;         // set by devices
    uint32_t warmth;       // a block is translated when it has been entered so often; 0: not at all
    uint32_t generation;   // of the code cache, as last seen
    int32_t patience;      // slow operations until the run loop is to look at the stop flag
    fast_modes host_modes; // of the host's floating-point unit, outside the run
    bool running;
    bool in_cache;  // one of the code cache's users
    bool attention; // leave the block: interrupts, mode or translation may have changed
    host_clock clock;
    uint64_t cpu_end; // as in run_call
    uint64_t look_at; // not before this time on the wall can it be reached
};

// What may take a thousand times as long as a cycle counts; true: the run loop is to have a look.
static inline bool machine_tires(machine *m) { return unlikely(--m->patience <= 0); }

uint64_t cycle_now(const machine *m);
void interpret(machine *m);
void run_begins(machine *m); // and ends: the host's floating-point unit is the guest's between them
void run_ends(machine *m);
int run_until(machine *m, uint64_t until);
bool run_skips_idle(machine *m, uint64_t until);
void run_passes_time(machine *m, uint64_t to);
bool run_used_up(machine *m, host_clock clock, uint64_t cpu_end); // as in run_call
typedef enum { GO_NEXT, GO_LEAVE, GO_TRAP, GO_ILLEGAL } outcome;  // LEAVE: s.pc is set
outcome system_operation(machine *m, const operation *d, unsigned opcode, uint64_t pc);

// machine.c, run.c, trace.c, disassemble.c: calls that touch guest memory take one argument, so that a guard
// can make them

typedef struct {
    machine *machine;
    uint64_t until;          // out: where it was to end at most
    uint64_t cycles;         // that it may run, at most
    uint32_t console_bytes;  // stop when this much output waits
    uint32_t console_length; // out: how much waits
    int stop;                // out
    host_clock clock;
    uint64_t cpu_end; // stop, though not at `until`, when this thread has used so much; 0: never
} run_call;
void run_on(run_call *call); // m->look_at is set

typedef struct {
    machine *machine;
    uint64_t until;
    commit *commits;
    uint64_t capacity;
    uint64_t count; // out
    int stop;       // out; STOP_CYCLE with cycle < until: the room for commits is used up
} trace_call;

typedef struct {
    machine *machine;
    bool stored;  // all of it is in files now
    layer *layer; // out; NULL: out of memory
} seal_call;

typedef struct {
    machine *machine;
    const uint64_t *pages;
    uint64_t count;
    bool done; // out; false: out of memory
} adopt_call;

typedef struct {
    machine *machine;
    uint64_t address;
    uint8_t *data;
    uint64_t length;
    bool write, virtual_address;
    bool done;        // out
    uint64_t failure; // out: the first address that is not memory
} access_call;

typedef struct {
    uint64_t cycle;
    uint32_t reason;
    uint32_t data; // of progress: per mille; else the length of what follows, padded to 8 bytes
} said;

typedef struct {
    machine *machine;
    const uint8_t *payload;
    uint64_t fromhost; // reason << 32 | length of the payload
    uint64_t rx, tx;   // addresses of the buffers
    uint64_t until;
    uint64_t most; // in, out: bytes of outputs and reports that may be kept
    uint8_t *said; // 8-byte aligned
    uint64_t capacity;
    uint64_t used;           // out
    uint64_t cycle;          // out: at the stop
    uint64_t stop_data;      // out
    uint32_t console_bytes;  // as in run_call
    uint32_t console_length; // out
    int stop;                // out
    host_clock clock;        // as in run_call
    uint64_t cpu_end;
    bool fresh;              // in, out: the payload is still to be given
    bool discard;            // roll back when the guest has accepted or rejected
    bool refused, discarded; // out: the guest waits for no request; it was rolled back
} serve_call;

typedef struct {
    machine *machine;
    uint64_t cursor; // in and out: a page number
    uint64_t *pages;
    uint8_t *bytes;
    uint64_t capacity;
    uint64_t count; // out
} collect_call;

typedef struct {
    machine *machine;
    uint64_t *pages; // out: bit 63 is set in those of zeros, which are left out
    uint64_t count;
    uint8_t *bytes;       // room for all of them
    uint64_t written;     // out: bytes
    uint32_t *sums;       // room for their checksums; for a delta only, as the rest
    uint8_t *page;        // zeros, where its first page goes
    uint8_t *rest;        // room for what is behind the pages
    uint64_t rest_length; // out
} gather_call;

typedef struct {
    machine *machine;
    const merkle *kind;
    uint64_t *pages;
    uint8_t *hashes; // 32 bytes for each page
    uint64_t count;
    uint64_t cursor; // in and out: a page number
} hash_call;

void machine_run(run_call *call);
void machine_unwind(machine *m, const uint64_t *registers);
void machine_trace(trace_call *call);
void machine_seal(seal_call *call);
void machine_adopt(adopt_call *call);
bool machine_uses(const machine *m, const void *context);
void machine_rollback(machine *m); // may fault if memory is in place
void machine_access(access_call *call);
void machine_serve(serve_call *call);
void machine_collect_pages(collect_call *call);
void machine_gather_pages(gather_call *call);
void machine_hash_pages(hash_call *call);
void machine_hash_all(hash_call *call);
void machine_gather_delta(gather_call *call);
uint64_t machine_unstored(machine *m, uint64_t *pages, uint64_t capacity);
uint64_t machine_take_changed(machine *m, uint64_t *pages, uint64_t capacity);
uint64_t machine_slots(machine *m, uint64_t *pages, uint64_t capacity);
machine *machine_new(layer *base);
bool machine_translate(machine *m, uint32_t warmth);
void machine_free(machine *m);
layer *machine_base(machine *m);
const state *machine_state(const machine *m);
bool machine_set_arena(machine *m, arena_grow grow, void *context);
bool machine_register(machine *m, unsigned number, uint64_t *value);
bool machine_set_register(machine *m, unsigned number, uint64_t value);
int machine_csr_number(const char *name);
const char *machine_csr_name(unsigned number);
unsigned machine_console_input(machine *m, const uint8_t *data, unsigned length);
uint32_t machine_console_length(const machine *m);
uint32_t machine_console_output(machine *m, uint8_t *data, uint32_t capacity);
bool machine_answer(machine *m, uint64_t fromhost);
void machine_interrupt(machine *m);
void machine_clear_interrupt(machine *m);
void machine_cool(machine *m);
bool sanitized(void);
board *board_new(const decoder *d, pool *p, uint64_t cycles_per_tick, uint32_t devices, uint64_t watched,
                 uint64_t watched_fromhost);
board *board_like(const board *other);
bool board_add_range(board *b, uint64_t start, uint64_t length, uint32_t flags);
bool board_add_extent(board *b, uint64_t start, uint64_t length, uintptr_t host, uint32_t flags);
void board_set_virtio(board *b, uint32_t slot, uint32_t kind, uint64_t start, uint64_t length,
                      uint32_t read_only, uint64_t seed);
void board_set_cache(board *b, codecache *cache);
layer *layer_new(board *b, layer *parent, const uint8_t *initial);
bool layer_add_pages(layer *l, const uint64_t *pages, uintptr_t first_host, uint64_t count);
void page_checksums(const uint8_t *pages, uint64_t count, uint32_t *sums, bool by_hand);
uint32_t checksum(const uint8_t *bytes, uint64_t length);
uint32_t state_used(const state *s);
uint64_t index_check(const uint64_t *pages, uint64_t count, const uint64_t *bounds, uint64_t ranges,
                     uint64_t *slots);
void layer_set_stored(layer *l);
const state *layer_state(const layer *l);
void state_reset(state *s, board *b, uint64_t pc, uint64_t device_tree);
const char *state_flaw(const state *s);
// delta.c: a layer's file, but for its pages

typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t page_bytes;
    uint64_t entries;     // of the index
    uint64_t slots;       // pages that are stored
    uint64_t offset;      // of state, index and page checksums, which follow each other
    uint64_t state_bytes; // without the zeros at its end
    uint64_t cycle;
    uint64_t sums_bytes;
    uint32_t known_sum; // of state and index
    uint32_t sums_sum;  // of the page checksums
    uint32_t unused;
    uint32_t own_sum; // of all before it
} delta_header;

enum {
    DELTA_SOUND,
    DELTA_SHORT,
    DELTA_MAGIC,
    DELTA_VERSION,
    DELTA_OWN_SUM,
    DELTA_UNITS,
    DELTA_SUMS,
    DELTA_LENGTH,
    DELTA_KNOWN_SUM,
    DELTA_STATE,
    DELTA_INDEX,
    DELTA_SLOTS
};

typedef struct {
    delta_header header;
    state state;
    uint64_t length;   // of the file
    uint64_t found;    // instead of what is expected: a checksum, an entry, a number of slots
    const char *field; // of the state, if that is flawed
    uint32_t flaw;
    bool fits; // all but the pages into page 0
} delta_look;

typedef struct {
    delta_look *looks;
    const uint64_t *bounds; // first page and end of each range of memory, in turn
    uint64_t ranges;
} delta_looks;

uint64_t delta_head(const state *s, const uint64_t *index, uint64_t entries, uint64_t slots,
                    const uint32_t *sums, uint8_t *page, uint8_t *rest);
int delta_open_one(delta_looks *looks, uint64_t number, const void *page, uint64_t got, uint64_t length);
void delta_check(delta_look *look, const uint8_t *known, const uint64_t *bounds, uint64_t ranges);

unsigned disassemble(board *b, uint32_t raw, uint64_t pc, char *out, unsigned capacity);
const char *instruction_name(unsigned op);
const char *instruction_operands(unsigned op);
uint32_t instruction_match(unsigned op);
uint32_t instruction_mask(unsigned op);
uint32_t instruction_extension(unsigned op);

#endif
