/* Coverage-guided fuzzing: bytes become a machine's state and code, and every way of running it must agree.
 */
#include <sanitizer/lsan_interface.h>
#include <stdio.h>

#include "io.h"
#include "machine.h"

/* Built and run by tests/fuzz/run. The reference executes one instruction at a time, each decoded anew; it is
   compared with the interpreter's blocks, and with translations that are made at once, run to the same cycle,
   whole and in slices with layers sealed between them. */

enum {
    PAGES = 8,
    CODE_PAGES = 2,
    SECOND = 3, /* root tables of two address spaces */
    ROOT,
    MIDDLE,
    LEAVES,
    DISK_PAGES = 2,
    DATA = 2, /* what is in no code and no table */
    CYCLES = 400,
    HEADER = 16,
    CACHE_BYTES = 1 << 22,
    SEAL_ODDS = 5
};
static const uint64_t RAM = 0x80000000, DISK = 0x100000000, DEVICES = 0x40010000;

typedef struct {
    decoder *decoder;
    codecache *cache;
    pool *pool;
    uint8_t ram[PAGES * PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
    uint8_t disk[DISK_PAGES * PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));
    state start;
    uint32_t seed;
    uint64_t cycles_per_tick;
} bench;

static bench *the_bench(void) {
    static bench *made;
    if (made) return made;
    struct io_executable map;
    made = aligned_alloc(PAGE_BYTES, (sizeof *made + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES);
    made->decoder = decoder_new(~0u);
    made->cache = NULL;
    made->pool = pool_new(NULL, NULL, NULL);
    if (io_executable_map(&map, CACHE_BYTES) == 0) {
        made->cache = codecache_start((void *)(uintptr_t)map.notes, map.writable, map.executable, map.length);
        __lsan_register_root_region((void *)(uintptr_t)map.notes,
                                    sizeof *made->cache); /* a mapping, not heap */
    }
    return made;
}

static uint32_t next(uint32_t *seed) {
    *seed = *seed * 1664525 + 1013904223;
    return *seed >> 8;
}

/* ---- bytes to machines ---- */

static uint64_t some_value(uint32_t *seed) {
    static const uint64_t edges[] = {0,
                                     1,
                                     ~0ull,
                                     1ull << 63,
                                     ~0ull >> 1,
                                     0x80000000,
                                     0x7ff0000000000000,
                                     0xffffffff7fc00000,
                                     0x3ff0000000000000,
                                     0xffffffff3f800000};
    uint32_t choice = next(seed), low = next(seed);
    uint64_t wide = (uint64_t)next(seed) << 48 ^ (uint64_t)next(seed) << 24 ^ next(seed);
    switch (choice & 7) {
    case 0: return edges[low % (sizeof edges / sizeof *edges)];
    case 1: return wide;
    case 2: return low & 0x100 ? DEVICES + (low & 0x1000) + (low & 0x20 ? 0x50 : 0) : low & 0xff;
    case 3: /* other windows, beyond them, the upper half, or a satp */
        if (low % 8 == 0) return 8ull << 60 | ((RAM >> 12) + (low & 8 ? ROOT : SECOND));
        return (low % 8 < 3 ? 0 - (1ull << 38) : RAM) + low / 8 % (4 * PAGES * PAGE_BYTES);
    default: return RAM + low % (PAGES * PAGE_BYTES / 8) * 8;
    }
}

static void put_entry(bench *b, unsigned page, unsigned index, uint64_t entry) {
    memcpy(b->ram + page * PAGE_BYTES + index * 8, &entry, sizeof entry);
}

static void put_tables(bench *b, uint32_t *seed) {
    for (unsigned root = SECOND; root <= ROOT; root++) {
        put_entry(b, root, 2, (RAM + MIDDLE * PAGE_BYTES) >> 12 << 10 | 1);
        put_entry(b, root, 256, RAM >> 12 << 10 | 0xcf); /* all of RAM at the start of the upper half */
    }
    put_entry(b, MIDDLE, 0, (RAM + LEAVES * PAGE_BYTES) >> 12 << 10 | 1);
    for (unsigned i = 0; i < 4 * PAGES; i++) { /* RAM as it is, then three windows of any kind */
        uint64_t bits = i < PAGES ? 0xcf | (next(seed) & 0x10) : next(seed) & 0xff;
        put_entry(b, LEAVES, i, (RAM + (i % PAGES) * PAGE_BYTES) >> 12 << 10 | bits);
    }
}

/* A disk and entropy whose queues are in the page of data, and lead into it or astray. */
static void put_queues(bench *b, uint32_t *seed) {
    static const uint32_t lengths[] = {0, 1, 1, 8, 16, 16, 16, 20, 100, 512, 4000, 1 << 20};
    uint8_t *page = b->ram + DATA * PAGE_BYTES;
    for (unsigned i = 0; i < 16; i++) {
        uint64_t address = RAM + next(seed) % (3 * PAGE_BYTES);
        uint32_t length = lengths[next(seed) % (sizeof lengths / sizeof *lengths)];
        uint16_t flags = next(seed) & 1 ? 1 : next(seed) & 7, following = next(seed) % 18;
        if (i % 4 == 0 && (next(seed) & 3)) length = 16, flags = 1, following = (uint16_t)(i + 1);
        if (i % 4 == 2 && (next(seed) & 3)) length = 1, flags = 2;
        memcpy(page + 16 * i, &address, 8);
        memcpy(page + 16 * i + 8, &length, 4);
        memcpy(page + 16 * i + 12, &flags, 2);
        memcpy(page + 16 * i + 14, &following, 2);
    }
    for (unsigned slot = 0; slot < 2; slot++) {
        virtio_state *v = &b->start.virtio[slot];
        uint64_t rings = RAM + DATA * PAGE_BYTES + 256;
        v->status = 15;
        v->queues[0] = (virtqueue){RAM + DATA * PAGE_BYTES, rings, rings + 64, 16, 1, 0, 0};
        if (next(seed) % 8 == 0) v->queues[0].device = some_value(seed);
    }
    if (next(seed) & 1)
        b->start.work = (virtio_work){.phase = WORK_TAKE,
                                      .slot = next(seed) & 1,
                                      .available = next(seed) & 7,
                                      .until = next(seed) & 31};
}

static void set_up(bench *b, const uint8_t *data, size_t size) {
    uint8_t header[HEADER] = {0};
    size_t head = size < HEADER ? size : HEADER;
    memcpy(header, data, head);
    memset(b->ram, 0, sizeof b->ram);
    size_t length = size - head < CODE_PAGES * PAGE_BYTES ? size - head : CODE_PAGES * PAGE_BYTES;
    memcpy(b->ram, data + head, length);
    memcpy(&b->seed, header + 4, sizeof b->seed);
    uint32_t seed = b->seed;
    for (unsigned at = DATA * PAGE_BYTES; at < SECOND * PAGE_BYTES; at += 8) {
        uint64_t value = some_value(&seed);
        memcpy(b->ram + at, &value, sizeof value);
    }
    put_tables(b, &seed);
    b->cycles_per_tick = 1 + (header[2] & 7);
    state *s = &b->start;
    memset(s, 0, sizeof *s);
    for (unsigned i = 1; i < 32; i++) s->x[i] = some_value(&seed);
    for (unsigned i = 0; i < 32; i++) s->f[i] = some_value(&seed);
    s->privilege = header[0] & 3 ? header[0] & 3 : PRIVILEGE_U;
    if (s->privilege == 2) s->privilege = PRIVILEGE_M;
    if (header[0] & 4) s->satp = 8ull << 60 | (RAM >> 12) + ROOT;
    s->mstatus = header[0] & 8 ? 0 : MSTATUS_FS;
    s->mstatus |= (header[0] & 16 ? MSTATUS_MIE | MSTATUS_SIE : 0) | (header[0] & 64 ? MSTATUS_SUM : 0);
    s->mstatus |= header[0] & 128 ? MSTATUS_MXR : 0;
    s->medeleg = header[0] & 32 ? 0xb3fe : 0;
    s->mideleg = header[0] & 32 ? 0x222 : 0;
    s->mie = 0xaaa;
    s->mtimecmp = header[1] >> 3 ? header[1] : ~0ull;
    s->frm = header[1] & 7;
    s->pc = RAM + header[3] * 2u;
    s->mtvec = RAM + header[8] * 16u;
    s->stvec = RAM + header[9] * 16u;
    s->mcounteren = s->scounteren = header[10] & 7;
    s->menvcfg = header[10] & 8 ? MENVCFG_STCE | ENVCFG_CBIE | ENVCFG_CBCFE | ENVCFG_CBZE : 0;
    s->senvcfg = s->menvcfg & ~MENVCFG_STCE;
    s->stimecmp = header[11];
    s->fflags = header[12] & 31;
    s->reservation = ~0ull;
    if (header[13] & 1) put_queues(b, &seed);
}

/* ---- ways of running ---- */

typedef enum { ONE_BY_ONE, WHOLE, SLICED, TRANSLATED, TRANSLATED_SLICED, WAYS } way;
static const char *const names[WAYS] = {"one by one", "whole", "sliced", "translated", "translated, sliced"};

static void run_to(machine *m, uint64_t until) {
    run_call call = {.machine = m, .until = until, .cycles = ~0ull, .console_bytes = UINT32_MAX};
    machine_run(&call);
    m->console_length = 0;
}

static void run_in_slices(machine *m, uint32_t seed) {
    for (uint64_t until = 0; until < CYCLES;) {
        until += 1 + next(&seed) % 90;
        run_to(m, until < CYCLES ? until : CYCLES);
        if (next(&seed) % SEAL_ODDS == 0) memory_seal(m, false);
    }
}

static machine *run_way(bench *b, layer *base, way how) {
    machine *m = machine_new(base);
    if (how >= TRANSLATED) machine_translate(m, 1);
    if (how == ONE_BY_ONE)
        for (uint64_t cycle = 1; cycle <= CYCLES; cycle++) run_to(m, cycle);
    else if (how == SLICED || how == TRANSLATED_SLICED)
        run_in_slices(m, b->seed);
    else
        run_to(m, CYCLES);
    return m;
}

/* ---- comparing ---- */

static void complain(way how, const char *what, uint64_t at, uint64_t theirs, uint64_t ours) {
    fprintf(stderr, "%s: %s at %#llx is %#llx, one by one it is %#llx\n", names[how], what,
            (unsigned long long)at, (unsigned long long)theirs, (unsigned long long)ours);
    abort();
}

static void compare_memory(machine *reference, machine *m, way how, uint64_t start, unsigned pages) {
    for (uint64_t page = start >> PAGE_SHIFT; page < (start >> PAGE_SHIFT) + pages; page++) {
        const uint8_t *x = memory_peek(reference, page), *y = memory_peek(m, page);
        for (unsigned i = 0; memcmp(x, y, PAGE_BYTES) && i < PAGE_BYTES; i++)
            if (x[i] != y[i]) complain(how, "memory", (page << PAGE_SHIFT) + i, y[i], x[i]);
    }
}

static void compare(machine *reference, machine *m, way how) {
    const uint64_t *a = (const uint64_t *)&reference->s, *b = (const uint64_t *)&m->s;
    for (unsigned i = 0; i < sizeof(state) / 8; i++)
        if (a[i] != b[i]) complain(how, "the state", i * 8, b[i], a[i]);
    compare_memory(reference, m, how, RAM, PAGES);
    compare_memory(reference, m, how, DISK, DISK_PAGES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t capacity);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    bench *b = the_bench();
    set_up(b, data, size);
    board *home = board_new(b->decoder, b->pool, b->cycles_per_tick, 0, ~0ull, ~0ull);
    board_set_cache(home, b->cache);
    board_add_range(home, RAM, sizeof b->ram, RANGE_READ | RANGE_WRITE | RANGE_EXECUTE | RANGE_GUEST);
    board_add_extent(home, RAM, sizeof b->ram, (uintptr_t)b->ram, 0);
    board_add_range(home, DISK, sizeof b->disk, RANGE_READ | RANGE_WRITE);
    board_add_extent(home, DISK, sizeof b->disk, (uintptr_t)b->disk, 0);
    board_set_virtio(home, 0, VIRTIO_BLOCK, DISK, sizeof b->disk, size & 1, 0);
    board_set_virtio(home, 1, VIRTIO_RANDOM, 0, 0, 0, b->seed);
    layer *base = layer_new(home, NULL, (const uint8_t *)&b->start);
    machine *reference = run_way(b, base, ONE_BY_ONE);
    for (way how = WHOLE; how < WAYS; how++) {
        machine *m = run_way(b, base, how);
        compare(reference, m, how);
        machine_free(m);
    }
    machine_free(reference);
    layer_release(base);
    board_release(home);
    return 0;
}

/* ---- mutations that know instructions ---- */

static uint32_t random_instruction(uint32_t *seed) {
    const instruction *i = &instructions[next(seed) % OP_COUNT];
    uint32_t word = i->match | ((next(seed) << 16 ^ next(seed)) & ~i->mask);
    if (strstr(i->operands, "csr") && (next(seed) & 1)) { /* one that exists, satp often */
        static const uint16_t known[] = {0x180, 0x180, 0x300, 0x100, 0x341, 0x344, 0x14d, 0xc00, 1, 2, 3};
        word = (word & 0xfffff) | (uint32_t)known[next(seed) % (sizeof known / sizeof *known)] << 20;
    }
    if (strstr(i->operands, "target") && (next(seed) & 7)) { /* stay near */
        bool jump = strstr(i->operands, "rd");
        word = jump
                   ? (word & 0xfff) | (next(seed) & 63) << 21 | (next(seed) & 1 ? 0xfffff000 & 0x801ff000 : 0)
                   : (word & ~0x7e000080u);
        if (jump && word >> 31) word |= 0x7c000000; /* a short way back */
    }
    return (word & 3) == 3 ? word : word | 3;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t capacity, unsigned random) {
    uint32_t seed = random;
    if (size < HEADER + 4 || next(&seed) % 4 == 0) return LLVMFuzzerMutate(data, size, capacity);
    unsigned count = 1 + next(&seed) % 4;
    while (count--) {
        size_t at = HEADER + next(&seed) % (size - HEADER + 2) / 2 * 2;
        uint32_t word = random_instruction(&seed);
        if (next(&seed) & 1 && size + 4 <= capacity && at <= size) { /* put in, else put over */
            memmove(data + at + 4, data + at, size - at);
            size += 4;
        }
        if (at + 4 <= size) memcpy(data + at, &word, sizeof word);
    }
    return size;
}
