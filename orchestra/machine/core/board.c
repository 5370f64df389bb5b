/* board.c: what machines of one kind share: memory map, devices, and the decoded code of immutable pages. */
#include "machine.h"

board *board_new(const decoder *d, pool *p, uint64_t cycles_per_tick, uint32_t devices, uint64_t watched,
                 uint64_t watched_fromhost) {
    board *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    b->references = 1;
    b->height = 1;
    b->cycles_per_tick = cycles_per_tick;
    b->devices = devices;
    b->watched = watched;
    b->watched_fromhost = watched_fromhost;
    b->decoder = d;
    pool_add_board(p, b);
    return b;
}

// A board like another that no machine was made on, with the same ranges and devices, but no extents yet.
board *board_like(const board *other) {
    board *b = malloc(sizeof *b);
    memory_range *ranges = malloc((other->range_count + 1) * sizeof *ranges);
    if (!b || !ranges) {
        free(b);
        free(ranges);
        return NULL;
    }
    *b = *other;
    if (other->range_count) memcpy(ranges, other->ranges, other->range_count * sizeof *ranges);
    b->references = 1;
    b->ranges = ranges;
    b->extents = NULL;
    b->extent_count = 0;
    pool_add_board(other->pool, b);
    return b;
}

// Ranges and extents are added in ascending order, before the first machine is made.
bool board_add_range(board *b, uint64_t start, uint64_t length, uint32_t flags) {
    memory_range *ranges = realloc(b->ranges, (b->range_count + 1) * sizeof *ranges);
    if (!ranges) return false;
    b->ranges = ranges;
    b->ranges[b->range_count] = (memory_range){start, length, flags, 0};
    if (!(b->ranges[b->ram].flags & RANGE_EXECUTE)) b->ram = b->range_count; // drives come behind it
    b->range_count++;
    while (((start + length - 1) >> PAGE_SHIFT) >> (NODE_BITS * b->height)) b->height++;
    return true;
}

bool board_add_extent(board *b, uint64_t start, uint64_t length, uintptr_t host, uint32_t flags) {
    memory_extent *extents = realloc(b->extents, (b->extent_count + 1) * sizeof *extents);
    if (!extents) return false;
    b->extents = extents;
    b->extents[b->extent_count++] =
        (memory_extent){start >> PAGE_SHIFT, length >> PAGE_SHIFT, (uint8_t *)host, flags, 0};
    return true;
}

void board_set_virtio(board *b, uint32_t slot, uint32_t kind, uint64_t start, uint64_t length,
                      uint32_t read_only, uint64_t seed) {
    if (slot < VIRTIO_SLOTS) b->virtio[slot] = (virtio_config){kind, read_only, start, length, seed};
}

// Before the first machine is made, too; the cache stays as long as any board.
void board_set_cache(board *b, codecache *cache) { b->cache = cache; }

board *board_hold(board *b) {
    __atomic_add_fetch(&b->references, 1, __ATOMIC_RELAXED);
    return b;
}

void board_release(board *b) {
    if (!b || __atomic_sub_fetch(&b->references, 1, __ATOMIC_ACQ_REL)) return;
    for (unsigned i = 0; i < CODE_BUCKETS; i++)
        while (b->code[i]) {
            code_page *next = b->code[i]->next;
            code_free(b, b->code[i]);
            b->code[i] = next;
        }
    pool_remove_board(b);
    free(b->ranges);
    free(b->extents);
    free(b);
}

const memory_range *board_range(const board *b, uint64_t address) {
    const memory_range *ram = &b->ranges[b->ram];
    if (likely(b->range_count && address - ram->start < ram->length)) return ram;
    for (uint32_t i = 0; i < b->range_count; i++)
        if (address - b->ranges[i].start < b->ranges[i].length) return &b->ranges[i];
    return NULL;
}

// decoded code of pages that never change: all machines of the board run from it

static code_page **bucket(board *b, const uint8_t *host) {
    return &b->code[((uintptr_t)host >> PAGE_SHIFT) * 0x9e3779b97f4a7c15ull >> 52];
}

code_page *code_shared(board *b, const uint8_t *host) {
    spin_lock(&b->code_lock);
    code_page **head = bucket(b, host), *page = *head;
    while (page && page->host != host) page = page->next;
    if (!page && b->code_count < SHARED_CODE_PAGES && (page = code_new(b, host))) {
        page->next = *head;
        *head = page;
        b->code_count++;
    }
    spin_unlock(&b->code_lock);
    return page;
}

// A page that has become immutable brings its decoded code along.
void code_donate(board *b, code_page *page) {
    spin_lock(&b->code_lock);
    code_page **head = bucket(b, page->host), *other = *head;
    while (other && other->host != page->host) other = other->next;
    bool taken = !other && b->code_count < SHARED_CODE_PAGES;
    if (taken) {
        page->next = *head;
        *head = page;
        b->code_count++;
    }
    spin_unlock(&b->code_lock);
    if (!taken) code_free(b, page);
}

void code_purge(board *b, void *const *pages, unsigned count) {
    spin_lock(&b->code_lock);
    for (unsigned i = 0; i < count; i++) {
        code_page **link = bucket(b, pages[i]);
        while (*link && (*link)->host != pages[i]) link = &(*link)->next;
        if (*link) {
            code_page *page = *link;
            *link = page->next;
            b->code_count--;
            code_free(b, page);
        }
    }
    spin_unlock(&b->code_lock);
}
