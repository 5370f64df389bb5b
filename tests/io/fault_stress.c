/* fault_stress.c: threads that fault, nest, map and unmap all at once; prints what went wrong. For the
 * sanitizers. */
#include "io.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS  500
#define PAGE    4096

struct nest {
    struct io_copy inner, outer;
    struct io_fault fault;
    int faulted;
};

static void nest(void *argument) {
    struct nest *nest = argument;
    nest->faulted = io_guarded((uintptr_t)io_copy, (uintptr_t)&nest->inner, &nest->fault);
    io_copy(&nest->outer);
}

static void must(int condition) {
    if (!condition) abort();
}

/* One page is there, two are cut off: the inner copy faults in the third, the outer one in the second. */
static int suffer_once(int fd, uint64_t owner) {
    struct io_map whole, other;
    char byte;
    must(ftruncate(fd, 3 * PAGE) == 0);
    must(io_map_file(&whole, fd, 0, 3 * PAGE, IO_MAP_SHARED, owner) == 0);
    must(io_map_file(&other, fd, 0, PAGE, IO_MAP_READ, 0) == 0);
    must(ftruncate(fd, PAGE) == 0);
    struct nest both = {.inner = {(uintptr_t)&byte, whole.address + 2 * PAGE + 7, 1},
                        .outer = {(uintptr_t)&byte, whole.address + PAGE + 5, 1}};
    struct io_fault fault;
    int faulted = io_guarded((uintptr_t)nest, (uintptr_t)&both, &fault);
    int right = both.faulted == 1 && both.fault.owner == owner && both.fault.offset == 2 * PAGE + 7 &&
                faulted == 1 && fault.owner == owner && fault.offset == PAGE + 5;
    io_unmap(&other);
    io_unmap(&whole);
    return right;
}

static void *suffer(void *number) {
    char name[] = "/tmp/orchestra-stress-XXXXXX";
    int fd = mkstemp(name);
    must(fd >= 0 && unlink(name) == 0);
    uintptr_t wrong = 0;
    for (int round = 0; round < ROUNDS; round++) wrong += !suffer_once(fd, (uintptr_t)number + 1);
    close(fd);
    return (void *)wrong;
}

int main(void) {
    pthread_t threads[THREADS];
    uintptr_t wrong = 0;
    must(io_fault_install() == 0);
    for (uintptr_t number = 0; number < THREADS; number++)
        must(pthread_create(&threads[number], NULL, suffer, (void *)number) == 0);
    for (int number = 0; number < THREADS; number++) {
        void *result;
        must(pthread_join(threads[number], &result) == 0);
        wrong += (uintptr_t)result;
    }
    printf("%ju wrong, %ju left\n", (uintmax_t)wrong, (uintmax_t)io_region_count());
    return 0;
}
