/* Run a program with the interpreter and print checksums of what it leaves: FILE CYCLES SLICE */
#include "alone.h"

/* It needs the C library only, so it runs where the package cannot yet be installed; see test_hosts.py. */

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    layer *start = alone(argv[1], NULL);
    if (!start) return 2;
    machine *m = machine_new(start);
    run_to(m, strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
    printf("cycle %llu, state %08x", (unsigned long long)m->s.cycle,
           checksum((const uint8_t *)&m->s, sizeof m->s));
    for (uint64_t page = RAM >> PAGE_SHIFT; page < (RAM + RAM_BYTES) >> PAGE_SHIFT; page++)
        printf(" %08x", checksum(memory_peek(m, page), PAGE_BYTES));
    puts("");
    machine_free(m);
    return 0;
}
