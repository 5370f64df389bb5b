/* io.cdef.h: what Python sees of io.h, through cffi. */

struct io_fault {
    uint64_t owner;
    uint64_t offset;
    uintptr_t address;
    uint64_t registers[66];
};

struct io_copy {
    uintptr_t target;
    uintptr_t source;
    uint64_t length;
};

struct io_map {
    uintptr_t address;
    uint64_t length;
    int64_t slot;
};

struct io_chunk {
    uintptr_t address;
    uint64_t length;
    uint64_t file_offset;
};

struct io_file {
    uint64_t device;
    uint64_t inode;
    uint64_t length;
    uint64_t allocated;
    int64_t modified_ns;
    uint32_t mode;
};

struct io_arena;

uint64_t io_region_count(void);

int io_fault_install(void);
int io_guarded(uintptr_t function, uintptr_t argument, struct io_fault *fault);
void io_copy(void *argument);

int io_map_file(struct io_map *map, int fd, uint64_t offset, uint64_t length, int mode, uint64_t owner);
void io_region_remove(int64_t slot);

struct io_executable {
    uintptr_t notes;
    uintptr_t writable;
    uintptr_t executable;
    uint64_t length;
};

int io_executable_map(struct io_executable *map, uint64_t length);

void *io_blocks_take(uint64_t length);
void io_blocks_give(void *start, uint64_t length);
void io_blocks_discard(void *start, uint64_t length);
int io_blocks_watch_fork(void (*hold)(void *context, int hold), void *context);

uint64_t io_clock(int cpu);

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

struct io_layer {
    struct io_file file;
    uint64_t address; // 0: not mapped
    int64_t slot;
    int64_t got;   // bytes of its head
    int32_t fd;    // stays open for who asked, else -1
    int32_t error; // -errno
};

int io_map_layers(int folder, const char *names, const uint64_t *lengths, int images, int count,
                  uint64_t owner, char *heads, uint64_t head_bytes, uintptr_t check, uintptr_t context,
                  struct io_layer *layers);
void io_unmap_at(uintptr_t address, uint64_t length, int64_t slot);
