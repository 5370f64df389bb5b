/* alone.h: a machine around a program in a file, with no more than the core. */
#ifndef ALONE_H
#define ALONE_H
#include <stdio.h>

#include "machine.h"

enum { RAM_BYTES = 1 << 20 };
static const uint64_t RAM = 0x80000000;

static uint8_t ram[RAM_BYTES] __attribute__((aligned(PAGE_BYTES)));

// The first state of a machine with this program in RAM; NULL: it cannot be read.
static layer *alone(const char *path, codecache *cache) {
    FILE *program = fopen(path, "rb");
    if (!program || !fread(ram, 1, sizeof ram, program)) return NULL;
    fclose(program);
    board *home = board_new(decoder_new(0), pool_new(NULL, NULL, NULL), 100, DEVICE_HTIF, ~0ull, ~0ull);
    board_set_cache(home, cache);
    board_add_range(home, RAM, RAM_BYTES, RANGE_READ | RANGE_WRITE | RANGE_EXECUTE | RANGE_GUEST);
    board_add_extent(home, RAM, RAM_BYTES, (uintptr_t)ram, 0);
    state start;
    state_reset(&start, home, RAM, 0);
    return layer_new(home, NULL, (const uint8_t *)&start);
}

// Run to this cycle, or to the program's end, in slices.
static void run_to(machine *m, uint64_t until, uint64_t slice) {
    run_call call = {.machine = m, .cycles = ~0ull, .console_bytes = UINT32_MAX, .stop = STOP_CYCLE};
    while (m->s.cycle < until && call.stop == STOP_CYCLE) {
        call.until = until - m->s.cycle < slice ? until : m->s.cycle + slice;
        machine_run(&call);
    }
}

#endif
