/* arena.c: storage that grows in doubling chunks, in memory, in one file, or first in memory and then in the
 * file, at the request of another extension. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <unistd.h>

#define PAGE          UINT64_C(4096)
#define FIRST_CHUNK   (UINT64_C(64) << 10)
#define LARGEST_CHUNK (UINT64_C(16) << 20)

struct chunk {
    struct io_map map;
    uint64_t file_offset;
    _Atomic(struct chunk *) next;
};

/* One thread at a time grows it (a machine runs on one thread); any thread may list and measure it meanwhile,
   so a chunk is whole before it is linked. */
struct io_arena {
    int fd; // -1: anonymous
    pid_t process;
    uint64_t owner;
    uint64_t first_offset;
    uint64_t file_length;
    uint64_t next_length;
    uint64_t anonymous; // the first bytes that stay in memory until io_arena_fill
    int finished;
    _Atomic uint64_t length;
    _Atomic(struct chunk *) first;
    struct chunk *last;
};

struct io_arena *io_arena_new(int fd, uint64_t first_offset, uint64_t owner, uint64_t anonymous) {
    struct io_arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL) return NULL;
    arena->fd = fd;
    arena->process = getpid();
    arena->owner = owner;
    arena->first_offset = first_offset;
    arena->next_length = FIRST_CHUNK;
    arena->anonymous = fd < 0 ? UINT64_MAX : anonymous;
    return arena;
}

static int gone_with_fork(const struct io_arena *arena) {
    return arena->fd >= 0 && arena->process != getpid();
}

static struct chunk *first_chunk(const struct io_arena *arena) {
    return atomic_load_explicit(&arena->first, memory_order_acquire);
}

static struct chunk *next_chunk(const struct chunk *chunk) {
    return atomic_load_explicit(&chunk->next, memory_order_acquire);
}

void io_arena_free(struct io_arena *arena) {
    if (arena == NULL) return;
    int gone = gone_with_fork(arena);
    for (struct chunk *chunk = first_chunk(arena), *next; chunk != NULL; chunk = next) {
        next = next_chunk(chunk);
        if (chunk->map.slot < 0 && chunk->map.length == FIRST_CHUNK)
            free((void *)chunk->map.address);
        else if (chunk->map.slot < 0)
            munmap((void *)chunk->map.address, chunk->map.length);
        else if (gone)
            io_map_forget(&chunk->map);
        else
            io_unmap(&chunk->map);
        free(chunk);
    }
    free(arena);
}

/* Warm memory: a machine that is opened, changes little and is closed again faults no page in. What is larger
 * would leave holes in the heaps of the threads it comes from. */
static int take_from_memory(struct io_map *map, uint64_t length) {
    void *memory = length == FIRST_CHUNK
                       ? aligned_alloc(PAGE, length)
                       : mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == NULL || memory == MAP_FAILED) return -ENOMEM;
    *map = (struct io_map){.address = (uintptr_t)memory, .length = length, .slot = -1};
    return 0;
}

static int map_in_file(struct io_arena *arena, struct chunk *chunk, uint64_t length) {
    uint64_t end = chunk->file_offset + length;
    if (end > arena->file_length && ftruncate(arena->fd, (off_t)end) != 0) return -errno;
    int result = io_map_file(&chunk->map, arena->fd, chunk->file_offset, length, IO_MAP_SHARED, arena->owner);
    if (result == 0) {
        if (end > arena->file_length) arena->file_length = end;
    } else if (end > arena->file_length && ftruncate(arena->fd, (off_t)arena->file_length) != 0) {
        arena->file_length = end; // the file stayed longer: sparse, harmless, and the next growth uses it
    }
    return result;
}

static void link_chunk(struct io_arena *arena, struct chunk *chunk) {
    atomic_store_explicit(arena->last ? &arena->last->next : &arena->first, chunk, memory_order_release);
    arena->last = chunk;
    atomic_fetch_add_explicit(&arena->length, chunk->map.length, memory_order_release);
}

/* Called by the machine's core, on its thread, without the GIL. */
void *io_arena_grow(void *context, uint64_t wanted, uint64_t *got) {
    struct io_arena *arena = context;
    if (wanted == 0 || wanted % PAGE != 0 || arena->finished || gone_with_fork(arena)) return NULL;
    uint64_t length = wanted > arena->next_length ? wanted : arena->next_length;
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL) return NULL;
    chunk->file_offset = arena->first_offset + io_arena_length(arena);
    int in_file = io_arena_length(arena) + length > arena->anonymous;
    int result = in_file ? map_in_file(arena, chunk, length) : take_from_memory(&chunk->map, length);
    if (result != 0) {
        free(chunk);
        return NULL;
    }
    link_chunk(arena, chunk);
    if (arena->next_length < LARGEST_CHUNK) arena->next_length *= 2;
    *got = length;
    return (void *)chunk->map.address;
}

/* Storage for the arena's first `length` bytes is allocated now, so that a full disk says so here. */
int io_arena_reserve(struct io_arena *arena, uint64_t length) {
    if (arena->fd < 0 || length == 0) return 0;
    int error = posix_fallocate(arena->fd, (off_t)arena->first_offset, (off_t)length);
    if (error != 0) return -error;
    uint64_t end = arena->first_offset + length;
    if (end > arena->file_length) arena->file_length = end;
    return 0;
}

/* Stores into every page what is in it, so that it will be written again. To be guarded. */
void io_arena_touch(void *argument) {
    for (struct chunk *chunk = first_chunk(argument); chunk != NULL; chunk = next_chunk(chunk))
        for (uint64_t offset = 0; offset < chunk->map.length; offset += PAGE) {
            volatile unsigned char *byte = (unsigned char *)chunk->map.address + offset;
            *byte = *byte;
        }
}

/* Is any of it in the file? */
int io_arena_spilled(const struct io_arena *arena) {
    return arena->last != NULL && io_arena_length(arena) > arena->anonymous;
}

/* Writes what is in memory to where it belongs in the file. */
int io_arena_fill(struct io_arena *arena) {
    for (struct chunk *chunk = first_chunk(arena); chunk != NULL; chunk = next_chunk(chunk)) {
        const char *from = (const char *)chunk->map.address;
        uint64_t left = chunk->map.slot < 0 ? chunk->map.length : 0, offset = chunk->file_offset;
        while (left > 0) {
            ssize_t written = pwrite(arena->fd, from, left, (off_t)offset);
            if (written < 0 && errno == EINTR) continue;
            if (written < 0) return -errno;
            from += written, offset += (uint64_t)written, left -= (uint64_t)written;
        }
    }
    return 0;
}

/* Ends the file at byte `file_length`; the arena grows no more. */
int io_arena_finish(struct io_arena *arena, uint64_t file_length) {
    if (arena->fd >= 0 && ftruncate(arena->fd, (off_t)file_length) != 0) return -errno;
    arena->finished = 1;
    return 0;
}

/* Takes a finish back: the file is as long as before. */
int io_arena_resume(struct io_arena *arena) {
    if (arena->fd >= 0 && ftruncate(arena->fd, (off_t)arena->file_length) != 0) return -errno;
    arena->finished = 0;
    return 0;
}

uint64_t io_arena_length(const struct io_arena *arena) {
    return atomic_load_explicit(&arena->length, memory_order_acquire);
}

/* Fills at most `room` entries and returns how many chunks there are. */
uint64_t io_arena_chunks(const struct io_arena *arena, struct io_chunk *chunks, uint64_t room) {
    uint64_t count = 0;
    for (struct chunk *chunk = first_chunk(arena); chunk != NULL; chunk = next_chunk(chunk), count++)
        if (count < room)
            chunks[count] = (struct io_chunk){chunk->map.address, chunk->map.length, chunk->file_offset};
    return count;
}
