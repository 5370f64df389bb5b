/* tree.c: a persistent radix tree from page numbers to pages, and who owns which of its nodes.
 *
 * Whoever changes a tree copies the nodes on the way that are not its own, so all older roots stay as they
 * are. A layer, or a machine's top, owns the nodes it made: its stratum. A leaf says which of the pages it
 * leads to were made with it, and are given back with it. A copy knows what it was copied from, which it
 * hides from everything above; so when two strata become one, what the upper one hides of the lower is found
 * and freed without a look at the rest.
 *
 * Epochs grow from a layer to those on top of it: a node is of the stratum whose epoch is the first not to be
 * below the node's.
 */
#include "machine.h"

enum { NODES_AT_ONCE = 8 };

static unsigned top_level(const board *b) { return b->height - 1; }

static unsigned index_at(uint64_t page, unsigned level) {
    return page >> (NODE_BITS * level) & (NODE_CHILDREN - 1);
}

// The node at this place, or NULL.
static node *node_at(const board *b, node *n, uint64_t page, unsigned level) {
    for (unsigned l = top_level(b); n && l > level; l--) n = n->child[index_at(page, l)];
    return n;
}

node *tree_leaf(const board *b, node *root, uint64_t page) { return node_at(b, root, page, 0); }

// strata

static void add(stratum *s, node *n) {
    n->previous = NULL;
    n->next = s->nodes;
    if (s->nodes) s->nodes->previous = n;
    s->nodes = n;
    s->count++;
}

static void take_out(stratum *s, node *n) {
    *(n->previous ? &n->previous->next : &s->nodes) = n->next;
    if (n->next) n->next->previous = n->previous;
    s->count--;
}

static node *node_new(board *b, node **spare) {
    if (!*spare) {
        void *blocks[NODES_AT_ONCE];
        unsigned count = pool_take(b->pool, BLOCK_NODE, blocks, NODES_AT_ONCE);
        for (unsigned i = count; i-- > 0;) {
            ((node *)blocks[i])->next = *spare;
            *spare = blocks[i];
        }
        if (!count) return NULL;
    }
    node *n = *spare;
    *spare = n->next;
    return n;
}

// Put `host` into the tree as the page's content, copying the nodes that are of `floor` or older.
bool tree_put(board *b, stratum *s, uint64_t floor, node **spare, uint64_t page, uint8_t *host,
              put_kind kind) {
    node **link = &s->root, *n = NULL;
    for (unsigned level = top_level(b) + 1; level-- > 0;) {
        n = *link;
        if (!n || n->epoch <= floor) {
            node *copy = node_new(b, spare);
            if (!copy) return false;
            if (n)
                memcpy(copy->child, n->child, sizeof copy->child);
            else
                memset(copy->child, 0, sizeof copy->child);
            copy->epoch = s->epoch;
            copy->owned = copy->in_place = 0;
            copy->page = page >> (NODE_BITS * (level + 1)) << (NODE_BITS * (level + 1));
            copy->level = level;
            copy->under = n;
            add(s, copy);
            *link = n = copy;
        }
        link = (node **)&n->child[index_at(page, level)];
    }
    uint64_t bit = 1ull << index_at(page, 0);
    *link = (node *)host;
    if (kind == PUT_OWNED) n->owned |= bit;
    if (kind == PUT_IN_PLACE) n->in_place |= bit;
    return true;
}

// The upper node has taken the lower one's place: what that owned and still shows passes to it; what it hides
// stays with the lower one, and goes with it.
static void supersede(node *upper, node *lower) {
    uint64_t owned = lower->owned;
    lower->owned = owned & upper->owned;
    upper->owned |= owned;
    upper->under = lower->under;
}

static void bury(stratum *s, node *n, node **dead) {
    take_out(s, n);
    n->next = *dead;
    *dead = n;
}

// Make one stratum of two, of which the upper lies directly on the lower, which nobody sees by itself.
// `floor` is the epoch of what is below. Nodes that nobody reaches any more become `dead`, with the pages
// they own.
stratum tree_merge(const board *b, stratum lower, uint64_t floor, stratum upper, node **dead) {
    node *next, *hidden;
    if (upper.count <= lower.count) {
        for (node *n = upper.nodes; n; n = n->next)
            if ((hidden = n->under) && hidden->epoch > floor) {
                supersede(n, hidden);
                bury(&lower, hidden, dead);
            }
    } else {
        for (node *n = lower.nodes; n; n = next) {
            next = n->next;
            node *now = node_at(b, upper.root, n->page, n->level);
            if (now == n) continue;
            supersede(now, n);
            bury(&lower, n, dead);
        }
    }
    stratum few = upper.count < lower.count ? upper : lower, many = upper.count < lower.count ? lower : upper;
    for (node *n = few.nodes; n; n = next) {
        next = n->next;
        add(&many, n);
    }
    return (stratum){upper.root, many.nodes, many.count, upper.epoch};
}

// The pages a list of nodes owns; returns how many, and writes them down unless `pages` is NULL.
uint64_t tree_owned(const node *n, uint64_t *pages) {
    uint64_t count = 0;
    for (; n; n = n->next) {
        if (pages)
            for (uint64_t left = n->owned; left; left &= left - 1)
                *pages++ = n->page + (unsigned)__builtin_ctzll(left);
        count += (unsigned)__builtin_popcountll(n->owned);
    }
    return count;
}

// Where a leaf's own pages are: at most NODE_CHILDREN.
unsigned leaf_pages(const node *leaf, void **pages) {
    unsigned count = 0;
    for (uint64_t left = leaf->owned; left; left &= left - 1)
        pages[count++] = leaf->child[__builtin_ctzll(left)];
    return count;
}

// Give back pages that no tree leads to.
void pages_give(board *b, void **pages, unsigned count) {
    count = arenas_give(b, pages, count);
    if (count) pool_give(b->pool, BLOCK_PAGE, pages, count);
}

// Give back a list of nodes that nobody reaches.
void nodes_give(board *b, node *n) {
    void *blocks[NODE_CHILDREN];
    unsigned count = 0;
    while (n) {
        blocks[count++] = n;
        n = n->next;
        if (count == NODE_CHILDREN || !n) {
            pool_give(b->pool, BLOCK_NODE, blocks, count);
            count = 0;
        }
    }
}

// The same, with the pages they own, from which others may have run code.
void nodes_bury(board *b, node *nodes) {
    void *pages[NODE_CHILDREN];
    for (const node *n = nodes; n; n = n->next) {
        unsigned count = leaf_pages(n, pages);
        if (!count) continue;
        code_purge(b, pages, count);
        pages_give(b, pages, count);
    }
    nodes_give(b, nodes);
}

// The first page at or after `page` that has content of its own in the tree; ~0 when there is none.
static uint64_t next_in(node *n, unsigned level, uint64_t base, uint64_t from) {
    uint64_t span = 1ull << (NODE_BITS * level);
    for (unsigned i = 0; i < NODE_CHILDREN; i++) {
        uint64_t start = base + i * span;
        if (!n->child[i] || start + span - 1 < from) continue;
        if (level == 0) return start;
        uint64_t found = next_in(n->child[i], level - 1, start, from);
        if (found != ~0ull) return found;
    }
    return ~0ull;
}

uint64_t tree_next(const board *b, node *root, uint64_t page) {
    return root ? next_in(root, top_level(b), 0, page) : ~0ull;
}
