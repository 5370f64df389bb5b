/* layer.c: immutable memories, each on top of another, and when two of them become one.
 *
 * A layer stays while a machine, the host or a layer on top of it refers to it. When nothing but one layer on
 * top of it does, nobody can see it as it was: it is merged into that one, and what is hidden there is given
 * back. So what is kept is what somebody can still reach, whoever let go of the rest, on whatever thread and
 * in whatever order. The board's lock covers who refers to whom and who owns which nodes; machines that run
 * read neither.
 */
#include "machine.h"

layer *layer_hold(layer *l) {
    if (l) __atomic_add_fetch(&l->references, 1, __ATOMIC_RELAXED);
    return l;
}

// What is of this epoch or older belongs to the layers below.
static uint64_t floor_of(const layer *l) { return l->parent ? l->parent->own.epoch : 0; }

static void add_heir(layer *l) {
    layer *parent = l->parent;
    l->sibling = parent->heirs;
    l->sibling_before = NULL;
    if (parent->heirs) parent->heirs->sibling_before = l;
    parent->heirs = l;
}

static void remove_heir(layer *l) {
    *(l->sibling_before ? &l->sibling_before->sibling : &l->parent->heirs) = l->sibling;
    if (l->sibling) l->sibling->sibling_before = l->sibling_before;
}

// With the lock: merge what only this layer refers to into it. What is over is put before `over` and `dead`.
static void settle(layer *l, layer **over, node **dead) {
    layer *below;
    while ((below = l->parent) && __atomic_load_n(&below->references, __ATOMIC_ACQUIRE) == 1 &&
           below->stored <= l->stored) {
        stratum both = tree_merge(l->home, below->own, floor_of(below), l->own, dead);
        l->own.nodes = both.nodes, l->own.count = both.count; // a machine may be reading the rest
        below->own.nodes = NULL;
        remove_heir(l);
        if ((l->parent = below->parent)) {
            remove_heir(below);
            add_heir(l);
        }
        below->parent = *over;
        *over = below;
    }
}

// Without the lock, for it takes as long as there are pages.
static void finish(board *b, layer *over, node *dead) {
    nodes_bury(b, dead);
    while (over) {
        layer *next = over->parent;
        nodes_bury(b, over->own.nodes);
        pool_give_one(b->pool, BLOCK_LAYER, over);
        board_release(b);
        over = next;
    }
}

// One reference less, if enough are left that nothing comes of it.
static bool one_of_many(layer *l) {
    uint32_t references = __atomic_load_n(&l->references, __ATOMIC_RELAXED);
    while (references > 2)
        if (__atomic_compare_exchange_n(&l->references, &references, references - 1, true, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
            return true;
    return false;
}

void layer_release(layer *l) {
    if (!l || one_of_many(l)) return;
    board *b = l->home;
    layer *over = NULL, *parent;
    node *dead = NULL;
    spin_lock(&b->lock);
    for (; l && !__atomic_sub_fetch(&l->references, 1, __ATOMIC_ACQ_REL); l = parent) {
        if ((parent = l->parent)) remove_heir(l);
        l->parent = over;
        over = l;
    }
    if (l && l->heirs && __atomic_load_n(&l->references, __ATOMIC_ACQUIRE) == 1)
        settle(l->heirs, &over, &dead);
    spin_unlock(&b->lock);
    finish(b, over, dead);
}

// One that holds a state, and no memory yet.
layer *layer_make(board *b, const void *initial) {
    layer *l = pool_take_one(b->pool, BLOCK_LAYER);
    if (!l) return NULL;
    memset(l, 0, offsetof(layer, state));
    l->references = 1;
    l->home = board_hold(b);
    memcpy(&l->state, initial, sizeof l->state);
    return l;
}

layer *layer_new(board *b, layer *parent, const uint8_t *initial) {
    layer *l = layer_make(b, initial);
    if (!l) return NULL;
    l->own.epoch = __atomic_add_fetch(&b->epochs, 1, __ATOMIC_RELAXED);
    if (!parent) return l;
    l->own.root = parent->own.root;
    l->parent = layer_hold(parent);
    spin_lock(&b->lock);
    add_heir(l);
    spin_unlock(&b->lock);
    return l;
}

// Put a new layer, of a machine's top, on the machine's base; it takes over the reference to that.
void layer_put_on(layer *l, layer *base, stratum top, bool stored) {
    layer *over = NULL;
    node *dead = NULL;
    l->own = top;
    l->stored = stored;
    l->parent = base;
    spin_lock(&l->home->lock);
    add_heir(l);
    settle(l, &over, &dead); // others may have let go of the base meanwhile
    spin_unlock(&l->home->lock);
    finish(l->home, over, dead);
}

// Put a machine's top into its base, which nobody else sees. Returns the nodes that are hidden now.
node *layer_take_in(layer *l, stratum top, const state *s, bool stored) {
    layer *over = NULL;
    node *dead = NULL, *hidden = NULL;
    l->state = *s;
    spin_lock(&l->home->lock);
    l->own = tree_merge(l->home, l->own, floor_of(l), top, &hidden);
    l->stored = stored;
    settle(l, &over, &dead);
    spin_unlock(&l->home->lock);
    finish(l->home, over, dead);
    return hidden;
}

// Put pages of a mapped file into a layer that is being built: the n-th stands at first_host + 4096 n, ~0 is
// skipped, and bit 63 marks a page of zeros that has no place in the file.
bool layer_add_pages(layer *l, const uint64_t *pages, uintptr_t first_host, uint64_t count) {
    uint8_t *host = (uint8_t *)first_host;
    uint64_t floor = floor_of(l);
    node *spare = NULL;
    bool done = true;
    for (uint64_t i = 0; i < count && done; i++) {
        bool zero = pages[i] >> 63;
        if (pages[i] != ~0ull)
            done = tree_put(l->home, &l->own, floor, &spare, pages[i] & ~(1ull << 63),
                            zero ? (uint8_t *)zero_page : host, PUT_MAPPED);
        if (!zero || pages[i] == ~0ull) host += PAGE_BYTES;
    }
    nodes_give(l->home, spare);
    return done;
}

void layer_set_stored(layer *l) {
    layer *over = NULL;
    node *dead = NULL;
    spin_lock(&l->home->lock);
    l->stored = true;
    settle(l, &over, &dead);
    spin_unlock(&l->home->lock);
    finish(l->home, over, dead);
}

const state *layer_state(const layer *l) { return &l->state; }

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
