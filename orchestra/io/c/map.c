/* map.c: files in our address space, known to the registry of regions. */
#include "io.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

/* The host's pages may be larger than the guest's 4096 bytes, and a delta's pages begin anywhere in its file.
 */
static uint64_t into_page(uint64_t position) { return position % (uint64_t)sysconf(_SC_PAGESIZE); }

static uintptr_t page_end(uintptr_t address) {
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (uintptr_t)((address + page - 1) / page * page);
}

int io_map_file(struct io_map *map, int fd, uint64_t offset, uint64_t length, int mode, uint64_t owner) {
    int protection = mode == IO_MAP_READ ? PROT_READ : PROT_READ | PROT_WRITE;
    int flags = mode == IO_MAP_PRIVATE ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED;
    uint64_t before = into_page(offset);
    void *base = mmap(NULL, length + before, protection, flags, fd, (off_t)(offset - before));
    if (base == MAP_FAILED) return -errno;
    uint32_t dies = mode == IO_MAP_SHARED ? IO_REGION_DIES_AT_FORK : 0;
    if (dies && madvise(base, length + before, MADV_DONTFORK) != 0) {
        int error = errno;
        munmap(base, length + before);
        return -error;
    }
    map->address = (uintptr_t)base + before;
    map->length = length;
    map->slot = io_region_add((uintptr_t)base, page_end(map->address + length), owner, offset - before, dies);
    if (map->slot >= 0) return 0;
    munmap(base, length + before);
    return (int)map->slot;
}

void io_unmap(struct io_map *map) {
    if (map->address == 0) return;
    uint64_t before = into_page(map->address);
    io_region_remove(map->slot);
    munmap((void *)(map->address - before), map->length + before);
    *map = (struct io_map){.slot = -1};
}

void io_unmap_at(uintptr_t address, uint64_t length, int64_t slot) {
    io_unmap(&(struct io_map){.address = address, .length = length, .slot = slot});
}

/* For a forked child, where the kernel has taken the mapping and may have given its addresses away. */
void io_map_forget(struct io_map *map) {
    io_region_remove(map->slot);
    *map = (struct io_map){.slot = -1};
}
