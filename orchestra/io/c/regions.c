/* regions.c: the registry of mapped files: which addresses are ours, and what file lies behind them. */
#include "io.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>

/* A signal handler looks an address up while other threads add and remove, so it may take no lock. Slots are
   never moved or freed: they live in blocks of doubling size. Each has a version, odd while it changes; a
   reader skips a slot that changed under it, because the slot it looks for belongs to a live mapping that its
   own thread is using, and that one does not change. */

#define FIRST_BLOCK 1024u
#define BLOCKS      20 // 2^30 regions; Linux allows a process 65,530 mappings by default
#define NO_SLOT     (-1)

struct region {
    atomic_uint version;
    _Atomic uint32_t flags;
    _Atomic uintptr_t start;
    _Atomic uintptr_t end;
    _Atomic uint64_t owner;
    _Atomic uint64_t offset; // in a free slot: the next free slot
};

/* The one file-scope state of this extension: signals belong to the process, and so must what their handler
 * reads. */
static struct {
    pthread_mutex_t writer;
    _Atomic(struct region *) blocks[BLOCKS];
    _Atomic uint64_t used; // slots that were ever given out
    _Atomic uint64_t live;
    int64_t free; // a list of removed slots
} registry = {.writer = PTHREAD_MUTEX_INITIALIZER, .free = NO_SLOT};

static unsigned block_of(uint64_t slot) { return 63u - (unsigned)__builtin_clzll(slot / FIRST_BLOCK + 1); }

static uint64_t block_start(unsigned block) { return FIRST_BLOCK * ((UINT64_C(1) << block) - 1); }

static uint64_t block_length(unsigned block) { return (uint64_t)FIRST_BLOCK << block; }

static struct region *region_at(uint64_t slot) {
    unsigned block = block_of(slot);
    struct region *regions = atomic_load_explicit(&registry.blocks[block], memory_order_acquire);
    return regions + (slot - block_start(block));
}

/* Each store releases: a reader that sees any of them sees the odd version, too. */
static void region_set(struct region *region, uintptr_t start, uintptr_t end, uint64_t owner, uint64_t offset,
                       uint32_t flags) {
    unsigned version = atomic_load_explicit(&region->version, memory_order_relaxed);
    atomic_store_explicit(&region->version, version + 1, memory_order_relaxed);
    atomic_store_explicit(&region->start, start, memory_order_release);
    atomic_store_explicit(&region->end, end, memory_order_release);
    atomic_store_explicit(&region->owner, owner, memory_order_release);
    atomic_store_explicit(&region->offset, offset, memory_order_release);
    atomic_store_explicit(&region->flags, flags, memory_order_release);
    atomic_store_explicit(&region->version, version + 2, memory_order_release);
}

static int64_t take_slot(void) {
    if (registry.free != NO_SLOT) {
        int64_t slot = registry.free;
        struct region *region = region_at((uint64_t)slot);
        registry.free = (int64_t)atomic_load_explicit(&region->offset, memory_order_relaxed);
        return slot;
    }
    uint64_t slot = atomic_load_explicit(&registry.used, memory_order_relaxed);
    unsigned block = block_of(slot);
    if (block >= BLOCKS) return NO_SLOT;
    if (atomic_load_explicit(&registry.blocks[block], memory_order_relaxed) == NULL) {
        struct region *regions = calloc(block_length(block), sizeof *regions);
        if (regions == NULL) return NO_SLOT;
        atomic_store_explicit(&registry.blocks[block], regions, memory_order_release);
    }
    return (int64_t)slot;
}

int64_t io_region_add(uintptr_t start, uintptr_t end, uint64_t owner, uint64_t offset, uint32_t flags) {
    pthread_mutex_lock(&registry.writer);
    int64_t slot = take_slot();
    if (slot != NO_SLOT) {
        region_set(region_at((uint64_t)slot), start, end, owner, offset, flags);
        if ((uint64_t)slot == atomic_load_explicit(&registry.used, memory_order_relaxed))
            atomic_store_explicit(&registry.used, (uint64_t)slot + 1, memory_order_release);
        atomic_fetch_add_explicit(&registry.live, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&registry.writer);
    return slot == NO_SLOT ? -ENOMEM : slot;
}

void io_region_remove(int64_t slot) {
    if (slot < 0) return;
    pthread_mutex_lock(&registry.writer);
    region_set(region_at((uint64_t)slot), 0, 0, 0, (uint64_t)registry.free, 0);
    registry.free = slot;
    atomic_fetch_sub_explicit(&registry.live, 1, memory_order_relaxed);
    pthread_mutex_unlock(&registry.writer);
}

uint64_t io_region_count(void) { return atomic_load_explicit(&registry.live, memory_order_relaxed); }

static int region_holds(struct region *region, uintptr_t address, struct io_fault *found) {
    unsigned version = atomic_load_explicit(&region->version, memory_order_acquire);
    uintptr_t start = atomic_load_explicit(&region->start, memory_order_acquire);
    uintptr_t end = atomic_load_explicit(&region->end, memory_order_acquire);
    if (address < start || address >= end) return 0;
    found->owner = atomic_load_explicit(&region->owner, memory_order_acquire);
    found->offset = atomic_load_explicit(&region->offset, memory_order_acquire) + (address - start);
    found->address = address;
    return version % 2 == 0 && version == atomic_load_explicit(&region->version, memory_order_relaxed);
}

int io_region_find(uintptr_t address, struct io_fault *found) {
    uint64_t used = atomic_load_explicit(&registry.used, memory_order_acquire);
    for (unsigned block = 0; block < BLOCKS && block_start(block) < used; block++) {
        struct region *regions = atomic_load_explicit(&registry.blocks[block], memory_order_acquire);
        uint64_t count = used - block_start(block);
        if (count > block_length(block)) count = block_length(block);
        for (uint64_t index = 0; index < count; index++)
            if (region_holds(&regions[index], address, found)) return 1;
    }
    return 0;
}

void io_regions_before_fork(void) { pthread_mutex_lock(&registry.writer); }

/* The child has not the mappings that died at the fork, and may soon have others at their addresses. */
void io_regions_after_fork(int in_child) {
    uint64_t used = in_child ? atomic_load_explicit(&registry.used, memory_order_relaxed) : 0;
    for (uint64_t slot = 0; slot < used; slot++) {
        struct region *region = region_at(slot);
        if (atomic_load_explicit(&region->flags, memory_order_relaxed) & IO_REGION_DIES_AT_FORK)
            region_set(region, 0, 0, 0, 0, 0);
    }
    pthread_mutex_unlock(&registry.writer);
}
