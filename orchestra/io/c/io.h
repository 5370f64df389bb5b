/* io.h: the C half of orchestra.io: faults that return, maps, arenas and a rename that replaces nothing. */
#ifndef ORCHESTRA_IO_H
#define ORCHESTRA_IO_H
#ifndef _GNU_SOURCE
#    define _GNU_SOURCE
#endif

#include <stdint.h>

/* Failures are returned as -errno throughout. */

// regions.c: which addresses are ours; readers need no lock, so a signal handler may ask.

#define IO_REGION_DIES_AT_FORK 1u

struct io_fault {
    uint64_t owner;         // who mapped it; Python knows its path
    uint64_t offset;        // of the faulting byte, in the file
    uintptr_t address;      // of the faulting byte, in this process
    uint64_t registers[66]; // of the host where it faulted: 32 integer ones by number, program counter,
                            // float status, lower halves of 32 float registers
};

int64_t io_region_add(uintptr_t start, uintptr_t end, uint64_t owner, uint64_t offset, uint32_t flags);
void io_region_remove(int64_t slot);
int io_region_find(uintptr_t address, struct io_fault *found);
uint64_t io_region_count(void);
void io_regions_before_fork(void);
void io_regions_after_fork(int in_child);

// fault.c: SIGBUS at an address of ours becomes a return value of io_guarded.

struct io_copy {
    uintptr_t target;
    uintptr_t source;
    uint64_t length;
};

int io_fault_install(void);
int io_guarded(uintptr_t function, uintptr_t argument, struct io_fault *fault);
void io_copy(void *argument);

// map.c: files in our address space.

enum io_map_mode { IO_MAP_READ, IO_MAP_PRIVATE, IO_MAP_SHARED };

struct io_map {
    uintptr_t address; // of the byte asked for, which need not begin a page
    uint64_t length;
    int64_t slot; // in the registry of regions; -1 for anonymous memory
};

int io_map_file(struct io_map *map, int fd, uint64_t offset, uint64_t length, int mode, uint64_t owner);
void io_unmap(struct io_map *map);
void io_unmap_at(uintptr_t address, uint64_t length, int64_t slot);
void io_map_forget(struct io_map *map);

// executable.c

struct io_executable {
    uintptr_t notes;    // a page that a forked child finds zeroed
    uintptr_t writable; // one memory, twice
    uintptr_t executable;
    uint64_t length;
};

int io_executable_map(struct io_executable *map, uint64_t length);

// blocks.c

void *io_blocks_take(uint64_t length);
void io_blocks_give(void *start, uint64_t length);
void io_blocks_discard(void *start, uint64_t length);
int io_blocks_watch_fork(void (*hold)(void *context, int hold), void *context);

// clock.c

uint64_t io_clock(int cpu); // nanoseconds: on the wall, or of the calling thread's CPU

// arena.c: storage that grows in doubling chunks.

struct io_chunk {
    uintptr_t address;
    uint64_t length;
    uint64_t file_offset;
};

struct io_arena;
struct io_arena *io_arena_new(int fd, uint64_t first_offset, uint64_t owner, uint64_t anonymous);
void io_arena_free(struct io_arena *arena);
void *io_arena_grow(void *context, uint64_t wanted, uint64_t *got);
int io_arena_reserve(struct io_arena *arena, uint64_t length);
void io_arena_touch(void *arena);
int io_arena_spilled(const struct io_arena *arena);
int io_arena_fill(struct io_arena *arena);
int io_arena_finish(struct io_arena *arena, uint64_t file_length);
int io_arena_resume(struct io_arena *arena);
uint64_t io_arena_length(const struct io_arena *arena);
uint64_t io_arena_chunks(const struct io_arena *arena, struct io_chunk *chunks, uint64_t room);

// folder.c: names in a folder, given by its descriptor; AT_FDCWD and paths will do, too.

struct io_file {
    uint64_t device;
    uint64_t inode;
    uint64_t length;
    uint64_t allocated; // bytes of disk
    int64_t modified_ns;
    uint32_t mode; // as in stat(2)
};

int io_open(int folder, const char *name, int writable, struct io_file *file);
int io_create(int folder, const char *name, uint32_t mode, struct io_file *file);
int io_open_head(int folder, const char *name, struct io_file *file, char *head, uint64_t room, int64_t *got);
int io_exists(int folder, const char *name);
int io_lock(const char *path, int exclusive, struct io_file *file);
int io_write_new(int folder, const char *name, const char *first, uint64_t first_length, const char *second,
                 uint64_t second_length, const char *third, uint64_t third_length, uint32_t mode,
                 struct io_file *file);
int io_link(const char *source, int folder, const char *name, struct io_file *file);
struct io_linked {
    struct io_file file;
    int64_t error; // -errno
};

void io_link_all(int folder, const char *names, int count, struct io_linked *linked);
int io_draft(const char *path);
int io_draft_end(int fd, const char *path, const char *target);
int io_replace(int folder, const char *source, const char *target);
int io_punch(int fd, uint64_t offset, uint64_t length);

// layers.c: files of a folder that memory is made of.

struct io_layer {
    struct io_file file;
    uint64_t address; // 0: not mapped
    int64_t slot;
    int64_t got;   // bytes of its head
    int32_t fd;    // stays open for who asked, else -1
    int32_t error; // -errno
};

enum { IO_REFUSED, IO_SOUND, IO_UNDECIDED };

/* Says of a file whether it is to be mapped, by its first bytes; what is undecided stays open. */
typedef int (*io_check)(void *context, uint64_t number, const void *head, uint64_t got, uint64_t length);

int io_map_layers(int folder, const char *names, const uint64_t *lengths, int images, int count,
                  uint64_t owner, char *heads, uint64_t head_bytes, uintptr_t check, uintptr_t context,
                  struct io_layer *layers);

#endif
