/* pool.c: blocks of a few sizes (pages, nodes, engines …) for all machines of a process, whichever thread
 * takes them and whichever gives them back.
 *
 * They are cut from aligned chunks that the host hands in. A chunk's header says which of its blocks are
 * free, and which of those are cold: never touched, or discarded since. Warm ones are taken first; when much
 * more is warm than is used, the host gets some back. Nothing in a free block is read or written, so a page
 * of a machine needs no care but to be given back once.
 */
#include "machine.h"

#ifdef _WIN32
#    include <malloc.h>
#    define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#    define aligned_free                    _aligned_free
#else
#    define aligned_free free
#endif

#if defined(__SANITIZE_ADDRESS__)
#    define SANITIZED 1
#elif defined(__has_feature)
#    if __has_feature(address_sanitizer)
#        define SANITIZED 1
#    endif
#endif
#ifdef SANITIZED // so that AddressSanitizer sees who uses a block that is free
void __asan_poison_memory_region(const volatile void *start, size_t bytes);
void __asan_unpoison_memory_region(const volatile void *start, size_t bytes);
#else
#    define __asan_poison_memory_region(start, bytes)   ((void)0)
#    define __asan_unpoison_memory_region(start, bytes) ((void)0)
#endif

enum { USUAL_CHUNK = 1 << 20, BLOCKS_AT_LEAST = 3, WORDS = 32 };
enum { WARM_BYTES = 8 << 20 }; // that may always be kept; more goes by what is used

struct chunk {
    chunk *next, *previous; // in its shelf's list, while it has free blocks: those with warm ones first
    uint32_t free, warm;    // blocks
    uint64_t is_free[WORDS], is_cold[WORDS]; // by block
};

pool *pool_new(block_take take, block_give give, block_give discard) {
    static const uint32_t bytes[BLOCK_KINDS] = {PAGE_BYTES,     sizeof(node),
                                                sizeof(layer),  sizeof(code_page) + sizeof(hot_page),
                                                sizeof(engine), MERKLE_NODE_BYTES};
    pool *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    for (unsigned kind = 0; kind < BLOCK_KINDS; kind++) {
        shelf *s = &p->shelves[kind];
        uint32_t unit = bytes[kind] < PAGE_BYTES ? 64 : PAGE_BYTES;
        *s = (shelf){.block = (bytes[kind] + unit - 1) / unit * unit, .chunk = USUAL_CHUNK};
        s->first = unit == PAGE_BYTES ? PAGE_BYTES : (sizeof(chunk) + 63) / 64 * 64;
        while ((s->chunk - s->first) / s->block < BLOCKS_AT_LEAST) s->chunk *= 2;
        while (s->chunk / 2 / s->block >= WORDS * 64) s->chunk /= 2;
        s->blocks = (s->chunk - s->first) / s->block;
        if (s->blocks > WORDS * 64) s->blocks = WORDS * 64;
        s->take = take, s->give = give;
        s->discard = unit == PAGE_BYTES ? discard : NULL;
    }
    return p;
}

// lists

static void unlist(shelf *s, chunk *c) {
    *(c->previous ? &c->previous->next : &s->list) = c->next;
    *(c->next ? &c->next->previous : &s->last) = c->previous;
}

static void list(shelf *s, chunk *c) {
    c->previous = c->warm ? NULL : s->last;
    c->next = c->warm ? s->list : NULL;
    *(c->previous ? &c->previous->next : &s->list) = c;
    *(c->next ? &c->next->previous : &s->last) = c;
}

// Bring a chunk to where it belongs after its counts were others.
static void relist(shelf *s, chunk *c, uint32_t free, uint32_t warm) {
    if (!free == !c->free && !warm == !c->warm) return;
    if (free) unlist(s, c);
    if (c->free) list(s, c);
}

// blocks

static bool add_chunk(shelf *s) {
    chunk *c = s->take ? s->take(s->chunk) : aligned_alloc(s->chunk, s->chunk);
    if (!c) return false;
    *c = (chunk){.free = s->blocks};
    for (unsigned i = 0; i < s->blocks; i++) c->is_free[i / 64] |= 1ull << i % 64;
    memcpy(c->is_cold, c->is_free, sizeof c->is_cold);
    __asan_poison_memory_region((uint8_t *)c + s->first, s->chunk - s->first);
    spin_lock(&s->lock);
    list(s, c);
    s->chunks++;
    spin_unlock(&s->lock);
    return true;
}

static uint8_t *take_block(shelf *s, chunk *c) {
    uint64_t word = 0;
    unsigned i = 0;
    uint32_t free = c->free, warm = c->warm;
    while (!(word = warm ? c->is_free[i] & ~c->is_cold[i] : c->is_free[i])) i++;
    uint64_t bit = word & -word;
    c->is_free[i] &= ~bit;
    c->is_cold[i] &= ~bit;
    c->free--;
    if (warm) c->warm--, s->warm--;
    s->used++;
    relist(s, c, free, warm);
    uint8_t *block = (uint8_t *)c + s->first + (i * 64 + (unsigned)__builtin_ctzll(bit)) * s->block;
    __asan_unpoison_memory_region(block, s->block);
    return block;
}

// Take up to `count` blocks, with whatever is in them; returns how many: fewer when memory is out.
unsigned pool_take(pool *p, block_kind kind, void **blocks, unsigned count) {
    shelf *s = &p->shelves[kind];
    unsigned got = 0;
    do {
        spin_lock(&s->lock);
        while (got < count && s->list) blocks[got++] = take_block(s, s->list);
        spin_unlock(&s->lock);
    } while (got < count && add_chunk(s));
    return got;
}

void *pool_take_one(pool *p, block_kind kind) {
    void *block;
    return pool_take(p, kind, &block, 1) ? block : NULL;
}

static void give_block(shelf *s, uint8_t *block) {
    chunk *c = (chunk *)((uintptr_t)block & -(uintptr_t)s->chunk);
    uint32_t free = c->free, warm = c->warm;
    unsigned i = (unsigned)((size_t)(block - (uint8_t *)c - s->first) / s->block);
    __asan_poison_memory_region(block, s->block);
    c->is_free[i / 64] |= 1ull << i % 64;
    c->free++, c->warm++, s->warm++;
    s->used--;
    relist(s, c, free, warm);
}

// giving memory back to the host

static uint64_t enough(const shelf *s) { return WARM_BYTES / s->block + s->used / 4; }

static void discard_runs(const shelf *s, chunk *c, const uint64_t *words) {
    unsigned first = 0, count = 0;
    for (unsigned i = 0; i <= s->blocks; i++) {
        if (i < s->blocks && words[i / 64] >> i % 64 & 1) {
            if (!count++) first = i;
            continue;
        }
        if (count)
            s->discard((uint8_t *)c + s->first + (uint64_t)first * s->block, (uint64_t)count * s->block);
        count = 0;
    }
}

// Discard what is warm in a chunk. The lock is dropped meanwhile; nobody else sees these blocks then.
static void discard_warm(shelf *s, chunk *c) {
    uint64_t words[WORDS];
    uint32_t free = c->free, warm = c->warm;
    for (unsigned i = 0; i < WORDS; i++) {
        words[i] = c->is_free[i] & ~c->is_cold[i];
        c->is_free[i] &= ~words[i];
    }
    c->free -= warm, c->warm = 0, s->warm -= warm;
    relist(s, c, free, warm);
    spin_unlock(&s->lock);
    discard_runs(s, c, words);
    spin_lock(&s->lock);
    free = c->free;
    for (unsigned i = 0; i < WORDS; i++) {
        c->is_free[i] |= words[i];
        c->is_cold[i] |= words[i];
    }
    c->free += warm;
    relist(s, c, free, c->warm);
}

static chunk *last_warm(const shelf *s, bool whole) {
    chunk *c = s->last;
    while (c && (!c->warm || (whole && c->free < s->blocks))) c = c->previous;
    return c;
}

// With the lock, which is dropped now and then.
static void trim(shelf *s) {
    uint64_t keep = enough(s);
    chunk *c;
    while (s->warm > keep && (c = last_warm(s, !s->discard))) {
        if (c->free < s->blocks) {
            discard_warm(s, c);
            continue;
        }
        s->warm -= c->warm;
        s->chunks--;
        unlist(s, c);
        spin_unlock(&s->lock);
        __asan_unpoison_memory_region(c, s->chunk);
        if (s->give)
            s->give(c, s->chunk);
        else
            aligned_free(c);
        spin_lock(&s->lock);
    }
}

void pool_give(pool *p, block_kind kind, void *const *blocks, unsigned count) {
    shelf *s = &p->shelves[kind];
    spin_lock(&s->lock);
    for (unsigned i = 0; i < count; i++) give_block(s, blocks[i]);
    if (s->warm > 2 * enough(s)) trim(s);
    spin_unlock(&s->lock);
}

void pool_give_one(pool *p, block_kind kind, void *block) { pool_give(p, kind, &block, 1); }

// What there is of a kind: blocks that are used, blocks that are free and warm, bytes of chunks.
void pool_count(pool *p, unsigned kind, uint64_t counts[3]) {
    shelf *s = &p->shelves[kind];
    spin_lock(&s->lock);
    counts[0] = s->used, counts[1] = s->warm, counts[2] = s->chunks * s->chunk;
    spin_unlock(&s->lock);
}

// forked processes

void pool_add_board(pool *p, board *b) {
    b->pool = p;
    spin_lock(&p->lock);
    b->previous = NULL;
    b->next = p->boards;
    if (p->boards) p->boards->previous = b;
    p->boards = b;
    spin_unlock(&p->lock);
}

void pool_remove_board(board *b) {
    pool *p = b->pool;
    spin_lock(&p->lock);
    *(b->previous ? &b->previous->next : &p->boards) = b->next;
    if (b->next) b->next->previous = b->previous;
    spin_unlock(&p->lock);
}

// Let no thread be in the middle of something, or begin, while the process is forked: the child has no other
// threads, and would wait for ever.
void pool_hold(void *context, int hold) {
    pool *p = context;
    void (*act)(uint32_t *) = hold ? spin_lock : spin_unlock;
    act(&p->lock);
    for (board *b = p->boards; b; b = b->next) {
        act(&b->lock);
        act(&b->code_lock);
    }
    for (unsigned kind = 0; kind < BLOCK_KINDS; kind++) act(&p->shelves[kind].lock);
}
