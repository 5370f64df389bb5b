/* Make each engine fault at a page of a file that became shorter, and go on: PROGRAM PAGES PLACE */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "io.h"
#include "machine.h"

/* For hosts that the package is not built for here: test_hosts.py runs it under QEMU. PROGRAM is loaded at
   the start of RAM, PAGES is memory in place at WINDOW. Runs until s3 is 2, cuts PAGES before its page number
   PLACE, meets the fault twice, mends the file, and runs to the end. */

enum { RAM_BYTES = 1 << 20, CACHE_BYTES = 1 << 24, FILE_BYTES = 2 << 20 };
static const uint64_t RAM = 0x80000000, WINDOW = 0x90000000;

static uint8_t ram[RAM_BYTES] __attribute__((aligned(1 << 16))), whole[FILE_BYTES], ended[2][FILE_BYTES];

typedef struct {
    state met, again, end;
} course;

static int run_to(machine *m, uint64_t until) {
    struct io_fault fault;
    run_call call = {.machine = m, .until = until, .cycles = ~0ull, .console_bytes = UINT32_MAX};
    int faulted = io_guarded((uintptr_t)machine_run, (uintptr_t)&call, &fault);
    if (faulted) machine_unwind(m, fault.registers);
    return faulted;
}

static void write_whole(int fd, uint64_t from) {
    if (pwrite(fd, whole + from, FILE_BYTES - from, (off_t)from) != (ssize_t)(FILE_BYTES - from)) exit(5);
}

static uint64_t turn_begins(machine *m) {
    enum { S3 = 19, TURNS_LEFT = 2 };
    while (m->s.x[S3] != TURNS_LEFT)
        if (run_to(m, m->s.cycle + 1)) exit(6);
    return m->s.cycle;
}

static course take(machine *m, int fd, uint64_t begin, uint64_t cut) {
    course c;
    if (run_to(m, begin) || pread(fd, whole, FILE_BYTES, 0) != FILE_BYTES) exit(6);
    if (ftruncate(fd, (off_t)cut) || !run_to(m, ~0ull)) exit(7);
    c.met = m->s;
    if (!run_to(m, ~0ull)) exit(8);
    c.again = m->s;
    write_whole(fd, cut);
    if (run_to(m, ~0ull)) exit(9);
    c.end = m->s;
    return c;
}

static void fill(int fd) {
    for (unsigned i = 0; i < FILE_BYTES; i++) whole[i] = (uint8_t)(i % 251 + 1);
    write_whole(fd, 0);
}

static layer *start(codecache *cache, uintptr_t pages) {
    board *home = board_new(decoder_new(0), pool_new(NULL, NULL, NULL), 100, DEVICE_HTIF, ~0ull, ~0ull);
    uint32_t flags = RANGE_READ | RANGE_WRITE | RANGE_GUEST;
    board_set_cache(home, cache);
    board_add_range(home, RAM, RAM_BYTES, flags | RANGE_EXECUTE);
    board_add_extent(home, RAM, RAM_BYTES, (uintptr_t)ram, 0);
    board_add_range(home, WINDOW, FILE_BYTES, flags);
    board_add_extent(home, WINDOW, FILE_BYTES, pages, EXTENT_SHARED);
    state first;
    state_reset(&first, home, RAM, 0);
    return layer_new(home, NULL, (const uint8_t *)&first);
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    FILE *program = fopen(argv[1], "rb");
    if (!program || !fread(ram, 1, sizeof ram, program)) return 2;
    int fd = open(argv[2], O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct io_executable map;
    struct io_map file;
    if (io_executable_map(&map, CACHE_BYTES) != 0) return 3;
    codecache *cache = codecache_start((void *)map.notes, map.writable, map.executable, map.length);
    if (!cache || ftruncate(fd, FILE_BYTES) || io_map_file(&file, fd, 0, FILE_BYTES, IO_MAP_SHARED, 1))
        return 4;
    course courses[2];
    fill(fd);
    uint64_t begin = turn_begins(machine_new(start(cache, file.address)));
    for (unsigned translated = 0; translated < 2; translated++) {
        fill(fd);
        machine *m = machine_new(start(cache, file.address));
        machine_translate(m, translated);
        courses[translated] = take(m, fd, begin, strtoull(argv[3], NULL, 0) * PAGE_BYTES);
        memcpy(ended[translated], (void *)file.address, FILE_BYTES);
    }
    bool same =
        !memcmp(&courses[0], &courses[1], sizeof courses[0]) && !memcmp(ended[0], ended[1], FILE_BYTES);
    same = same && !memcmp(&courses[1].met, &courses[1].again, sizeof(state));
    printf("met at cycle %llu and %llu, pc %#llx and %#llx; %u bytes of code\n",
           (unsigned long long)courses[0].met.cycle, (unsigned long long)courses[1].met.cycle,
           (unsigned long long)courses[0].met.pc, (unsigned long long)courses[1].met.pc,
           cache->hot - cache->first);
    return same ? 0 : 1;
}
