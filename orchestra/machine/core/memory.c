/* memory.c: guest memory as a value: fork shares it, a store copies one page, dropping the top goes back. */
#include "machine.h"

static const uint8_t zero_page[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

// arenas: bump-allocated pages

static arena *arena_new(arena_grow grow, void *context) {
    arena *a = calloc(1, sizeof *a);
    if (!a) return NULL;
    a->references = 1;
    a->grow = grow;
    a->context = context;
    return a;
}

static void arena_release(arena *a) {
    if (!a || __atomic_sub_fetch(&a->references, 1, __ATOMIC_ACQ_REL)) return;
    if (!a->grow)
        for (uint32_t i = 0; i < a->chunk_count; i++) free(a->chunks[i].host);
    free(a->chunks);
    free(a->pages);
    free(a);
}

static bool arena_extend(arena *a) {
    if (a->chunk_count == a->chunk_capacity) {
        uint32_t capacity = a->chunk_capacity ? a->chunk_capacity * 2 : 8;
        arena_chunk *chunks = realloc(a->chunks, capacity * sizeof *chunks);
        if (!chunks) return false;
        a->chunks = chunks, a->chunk_capacity = capacity;
    }
    uint64_t wanted = a->slots < 16 ? 16 : a->slots > 4096 ? 4096 : a->slots, got = wanted * PAGE_BYTES;
    uint64_t *pages = realloc(a->pages, (a->slots + wanted) * sizeof *pages);
    if (!pages) return false;
    a->pages = pages;
    void *host = a->grow ? a->grow(a->context, wanted * PAGE_BYTES, &got) : aligned_alloc(PAGE_BYTES, got);
    if (!host) return false;
    uint64_t count = got / PAGE_BYTES;
    if (count > wanted) {
        pages = realloc(a->pages, (a->slots + count) * sizeof *pages);
        if (pages)
            a->pages = pages;
        else
            count = wanted;
    }
    a->chunks[a->chunk_count++] = (arena_chunk){host, a->slots, count};
    a->slots += count;
    return true;
}

static uint8_t *arena_address(const arena *a, uint64_t slot) {
    uint32_t low = 0, high = a->chunk_count;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (a->chunks[middle].first <= slot)
            low = middle;
        else
            high = middle;
    }
    return a->chunks[low].host + (slot - a->chunks[low].first) * PAGE_BYTES;
}

// the tree

static node *node_new(node **list, node **spare, uint64_t epoch) {
    node *n = spare ? *spare : NULL;
    if (n)
        *spare = n->next;
    else if (!(n = malloc(sizeof *n)))
        return NULL;
    n->epoch = epoch;
    n->next = *list;
    *list = n;
    return n;
}

static void nodes_free(node *n) {
    while (n) {
        node *next = n->next;
        free(n);
        n = next;
    }
}

static node *tree_leaf(const board *b, node *n, uint64_t page) {
    for (int shift = NODE_BITS * ((int)b->height - 1); n && shift > 0; shift -= NODE_BITS)
        n = n->child[(page >> shift) & (NODE_CHILDREN - 1)];
    return n;
}

// Put `host` into the tree as the page's content, copying the nodes that are not of this epoch.
static bool tree_put(const board *b, node **root, node **list, node **spare, uint64_t epoch, uint64_t page,
                     uint8_t *host, bool owned) {
    node **link = root, *n = NULL;
    for (int shift = NODE_BITS * ((int)b->height - 1); shift >= 0; shift -= NODE_BITS) {
        n = *link;
        if (!n || n->epoch != epoch) {
            node *copy = node_new(list, spare, epoch);
            if (!copy) return false;
            if (n)
                memcpy(copy->child, n->child, sizeof copy->child);
            else
                memset(copy->child, 0, sizeof copy->child);
            copy->owned = 0;
            *link = n = copy;
        }
        link = (node **)&n->child[(page >> shift) & (NODE_CHILDREN - 1)];
    }
    unsigned index = page & (NODE_CHILDREN - 1);
    n->child[index] = host;
    if (owned) n->owned |= 1ull << index;
    return true;
}

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

static uint8_t *page_below(const board *b, node *root, uint64_t page) {
    node *leaf = tree_leaf(b, root, page);
    uint8_t *host = leaf ? leaf->child[page & (NODE_CHILDREN - 1)] : NULL;
    if (host) return host;
    const memory_extent *e = extent_of(b, page);
    return e ? e->host + (page - e->page) * PAGE_BYTES : (uint8_t *)zero_page;
}

uint8_t *memory_peek(machine *m, uint64_t page) { return page_below(m->home, m->memory.root, page); }

// May a store go to what memory_peek returns?
bool memory_writable(machine *m, uint64_t page) {
    memory *mem = &m->memory;
    node *leaf = tree_leaf(m->home, mem->root, page);
    unsigned index = page & (NODE_CHILDREN - 1);
    return leaf && leaf->child[index] && leaf->epoch == mem->epoch && (leaf->owned >> index & 1);
}

// Is it a page of a file that is stored to in place? Then it is never copied, and nobody else has it.
bool memory_in_place(const machine *m, uint64_t page) {
    const memory_extent *e = extent_of(m->home, page);
    return e && (e->flags & EXTENT_SHARED);
}

static bool top_slot(memory *mem, uint64_t *slot) {
    if (!mem->top && !(mem->top = arena_new(NULL, NULL))) return false;
    if (mem->top->used == mem->top->slots && !arena_extend(mem->top)) return false;
    *slot = mem->top->used;
    return true;
}

uint8_t *memory_own(machine *m, uint64_t page, bool *moved) {
    memory *mem = &m->memory;
    uint8_t *old = memory_peek(m, page);
    *moved = false;
    if (memory_writable(m, page)) return old;
    if (memory_in_place(m, page)) {
        if (!flat_note(&mem->flat, page, old)) return NULL;
        return tree_put(m->home, &mem->root, &mem->nodes, &mem->spare, mem->epoch, page, old, true) ? old
                                                                                                    : NULL;
    }
    uint64_t slot;
    if (!top_slot(mem, &slot)) return NULL;
    uint8_t *host = arena_address(mem->top, slot);
    memcpy(host, old, PAGE_BYTES); // may fault; nothing has changed yet
    if (!tree_put(m->home, &mem->root, &mem->nodes, &mem->spare, mem->epoch, page, host, true)) return NULL;
    mem->top->pages[slot] = page;
    mem->top->used = slot + 1;
    *moved = true;
    return host;
}

// layers

layer *layer_hold(layer *l) {
    if (l) __atomic_add_fetch(&l->references, 1, __ATOMIC_RELAXED);
    return l;
}

void layer_release(layer *l) {
    while (l && !__atomic_sub_fetch(&l->references, 1, __ATOMIC_ACQ_REL)) {
        layer *parent = l->parent;
        nodes_free(l->nodes);
        if (l->pages)
            for (uint64_t slot = l->first; slot < l->end; slot++) {
                uint8_t *host = arena_address(l->pages, slot);
                code_purge(l->home, host, PAGE_BYTES);
            }
        arena_release(l->pages);
        board_release(l->home);
        free(l);
        l = parent;
    }
}

layer *layer_new(board *b, layer *parent, const uint8_t *initial) {
    layer *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    l->references = 1;
    l->parent = layer_hold(parent);
    l->root = parent ? parent->root : NULL;
    l->epoch = __atomic_add_fetch(&b->epochs, 1, __ATOMIC_RELAXED);
    l->home = board_hold(b);
    memcpy(&l->state, initial, sizeof l->state);
    return l;
}

// Put pages of a mapped file into a layer that is being built: the n-th stands at first_host + 4096 n, ~0 is
// skipped, and bit 63 marks a page of zeros that has no place in the file.
bool layer_add_pages(layer *l, const uint64_t *pages, uintptr_t first_host, uint64_t count) {
    uint8_t *host = (uint8_t *)first_host;
    for (uint64_t i = 0; i < count; i++) {
        bool zero = pages[i] >> 63;
        if (pages[i] != ~0ull &&
            !tree_put(l->home, &l->root, &l->nodes, NULL, l->epoch, pages[i] & ~(1ull << 63),
                      zero ? (uint8_t *)zero_page : host, false))
            return false;
        if (!zero || pages[i] == ~0ull) host += PAGE_BYTES;
    }
    return true;
}

// The position of the first entry of such an index that is in none of the ranges of page numbers (first and
// end of each, in turn), else `count`; and how many entries have a page in the file.
uint64_t index_check(const uint64_t *pages, uint64_t count, const uint64_t *bounds, uint64_t ranges,
                     uint64_t *slots) {
    uint64_t last = 0;
    *slots = 0;
    for (uint64_t i = 0; i < count; i++) {
        bool zero = pages[i] >> 63 && pages[i] != ~0ull;
        *slots += !zero;
        if (pages[i] == ~0ull) continue;
        uint64_t page = pages[i] & ~(1ull << 63), r = last;
        if (!ranges || page < bounds[2 * r] || page >= bounds[2 * r + 1])
            for (r = 0; r < ranges && (page < bounds[2 * r] || page >= bounds[2 * r + 1]);) r++;
        if (r == ranges) return i;
        last = r;
    }
    return count;
}

void layer_set_stored(layer *l) { l->stored = true; }

// a machine's memory

// Remember that these pages have changed, for whoever asks with machine_take_changed.
static void note_changed(memory *mem, const uint64_t *pages, uint64_t count) {
    if (!mem->tracking || !count) return;
    if (mem->changed_count + count > mem->changed_capacity) {
        uint64_t capacity = (mem->changed_count + count) * 2;
        uint64_t *changed = realloc(mem->changed, capacity * sizeof *changed);
        if (!changed) {
            mem->tracking = false; // the next one to ask must look at everything
            return;
        }
        mem->changed = changed;
        mem->changed_capacity = capacity;
    }
    memcpy(mem->changed + mem->changed_count, pages, count * sizeof *mem->changed);
    mem->changed_count += count;
}

static void note_top(memory *mem) {
    if (mem->top) note_changed(mem, mem->top->pages + mem->first, mem->top->used - mem->first);
    note_changed(mem, mem->flat.pages, mem->flat.count);
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
    uint64_t open = mem->top ? mem->top->used - mem->first : 0, flat = mem->flat.count;
    uint64_t count = mem->changed_count + open + flat;
    if (count > capacity || !count) return count;
    if (mem->changed_count) memcpy(pages, mem->changed, mem->changed_count * sizeof *pages);
    if (open) memcpy(pages + mem->changed_count, mem->top->pages + mem->first, open * sizeof *pages);
    if (flat) memcpy(pages + mem->changed_count + open, mem->flat.pages, flat * sizeof *pages);
    mem->changed_count = 0;
    return count;
}

void memory_attach(machine *m, layer *base) {
    memory *mem = &m->memory;
    mem->base = layer_hold(base);
    mem->root = base->root;
    mem->epoch = __atomic_add_fetch(&m->home->epochs, 1, __ATOMIC_RELAXED);
}

void memory_drop_top(machine *m) {
    memory *mem = &m->memory;
    while (mem->nodes) {
        node *n = mem->nodes;
        mem->nodes = n->next;
        n->next = mem->spare;
        mem->spare = n;
    }
    mem->root = mem->base->root;
    note_top(mem);
    if (mem->top) mem->top->used = mem->first;
}

void memory_release(machine *m) {
    memory *mem = &m->memory;
    nodes_free(mem->nodes);
    nodes_free(mem->spare);
    arena_release(mem->top);
    layer_release(mem->base);
    flat_free(&mem->flat);
    free(mem->changed);
    memset(mem, 0, sizeof *mem);
}

// The machine's file for new pages; only before anything was written since the last seal.
bool machine_set_arena(machine *m, arena_grow grow, void *context) {
    memory *mem = &m->memory;
    arena *a = mem->nodes ? NULL : arena_new(grow, context);
    if (!a) return false;
    arena_release(mem->top);
    mem->top = a;
    mem->first = 0;
    return true;
}

// Move the top's pages into a base layer that nobody else can see, in the same arena. A fault of the file
// comes in the first loop, before anything changed.
static bool merge_down(machine *m) {
    memory *mem = &m->memory;
    layer *base = mem->base;
    arena *a = mem->top;
    uint64_t end = base->end;
    for (uint64_t slot = mem->first; slot < a->used; slot++) {
        volatile uint8_t *host = arena_address(a, slot);
        *host = *host;
        host = page_below(m->home, base->root, a->pages[slot]);
        (void)*host;
    }
    note_top(mem);
    for (uint64_t slot = mem->first; slot < a->used; slot++) {
        uint64_t page = a->pages[slot];
        uint8_t *source = arena_address(a, slot);
        node *leaf = tree_leaf(m->home, base->root, page);
        unsigned index = page & (NODE_CHILDREN - 1);
        if (leaf && leaf->epoch == base->epoch && (leaf->owned >> index & 1)) {
            memcpy(leaf->child[index], source, PAGE_BYTES);
            code_purge(m->home, leaf->child[index], PAGE_BYTES);
            continue;
        }
        uint8_t *target = arena_address(a, end);
        if (!tree_put(m->home, &base->root, &base->nodes, &mem->spare, base->epoch, page, target, true))
            return false;
        if (target != source) memcpy(target, source, PAGE_BYTES);
        a->pages[end++] = page;
    }
    base->end = mem->first = end;
    return true;
}

// Make what the machine is now its base layer; O(1), or O(pages dirtied) when nobody else sees the base.
// `stored` says that all of it is in files now.
layer *memory_seal(machine *m, bool stored) {
    memory *mem = &m->memory;
    layer *base = mem->base;
    bool clean = !mem->nodes;
    if (clean && base->stored >= stored && !memcmp(&base->state, &m->s, sizeof m->s)) return base;
    bool alone = __atomic_load_n(&base->references, __ATOMIC_ACQUIRE) == 1 && base->stored <= stored;
    if (alone && (clean || (base->pages && base->pages == mem->top && base->end == mem->first))) {
        if (!clean) {
            engine_flush(m);
            if (!merge_down(m)) return NULL;
            memory_drop_top(m);
        }
        base->state = m->s;
        base->stored = stored;
        return base;
    }
    layer *l = layer_new(m->home, base, (const uint8_t *)&m->s);
    if (!l) return NULL;
    l->root = mem->root;
    l->nodes = mem->nodes;
    l->epoch = mem->epoch;
    l->stored = stored;
    note_top(mem);
    if (mem->top) {
        __atomic_add_fetch(&mem->top->references, 1, __ATOMIC_RELAXED);
        l->pages = mem->top;
        l->first = mem->first;
        l->end = mem->first = mem->top->used;
    }
    mem->nodes = NULL;
    mem->epoch = __atomic_add_fetch(&m->home->epochs, 1, __ATOMIC_RELAXED);
    mem->base = l;
    layer_release(base); // l holds it now
    mmu_flush_writes(m);
    return l;
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

static bool superseded(machine *m, const layer *l) {
    if (!l->pages) return false;
    for (uint64_t slot = l->first; slot < l->end; slot++)
        if (memory_peek(m, l->pages->pages[slot]) == arena_address(l->pages, slot)) return false;
    return true;
}

// Let go of layers below the base that nobody else sees and that show through nowhere. No node of theirs can
// be reached any more: the paths to all their pages were copied when those were superseded.
void machine_collapse(machine *m) {
    layer *base = m->memory.base;
    if (__atomic_load_n(&base->references, __ATOMIC_ACQUIRE) != 1) return;
    layer *below;
    while ((below = base->parent) && __atomic_load_n(&below->references, __ATOMIC_ACQUIRE) == 1 &&
           below->stored <= base->stored && superseded(m, below)) {
        base->parent = layer_hold(below->parent);
        layer_release(below);
    }
}

// Does this arena hold pages of the machine's, or of layers below it that others keep?
bool machine_uses(const machine *m, const void *context) {
    if (m->memory.top && m->memory.top->context == context) return true;
    for (const layer *l = m->memory.base; l; l = l->parent)
        if (l->pages && l->pages->context == context) return true;
    return false;
}

// Pages that differ from the newest stored layer, and where they are.
uint64_t machine_unstored(machine *m, uint64_t *pages, uint64_t capacity) {
    memory *mem = &m->memory;
    uint64_t count = 0;
    const arena *a = mem->top;
    uint64_t first = mem->first, end = a ? a->used : 0;
    const layer *l = mem->base;
    for (;;) {
        for (uint64_t slot = first; a && slot < end; slot++) {
            uint8_t *host = arena_address(a, slot);
            if (memory_peek(m, a->pages[slot]) != host) continue; // superseded above
            if (count < capacity) pages[count] = a->pages[slot];
            count++;
        }
        if (!l || l->stored) return count;
        a = l->pages, first = l->first, end = l->end;
        l = l->parent;
    }
}

// For every slot of the machine's own arena: the page it holds, or ~0 when it is superseded.
uint64_t machine_slots(machine *m, uint64_t *pages, uint64_t capacity) {
    const arena *a = m->memory.top;
    uint64_t used = a ? a->used : 0;
    for (uint64_t slot = 0; slot < used && slot < capacity; slot++)
        pages[slot] = memory_peek(m, a->pages[slot]) == arena_address(a, slot) ? a->pages[slot] : ~0ull;
    return used;
}

// The first page at or after `page` that has content of its own in the tree; ~0 when there is none.
static uint64_t tree_next(node *n, int level, uint64_t base, uint64_t from) {
    uint64_t span = 1ull << (NODE_BITS * level);
    for (unsigned i = 0; i < NODE_CHILDREN; i++) {
        uint64_t start = base + i * span;
        if (!n->child[i] || start + span - 1 < from) continue;
        if (level == 0) return start;
        uint64_t found = tree_next(n->child[i], level - 1, start, from);
        if (found != ~0ull) return found;
    }
    return ~0ull;
}

static uint64_t next_page(machine *m, uint64_t page) {
    uint64_t best = m->memory.root ? tree_next(m->memory.root, (int)m->home->height - 1, 0, page) : ~0ull;
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
    while (call->count < call->capacity && (page = next_page(m, page)) != ~0ull) {
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
