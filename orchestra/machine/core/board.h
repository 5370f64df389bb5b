/* board.h: what machines of one kind share, and guest code as operations. A part of machine.h. */
#ifndef ORCHESTRA_BOARD_H
#define ORCHESTRA_BOARD_H

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

#endif
