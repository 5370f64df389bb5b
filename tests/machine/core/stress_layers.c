/* Machines that are forked, sealed, rolled back and freed in many threads at once; built by test_layers.py.
 *
 * Each machine is compared with a plain array of what its pages hold. Threads hand layers to one another, so
 * that what one has made is let go of by others. In the end every block must have come back.
 */
#include <pthread.h>
#include <stdio.h>

#include "machine.h"

enum { PAGES = 200, THREADS = 4, MACHINES = 6, SLOTS = 5 };
static const uint64_t RAM = 0x80000000;

typedef struct {
    uint64_t page[PAGES];
} contents;

typedef struct { // a layer that any thread may start from
    pthread_mutex_t lock;
    layer *layer;
    contents now;
} handed;

typedef struct {
    board *home;
    handed slots[SLOTS];
    uint64_t version;
    uint64_t steps;
} bench;

typedef struct {
    bench *bench;
    uint32_t seed;
    struct {
        machine *machine;
        contents now, sealed;
    } own[MACHINES];
} worker;

static uint32_t next(worker *w, uint32_t below) {
    w->seed = w->seed * 1664525 + 1013904223;
    return (w->seed >> 8) % below;
}

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    abort();
}

static void touch(machine *m, uint64_t page, uint64_t *value, bool write) {
    for (uint64_t offset = 0; offset < PAGE_BYTES; offset += PAGE_BYTES - sizeof *value) {
        uint64_t found = *value;
        access_call call = {.machine = m,
                            .address = RAM + page * PAGE_BYTES + offset,
                            .data = (uint8_t *)&found,
                            .length = sizeof found,
                            .write = write};
        machine_access(&call);
        if (!call.done) fail("no access");
        if (offset && !write && found != *value) fail("a page of two versions");
        *value = found;
    }
}

static layer *seal(machine *m, bool stored) {
    seal_call call = {.machine = m, .stored = stored};
    machine_seal(&call);
    if (!call.layer) fail("no layer");
    return call.layer;
}

static void *grow(void *context, uint64_t wanted, uint64_t *got) {
    void **chunks = context, *chunk = aligned_alloc(PAGE_BYTES, wanted + 16 * PAGE_BYTES);
    while (*chunks) chunks++;
    *chunks = chunk;
    *got = wanted + 16 * PAGE_BYTES;
    return chunk;
}

static void start(worker *w, unsigned n) {
    handed *from = &w->bench->slots[next(w, SLOTS)];
    pthread_mutex_lock(&from->lock);
    w->own[n].machine = machine_new(from->layer);
    w->own[n].now = w->own[n].sealed = from->now;
    pthread_mutex_unlock(&from->lock);
}

static void hand_on(worker *w, unsigned n) {
    handed *to = &w->bench->slots[next(w, SLOTS)];
    layer *l = layer_hold(seal(w->own[n].machine, false));
    w->own[n].sealed = w->own[n].now;
    pthread_mutex_lock(&to->lock);
    layer *before = to->layer;
    to->layer = l;
    to->now = w->own[n].now;
    pthread_mutex_unlock(&to->lock);
    layer_release(before);
}

static void compare(worker *w, unsigned n) {
    for (uint64_t page = 0; page < PAGES; page++) {
        uint64_t found = 0;
        touch(w->own[n].machine, page, &found, false);
        if (found != w->own[n].now.page[page]) fail("a page of another version");
    }
}

static void step(worker *w) {
    unsigned n = next(w, MACHINES), action = next(w, 20);
    machine *m = w->own[n].machine;
    if (!m) {
        start(w, n);
    } else if (action < 10) {
        for (unsigned i = next(w, 4) ? 3 : 40; i > 0; i--) {
            uint64_t page = next(w, PAGES),
                     version = __atomic_add_fetch(&w->bench->version, 1, __ATOMIC_RELAXED);
            touch(m, page, &version, true);
            w->own[n].now.page[page] = version;
        }
    } else if (action < 12) {
        seal(m, next(w, 3) == 0);
        w->own[n].sealed = w->own[n].now;
    } else if (action < 14) {
        hand_on(w, n);
    } else if (action < 16) {
        machine_rollback(m);
        w->own[n].now = w->own[n].sealed;
    } else if (action < 18) {
        machine_free(m);
        w->own[n].machine = NULL;
    } else {
        compare(w, n);
    }
}

static void *work(void *argument) {
    worker *w = argument;
    for (uint64_t i = 0; i < w->bench->steps; i++) step(w);
    for (unsigned n = 0; n < MACHINES; n++) {
        if (w->own[n].machine) compare(w, n);
        machine_free(w->own[n].machine);
    }
    return NULL;
}

/* What there is to start from: layers of a machine that has an arena, as it goes on. */
static void hand_on_next(bench *b, machine *m, handed *to) {
    contents now = {0};
    for (uint64_t page = 0; page < PAGES; page++) touch(m, page, &now.page[page], false);
    layer *l = layer_hold(seal(m, false));
    pthread_mutex_lock(&to->lock);
    layer *before = to->layer;
    to->layer = l;
    to->now = now;
    pthread_mutex_unlock(&to->lock);
    layer_release(before);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t version = __atomic_add_fetch(&b->version, 1, __ATOMIC_RELAXED);
        touch(m, version * 7 % PAGES, &version, true);
        if (i % 6 == 5) seal(m, false);
    }
}

int main(int count, char **arguments) {
    static bench b;
    static worker workers[THREADS];
    static void *chunks[1000];
    static uint8_t ram[PAGES * PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
    pthread_t threads[THREADS];
    static pool *p;
    static decoder *d;
    p = pool_new(NULL, NULL, NULL);
    d = decoder_new(0);
    state initial;
    b.home = board_new(d, p, 100, 0, ~0ull, ~0ull);
    board_add_range(b.home, RAM, sizeof ram, RANGE_READ | RANGE_WRITE | RANGE_GUEST);
    board_add_extent(b.home, RAM, sizeof ram, (uintptr_t)ram, 0);
    state_reset(&initial, b.home, RAM, 0);
    layer *base = layer_new(b.home, NULL, (const uint8_t *)&initial);
    b.steps = count > 1 ? strtoull(arguments[1], NULL, 10) : 20000;
    machine *m = machine_new(base);
    machine_set_arena(m, grow, chunks);
    for (unsigned i = 0; i < SLOTS; i++) {
        pthread_mutex_init(&b.slots[i].lock, NULL);
        hand_on_next(&b, m, &b.slots[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].bench = &b;
        workers[i].seed = (count > 2 ? (uint32_t)strtoul(arguments[2], NULL, 10) : 1) * THREADS + i;
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (uint64_t i = 0; i < b.steps; i += 50) hand_on_next(&b, m, &b.slots[i / 50 % SLOTS]);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    machine_free(m);
    for (unsigned i = 0; i < SLOTS; i++) layer_release(b.slots[i].layer);
    layer_release(base);
    if (b.home->arenas) fail("an arena is left");
    uint64_t counts[3], most = 0;
    for (unsigned kind = 0; kind < BLOCK_KINDS; kind++) {
        pool_count(p, kind, counts);
        if (counts[0]) fail("blocks are left");
        most += counts[2];
    }
    board_release(b.home);
    unsigned grown = 0;
    for (; chunks[grown]; grown++) free(chunks[grown]);
    printf("%u chunks of a file, %llu bytes of blocks\n", grown, (unsigned long long)most);
    return 0;
}
