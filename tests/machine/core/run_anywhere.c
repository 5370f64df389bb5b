/* Run a program with the interpreter and print checksums of what it leaves: FILE CYCLES SLICE */
#include <stdio.h>

#include "machine.h"

/* It needs the C library only, so it runs where the package cannot yet be installed; see test_hosts.py. */

enum { RAM_BYTES = 1 << 20 };
static const uint64_t RAM = 0x80000000;

static uint8_t ram[RAM_BYTES] __attribute__((aligned(PAGE_BYTES)));

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    FILE *program = fopen(argv[1], "rb");
    if (!program || !fread(ram, 1, sizeof ram, program)) return 2;
    fclose(program);
    uint64_t cycles = strtoull(argv[2], NULL, 0), slice = strtoull(argv[3], NULL, 0);
    board *home = board_new(decoder_new(0), pool_new(NULL, NULL, NULL), 100, DEVICE_HTIF, ~0ull, ~0ull);
    board_add_range(home, RAM, RAM_BYTES, RANGE_READ | RANGE_WRITE | RANGE_EXECUTE | RANGE_GUEST);
    board_add_extent(home, RAM, RAM_BYTES, (uintptr_t)ram, 0);
    state start;
    state_reset(&start, home, RAM, 0);
    layer *base = layer_new(home, NULL, (const uint8_t *)&start);
    machine *m = machine_new(base);
    run_call call = {.machine = m, .cycles = ~0ull, .console_bytes = UINT32_MAX, .stop = STOP_CYCLE};
    while (m->s.cycle < cycles && call.stop == STOP_CYCLE) {
        call.until = cycles - m->s.cycle < slice ? cycles : m->s.cycle + slice;
        machine_run(&call);
    }
    printf("cycle %llu, state %08x", (unsigned long long)m->s.cycle,
           checksum((const uint8_t *)&m->s, sizeof m->s));
    for (uint64_t page = RAM >> PAGE_SHIFT; page < (RAM + RAM_BYTES) >> PAGE_SHIFT; page++)
        printf(" %08x", checksum(memory_peek(m, page), PAGE_BYTES));
    puts("");
    machine_free(m);
    return 0;
}
