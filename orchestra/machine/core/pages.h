/* pages.h: guest memory as a value: where pages come from, trees of them, layers, hashes. A part of
 * machine.h. */
#ifndef ORCHESTRA_PAGES_H
#define ORCHESTRA_PAGES_H

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

#endif
