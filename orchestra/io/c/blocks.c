/* blocks.c: memory in large aligned blocks, for a pool that gives back what it does not use. */
#include "io.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>

/* Zeros, aligned to their number, which is a power of two; NULL: there is no memory. */
void *io_blocks_take(uint64_t length) {
    char *start =
        mmap(NULL, 2 * length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (start == MAP_FAILED) return NULL;
    size_t before = -(uintptr_t)start & (length - 1);
    if (before) munmap(start, before);
    munmap(start + before + length, length - before);
    return start + before;
}

void io_blocks_give(void *start, uint64_t length) { munmap(start, length); }

/* Whole pages keep their place, and lose what they hold. */
void io_blocks_discard(void *start, uint64_t length) { madvise(start, length, MADV_DONTNEED); }

static struct {
    void (*hold)(void *context, int hold);
    void *context;
} watcher;

static void before_fork(void) { watcher.hold(watcher.context, 1); }

static void after_fork(void) { watcher.hold(watcher.context, 0); }

/* Calls `hold` before and after every fork, so that no thread is in the middle of something meanwhile; 0 or
 * -errno. For one watcher in a process. */
int io_blocks_watch_fork(void (*hold)(void *context, int hold), void *context) {
    watcher.hold = hold;
    watcher.context = context;
    return -pthread_atfork(before_fork, after_fork, after_fork);
}
