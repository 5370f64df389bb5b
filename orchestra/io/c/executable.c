/* executable.c: memory for code that is made at run time: one mapping to write it, another to run it. */
#include "io.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

/* The kernel gives a page only when it is touched. A forked child has neither mapping, and zeros for notes:
 * its parent's threads go on writing to the memory. Returns 0 or -errno; it stays until the process ends.
 */
int io_executable_map(struct io_executable *map, uint64_t length) {
#if defined(__linux__) && defined(MFD_CLOEXEC)
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int fd = memfd_create("orchestra code", MFD_CLOEXEC);
    if (fd < 0) return -errno;
    void *writable = MAP_FAILED, *executable = MAP_FAILED, *notes = MAP_FAILED;
    if (ftruncate(fd, (off_t)length) == 0) {
        writable = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        executable = mmap(NULL, length, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
        notes = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    }
    int error = errno;
    close(fd);
    if (writable != MAP_FAILED && executable != MAP_FAILED && notes != MAP_FAILED) {
        if (!madvise(notes, page, MADV_WIPEONFORK) && !madvise(writable, length, MADV_DONTFORK) &&
            !madvise(executable, length, MADV_DONTFORK)) {
            *map =
                (struct io_executable){(uintptr_t)notes, (uintptr_t)writable, (uintptr_t)executable, length};
            return 0;
        }
        error = errno;
    }
    if (writable != MAP_FAILED) munmap(writable, length);
    if (executable != MAP_FAILED) munmap(executable, length);
    if (notes != MAP_FAILED) munmap(notes, page);
    return -error;
#else
    (void)map, (void)length;
    return -ENOSYS;
#endif
}
