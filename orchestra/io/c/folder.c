/* folder.c: rename without replacing, which Python does not offer. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#    define RENAME_NOREPLACE 1u
#endif

/* By number, because a wheel's oldest glibc (2.17) has no renameat2. */
int io_rename_new(const char *source, const char *target) {
    return syscall(SYS_renameat2, AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE) == 0 ? 0 : -errno;
}
