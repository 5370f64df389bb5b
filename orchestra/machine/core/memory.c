/* memory.c: a machine's memory as a value: a store copies one page, dropping the top goes back. */
#include "machine.h"

const uint8_t zero_page[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

enum { PAGES_AT_ONCE = 8, SPARE_NODES = 32 };

static const memory_extent *extent_of(const board *b, uint64_t page) {
    uint32_t low = 0, high = b->extent_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const memory_extent *e = &b->extents[middle];
        if (page < e->page)
            high = middle;
        else if (page - e->page >= e->count)
            low = middle + 1;
        else
            return e;
    }
    return NULL;
}

uint8_t *memory_peek(machine *m, uint64_t page) {
    const board *b = m->home;
    node *leaf = tree_leaf(b, m->memory.own.root, page);
    uint8_t *host = leaf ? leaf->child[page & (NODE_CHILDREN - 1)] : NULL;
    if (host) return host;
    const memory_extent *e = extent_of(b, page);
    return e ? e->host + (page - e->page) * PAGE_BYTES : (uint8_t *)zero_page;
}

// May a store go to what memory_peek returns?
bool memory_writable(machine *m, uint64_t page) {
    memory *mem = &m->memory;
    node *leaf = tree_leaf(m->home, mem->own.root, page);
    unsigned index = page & (NODE_CHILDREN - 1);
    return leaf && leaf->epoch == mem->own.epoch && ((leaf->owned | leaf->in_place) >> index & 1);
}

// Is it a page of a file that is stored to in place? Then it is never copied, and nobody else has it.
bool memory_in_place(const machine *m, uint64_t page) {
    const memory_extent *e = extent_of(m->home, page);
    return e && (e->flags & EXTENT_SHARED);
}

// Have a page at hand that nobody uses.
static bool have_page(machine *m) {
    memory *mem = &m->memory;
    if (mem->page_count) return true;
    if (!mem->top) {
        mem->page_count = pool_take(m->home->pool, BLOCK_PAGE, mem->pages, PAGES_AT_ONCE);
    } else if ((mem->pages[0] = arena_take(m->home, mem->top))) {
        mem->page_count = 1;
    }
    return mem->page_count;
}

uint8_t *memory_own(machine *m, uint64_t page, bool *moved) {
    memory *mem = &m->memory;
    uint8_t *old = memory_peek(m, page), *host = old;
    *moved = false;
    if (memory_writable(m, page)) return old;
    put_kind kind = memory_in_place(m, page) ? PUT_IN_PLACE : PUT_OWNED;
    if (kind == PUT_IN_PLACE) {
        if (!flat_note(&mem->flat, page, old)) return NULL;
    } else {
        if (!have_page(m)) return NULL;
        host = mem->pages[mem->page_count - 1];
        memcpy(host, old, PAGE_BYTES); // may fault; nothing has changed yet
    }
    if (!tree_put(m->home, &mem->own, mem->base->own.epoch, &mem->spare, page, host, kind)) return NULL;
    if ((*moved = kind == PUT_OWNED)) mem->page_count--;
    return host;
}

// Remember the pages that this stratum has changed, for whoever asks with machine_take_changed.
static void note_top(memory *mem) {
    uint64_t own = tree_owned(mem->own.nodes, NULL), flat = mem->flat.count;
    uint64_t count = mem->changed_count + own + flat;
    if (mem->tracking && count > mem->changed_capacity) {
        uint64_t *changed = realloc(mem->changed, 2 * count * sizeof *changed);
        if (changed)
            mem->changed = changed, mem->changed_capacity = 2 * count;
        else
            mem->tracking = false; // the next one to ask must look at everything
    }
    if (mem->tracking && own + flat) {
        tree_owned(mem->own.nodes, mem->changed + mem->changed_count);
        if (flat) memcpy(mem->changed + count - flat, mem->flat.pages, flat * sizeof *mem->changed);
        mem->changed_count = count;
    }
    flat_keep(&mem->flat);
}

// Start to track, and take the pages that may have changed since the last call, some of them twice; ~0 when
// that is not known. With too little room nothing is taken, and the count says how much is needed.
uint64_t machine_take_changed(machine *m, uint64_t *pages, uint64_t capacity) {
    memory *mem = &m->memory;
    if (!mem->tracking) {
        mem->tracking = true;
        mem->changed_count = 0;
        return ~0ull;
    }
    uint64_t open = tree_owned(mem->own.nodes, NULL), flat = mem->flat.count;
    uint64_t count = mem->changed_count + open + flat;
    if (count > capacity || !count) return count;
    if (mem->changed_count) memcpy(pages, mem->changed, mem->changed_count * sizeof *pages);
    tree_owned(mem->own.nodes, pages + mem->changed_count);
    if (flat) memcpy(pages + mem->changed_count + open, mem->flat.pages, flat * sizeof *pages);
    mem->changed_count = 0;
    return count;
}

void memory_attach(machine *m, layer *base) {
    memory *mem = &m->memory;
    mem->base = layer_hold(base);
    mem->own.root = base->own.root;
    mem->own.epoch = __atomic_add_fetch(&m->home->epochs, 1, __ATOMIC_RELAXED);
}

// Give back pages that nobody sees any more, but for a few.
static void recycle_pages(machine *m, void **pages, unsigned count) {
    memory *mem = &m->memory;
    while (count && mem->page_count < PAGES_AT_HAND) mem->pages[mem->page_count++] = pages[--count];
    if (count) pages_give(m->home, pages, count);
}

static void recycle_nodes(machine *m, node *n) {
    memory *mem = &m->memory;
    node *many = NULL;
    for (unsigned kept = 0; n; kept++) {
        node *next = n->next, **list = kept < SPARE_NODES ? &mem->spare : &many;
        n->next = *list;
        *list = n;
        n = next;
    }
    nodes_give(m->home, many);
}

void memory_drop_top(machine *m) {
    memory *mem = &m->memory;
    void *pages[NODE_CHILDREN];
    note_top(mem);
    for (const node *n = mem->own.nodes; n; n = n->next) recycle_pages(m, pages, leaf_pages(n, pages));
    recycle_nodes(m, mem->own.nodes);
    mem->own = (stratum){mem->base->own.root, NULL, 0, mem->own.epoch};
}

static void give_pages_at_hand(machine *m) {
    pages_give(m->home, m->memory.pages, m->memory.page_count);
    m->memory.page_count = 0;
}

void memory_release(machine *m) {
    memory *mem = &m->memory;
    board *b = m->home;
    nodes_bury(b, mem->own.nodes);
    nodes_give(b, mem->spare);
    give_pages_at_hand(m);
    arena_close(b, mem->top);
    layer_release(mem->base);
    flat_free(&mem->flat);
    free(mem->changed);
    memset(mem, 0, sizeof *mem);
}

// The machine's file for new pages; only before anything was written since the last seal.
bool machine_set_arena(machine *m, arena_grow grow, void *context) {
    memory *mem = &m->memory;
    arena *a = mem->own.nodes ? NULL : arena_open(m->home, grow, context);
    if (!a) return false;
    give_pages_at_hand(m);
    arena_close(m->home, mem->top);
    mem->top = a;
    return true;
}

// Nodes of the base that were hidden by the top, with what they own.
static void recycle_hidden(machine *m, node *hidden) {
    void *pages[NODE_CHILDREN];
    bool files =
        __atomic_load_n(&m->home->arenas, __ATOMIC_ACQUIRE); // some pages may be in a file that is over
    for (const node *n = hidden; n; n = n->next) {
        unsigned count = leaf_pages(n, pages);
        if (!count) continue;
        code_purge(m->home, pages, count);
        if (files)
            pages_give(m->home, pages, count);
        else
            recycle_pages(m, pages, count);
    }
    recycle_nodes(m, hidden);
}

// Make what the machine is now its base layer; O(nodes copied), or O(1) when others see the base. `stored`
// says that all of it is in files now.
layer *memory_seal(machine *m, bool stored) {
    memory *mem = &m->memory;
    layer *base = mem->base;
    if (!mem->own.nodes && base->stored >= stored && !memcmp(&base->state, &m->s, sizeof m->s)) return base;
    bool alone = __atomic_load_n(&base->references, __ATOMIC_ACQUIRE) == 1 && base->stored <= stored;
    if (!alone && !(mem->base = layer_make(m->home, &m->s))) {
        mem->base = base;
        return NULL;
    }
    note_top(mem);
    if (alone)
        recycle_hidden(m, layer_take_in(base, mem->own, &m->s, stored));
    else
        layer_put_on(mem->base, base, mem->own, stored);
    uint64_t epoch = __atomic_add_fetch(&m->home->epochs, 1, __ATOMIC_RELAXED);
    mem->own = (stratum){mem->base->own.root, NULL, 0, epoch};
    mmu_flush_writes(m);
    return mem->base;
}

// Make pages the machine's own, so that the layers they were in need not be kept.
void machine_adopt(adopt_call *call) {
    call->done = false;
    for (uint64_t i = 0; i < call->count; i++) {
        bool leave = false;
        if (!mmu_own(call->machine, call->pages[i], &leave)) return;
    }
    call->done = true;
}

// Does a machine of this board still take pages from this arena, or see some that are in it?
bool machine_uses(const machine *m, const void *context) {
    board *b = m->home;
    spin_lock(&b->lock);
    const arena *a = b->arenas;
    while (a && a->context != context) a = a->next;
    spin_unlock(&b->lock);
    return a;
}

// Of the pages these nodes own, those that the machine sees.
static uint64_t list_current(machine *m, const node *n, uint64_t *pages, uint64_t count, uint64_t capacity) {
    for (; n; n = n->next)
        for (uint64_t left = n->owned; left; left &= left - 1) {
            unsigned index = (unsigned)__builtin_ctzll(left);
            if (memory_peek(m, n->page + index) != n->child[index]) continue; // superseded above
            if (count < capacity) pages[count] = n->page + index;
            count++;
        }
    return count;
}

static void fill_slots(machine *m, const node *n, uint64_t *pages) {
    uint64_t slot;
    for (; n && m->memory.top; n = n->next)
        for (uint64_t left = n->owned; left; left &= left - 1) {
            unsigned index = (unsigned)__builtin_ctzll(left);
            const uint8_t *host = n->child[index];
            if (memory_peek(m, n->page + index) == host && arena_slot(m->memory.top, host, &slot))
                pages[slot] = n->page + index;
        }
}

// Pages that differ from the newest stored layer.
uint64_t machine_unstored(machine *m, uint64_t *pages, uint64_t capacity) {
    spin_lock(&m->home->lock);
    uint64_t count = list_current(m, m->memory.own.nodes, pages, 0, capacity);
    for (const layer *l = m->memory.base; l && !l->stored; l = l->parent)
        count = list_current(m, l->own.nodes, pages, count, capacity);
    spin_unlock(&m->home->lock);
    return count;
}

// For every slot of the machine's own arena: the page it holds, or ~0 when it is superseded.
uint64_t machine_slots(machine *m, uint64_t *pages, uint64_t capacity) {
    spin_lock(&m->home->lock);
    uint64_t used = arena_used(m->memory.top);
    if (used <= capacity) {
        memset(pages, 0xff, used * sizeof *pages);
        fill_slots(m, m->memory.own.nodes, pages);
        for (const layer *l = m->memory.base; l; l = l->parent) fill_slots(m, l->own.nodes, pages);
    }
    spin_unlock(&m->home->lock);
    return used;
}

uint64_t memory_next(const machine *m, uint64_t page) {
    uint64_t best = tree_next(m->home, m->memory.own.root, page);
    for (uint32_t i = 0; i < m->home->extent_count; i++) {
        const memory_extent *e = &m->home->extents[i];
        if (e->page + e->count <= page) continue;
        uint64_t candidate = e->page > page ? e->page : page;
        return candidate < best ? candidate : best;
    }
    return best;
}

// Copy up to `capacity` non-zero pages at or after the cursor, in address order.
void machine_collect_pages(collect_call *call) {
    machine *m = call->machine;
    uint64_t page = call->cursor;
    call->count = 0;
    while (call->count < call->capacity && (page = memory_next(m, page)) != ~0ull) {
        uint8_t *target = call->bytes + call->count * PAGE_BYTES;
        uint8_t *host = memory_peek(m, page);
        if (host != zero_page) {
            memcpy(target, host, PAGE_BYTES);
            if (memcmp(target, zero_page, PAGE_BYTES)) call->pages[call->count++] = page;
        }
        page++;
    }
    call->cursor = page;
}

// Copy these pages one after the other, leaving out those that are all zeros.
void machine_gather_pages(gather_call *call) {
    uint8_t *to = call->bytes;
    for (uint64_t i = 0; i < call->count; i++) {
        const uint8_t *host = memory_peek(call->machine, call->pages[i]);
        memcpy(to, host, PAGE_BYTES); // may fault, the test below cannot
        if (memcmp(to, zero_page, PAGE_BYTES))
            to += PAGE_BYTES;
        else
            call->pages[i] |= 1ull << 63;
    }
    call->written = (uint64_t)(to - call->bytes);
}
