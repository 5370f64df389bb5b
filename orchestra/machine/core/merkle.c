/* merkle.c: the hashes of a memory's pages as a sparse Merkle tree (what is hashed: proof.py).
 *
 * A tree is a value: `merkle_put` makes another, which shares with it all that is the same. A node is the
 * smallest subtree with all of its pages, so that one of n pages has 2 n - 1 nodes, however far these are
 * apart; what is all zeros has none.
 */
#include "machine.h"

struct merkle_node { // of 2**height pages, from page number << height on
    uint32_t references, height;
    uint64_t number;
    hash hash;
    merkle_node *left, *right; // NULL at height 0, and only there
};
_Static_assert(sizeof(merkle_node) <= MERKLE_NODE_BYTES, "the pool has room for one");

static hash hash_pair(const merkle *k, const hash *left, const hash *right) {
    hash pair[2] = {*left, *right};
    return sha256(k->feed, pair, sizeof pair);
}

// What the trees of a process share. NULL: out of memory.
merkle *merkle_new(pool *p, bool plain) {
    merkle *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->pool = p;
    k->feed = sha256_best(plain);
    k->zeros[0] = sha256(k->feed, zero_page, PAGE_BYTES);
    for (unsigned i = 0; i < MERKLE_HEIGHT; i++) k->zeros[i + 1] = hash_pair(k, &k->zeros[i], &k->zeros[i]);
    return k;
}

static bool same(const hash *a, const hash *b) { return !memcmp(a, b, sizeof *a); }

// The hash of a node as that of the larger subtree of `height`, in which the rest is zeros.
static hash hash_at(const merkle *k, const merkle_node *n, unsigned height) {
    hash h = n->hash;
    for (unsigned at = n->height; at < height; at++)
        h = n->number >> (at - n->height) & 1 ? hash_pair(k, &k->zeros[at], &h)
                                              : hash_pair(k, &h, &k->zeros[at]);
    return h;
}

static merkle_node *hold(merkle_node *n) {
    if (n) __atomic_add_fetch(&n->references, 1, __ATOMIC_RELAXED);
    return n;
}

void merkle_release(const merkle *k, merkle_node *n) {
    while (n && !__atomic_sub_fetch(&n->references, 1, __ATOMIC_ACQ_REL)) {
        merkle_node *right = n->right;
        merkle_release(k, n->left); // as deep as the tree is high
        pool_give_one(k->pool, BLOCK_HASHES, n);
        n = right;
    }
}

typedef struct {
    const merkle *kind;
    const uint64_t *numbers;
    const hash *hashes;
    bool failed; // out of memory
} putting;

static merkle_node *new_node(putting *p, merkle_node node) {
    merkle_node *n = pool_take_one(p->kind->pool, BLOCK_HASHES);
    if (n)
        *n = node;
    else
        p->failed = true;
    return n;
}

// The subtree with these two in it, which it takes over.
static merkle_node *join(putting *p, unsigned height, merkle_node *left, merkle_node *right) {
    if (!left || !right) return left ? left : right;
    hash l = hash_at(p->kind, left, height - 1), r = hash_at(p->kind, right, height - 1);
    uint64_t number = left->number >> (height - left->height);
    merkle_node *n = new_node(p, (merkle_node){1, height, number, hash_pair(p->kind, &l, &r), left, right});
    if (!n) {
        merkle_release(p->kind, left);
        merkle_release(p->kind, right);
    }
    return n;
}

static merkle_node *leaf(putting *p, uint64_t i) {
    if (same(&p->hashes[i], &p->kind->zeros[0])) return NULL;
    return new_node(p, (merkle_node){1, 0, p->numbers[i], p->hashes[i], NULL, NULL});
}

// The tree `old` in which the pages from `begin` to `end`, at least one, have other hashes.
static merkle_node *put(putting *p, merkle_node *old, uint64_t begin, uint64_t end) {
    uint64_t first = p->numbers[begin], last = p->numbers[end - 1];
    if (old) {
        uint64_t start = old->number << old->height, stop = start + (1ull << old->height) - 1;
        first = first < start ? first : start, last = last > stop ? last : stop;
    }
    unsigned height = first == last ? 0 : 64 - (unsigned)__builtin_clzll(first ^ last);
    if (!height) return leaf(p, begin);
    merkle_node *left = NULL, *right = NULL;
    if (old && old->height == height)
        left = old->left, right = old->right;
    else if (old)
        *(old->number >> (height - 1 - old->height) & 1 ? &right : &left) = old;
    uint64_t half = (first >> height << height) + (1ull << (height - 1)), split = begin;
    while (split < end && p->numbers[split] < half) split++;
    left = split > begin ? put(p, left, begin, split) : hold(left);
    right = end > split ? put(p, right, split, end) : hold(right);
    return join(p, height, left, right);
}

// Make the tree in which these pages, in ascending order, have these hashes. False: out of memory.
bool merkle_put(const merkle *k, merkle_node *tree, const uint64_t *numbers, const uint8_t *hashes,
                uint64_t count, merkle_node **made) {
    putting p = {k, numbers, (const hash *)hashes, false};
    *made = count ? put(&p, tree, 0, count) : hold(tree);
    if (!p.failed) return true;
    merkle_release(k, *made);
    return false;
}

// The hash of the `number`-th subtree of `height`.
void merkle_find(const merkle *k, const merkle_node *n, unsigned height, uint64_t number, uint8_t *out) {
    hash found = k->zeros[height];
    while (n && n->height > height && number >> (n->height - height) == n->number)
        n = number >> (n->height - 1 - height) & 1 ? n->right : n->left;
    if (n && n->height <= height && n->number >> (height - n->height) == number)
        found = hash_at(k, n, height);
    memcpy(out, &found, sizeof found);
}

// a machine's pages; page 0 is the state, for no machine has memory there

static hash hash_page(const hash_call *call, uint64_t page) {
    machine *m = call->machine;
    const void *host = page ? memory_peek(m, page) : (const void *)&m->s;
    if (host == zero_page) return call->kind->zeros[0];
    return sha256(call->kind->feed, host, PAGE_BYTES); // may fault
}

// Hash these pages.
void machine_hash_pages(hash_call *call) {
    for (uint64_t i = 0; i < call->count; i++) ((hash *)call->hashes)[i] = hash_page(call, call->pages[i]);
}

// Hash up to `count` pages at or after the cursor, in address order, but for those of zeros.
void machine_hash_all(hash_call *call) {
    uint64_t page = call->cursor, count = 0;
    for (; count < call->count; page++) {
        if (page && (page = memory_next(call->machine, page)) == ~0ull) break;
        hash h = hash_page(call, page);
        if (same(&h, &call->kind->zeros[0])) continue;
        call->pages[count] = page;
        ((hash *)call->hashes)[count++] = h;
    }
    call->cursor = page;
    call->count = count;
}
