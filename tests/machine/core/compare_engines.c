/* Run a program with the interpreter and with translations, whole and in slices: FILE CYCLES SLICE */
#include "alone.h"
#include "io.h"

/* For hosts that the package is not built for here: test_hosts.py runs it under QEMU. */

enum { CACHE_BYTES = 1 << 24 };

static int differs(machine *one, machine *other, const char *how) {
    const uint64_t *a = (const uint64_t *)&one->s, *b = (const uint64_t *)&other->s;
    int found = 0;
    for (unsigned i = 0; i < sizeof(state) / 8; i++)
        if (a[i] != b[i] && ++found < 9)
            printf("%s: %#x of the state is %#llx, not %#llx\n", how, i * 8, (unsigned long long)b[i],
                   (unsigned long long)a[i]);
    for (uint64_t page = RAM >> PAGE_SHIFT; page < (RAM + RAM_BYTES) >> PAGE_SHIFT; page++)
        if (memcmp(memory_peek(one, page), memory_peek(other, page), PAGE_BYTES) && ++found < 9)
            printf("%s: page %#llx differs\n", how, (unsigned long long)page);
    return found;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    uint64_t cycles = strtoull(argv[2], NULL, 0), slice = strtoull(argv[3], NULL, 0);
    struct io_executable map;
    if (io_executable_map(&map, CACHE_BYTES) != 0) return 3;
    codecache *cache = codecache_start((void *)map.notes, map.writable, map.executable, map.length);
    if (!cache) return 4;
    layer *base = alone(argv[1], cache);
    if (!base) return 2;
    machine *reference = machine_new(base), *whole = machine_new(base), *sliced = machine_new(base);
    machine_translate(whole, 1);
    machine_translate(sliced, 2);
    run_to(reference, cycles, cycles);
    run_to(whole, cycles, cycles);
    run_to(sliced, cycles, slice);
    int found = differs(reference, whole, "translated") + differs(reference, sliced, "in slices");
    printf("cycle %llu, %u bytes of code\n", (unsigned long long)reference->s.cycle,
           cache->hot - cache->first);
    return found ? 1 : 0;
}
