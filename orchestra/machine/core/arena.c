/* arena.c: pages in a file of the machine's, which the host lengthens; each is given back on its own.
 *
 * A page that is given back is taken again only while the arena is some machine's top. Once its file has
 * become a delta, no page in it changes any more: the machine has another top then.
 */
#include "machine.h"

static arena_chunk *chunk_of(const arena *a, const uint8_t *host) {
    uint32_t low = 0, high = a->chunk_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        arena_chunk *c = &a->chunks[middle];
        if (host < c->host)
            high = middle;
        else if (host >= c->host + c->count * PAGE_BYTES)
            low = middle + 1;
        else
            return c;
    }
    return NULL;
}

arena *arena_open(board *b, arena_grow grow, void *context) {
    arena *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->grow = grow;
    a->context = context;
    a->open = true;
    spin_lock(&b->lock);
    a->next = b->arenas;
    b->arenas = a;
    spin_unlock(&b->lock);
    return a;
}

static arena *unlink_if_over(board *b, arena *a) {
    if (a->open || a->live) return NULL;
    arena **link = &b->arenas;
    while (*link != a) link = &(*link)->next;
    *link = a->next;
    return a;
}

static void destroy(arena *a) {
    if (!a) return;
    free(a->chunks);
    free(a->free);
    free(a);
}

// It is nobody's top any more; it stays as long as there are pages in it.
void arena_close(board *b, arena *a) {
    if (!a) return;
    spin_lock(&b->lock);
    a->open = false;
    arena *over = unlink_if_over(b, a);
    spin_unlock(&b->lock);
    destroy(over);
}

// Only the machine whose top it is takes from it, so that it alone makes it longer.
static bool extend(board *b, arena *a) {
    uint64_t wanted = a->slots < 16 ? 16 : a->slots > 4096 ? 4096 : a->slots, got = 0;
    uint8_t *host = a->grow(a->context, wanted * PAGE_BYTES, &got);
    if (!host) return false;
    uint64_t count = got / PAGE_BYTES;
    spin_lock(&b->lock);
    arena_chunk *chunks = realloc(a->chunks, (a->chunk_count + 1) * sizeof *chunks);
    if (chunks) a->chunks = chunks;
    uint8_t **free_pages = realloc(a->free, (a->slots + count) * sizeof *free_pages);
    if (free_pages) a->free = free_pages;
    bool done = chunks && free_pages;
    if (done) {
        uint32_t at = a->chunk_count++;
        for (; at > 0 && chunks[at - 1].host > host; at--) chunks[at] = chunks[at - 1];
        chunks[at] = (arena_chunk){host, a->slots, count};
        a->slots += count;
        a->fresh = host;
        a->fresh_count = count;
    }
    spin_unlock(&b->lock);
    return done;
}

// A page nobody uses; NULL: the file grows no more.
uint8_t *arena_take(board *b, arena *a) {
    uint8_t *host = NULL;
    do {
        spin_lock(&b->lock);
        if (a->free_count) {
            host = a->free[--a->free_count];
        } else if (a->fresh_count) {
            host = a->fresh;
            a->fresh += PAGE_BYTES;
            a->fresh_count--;
        }
        a->live += host != NULL;
        spin_unlock(&b->lock);
    } while (!host && extend(b, a));
    return host;
}

// Give back those of these pages that are an arena's; the others stand at the front then, and are counted.
unsigned arenas_give(board *b, void **pages, unsigned count) {
    unsigned others = 0;
    if (!__atomic_load_n(&b->arenas, __ATOMIC_ACQUIRE)) return count;
    arena *over = NULL;
    spin_lock(&b->lock);
    for (unsigned i = 0; i < count; i++) {
        arena *a = b->arenas;
        while (a && !chunk_of(a, pages[i])) a = a->next;
        if (!a) {
            pages[others++] = pages[i];
            continue;
        }
        a->free[a->free_count++] = pages[i];
        a->live--;
        arena *last = unlink_if_over(b, a);
        if (last) last->next = over, over = last;
    }
    spin_unlock(&b->lock);
    while (over) {
        arena *next = over->next;
        destroy(over);
        over = next;
    }
    return others;
}

// The slot of a page in an arena: the n-th of its file. False when it is not there.
bool arena_slot(const arena *a, const uint8_t *host, uint64_t *slot) {
    const arena_chunk *c = chunk_of(a, host);
    if (c) *slot = c->first + (uint64_t)(host - c->host) / PAGE_BYTES;
    return c;
}

// Slots that were ever taken.
uint64_t arena_used(const arena *a) { return a ? a->slots - a->fresh_count : 0; }
