/* clock.c: the host's time, for what may not take too much of it. */
#include "io.h"

#include <time.h>

uint64_t io_clock(int cpu) {
    struct timespec now;
    clock_gettime(cpu ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
