/* folder.c: names in a folder: files opened, made whole and linked there, and a rename that replaces nothing.
 */
#define _GNU_SOURCE
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#    define RENAME_NOREPLACE 1u
#endif

#ifndef RENAME_EXCHANGE
#    define RENAME_EXCHANGE 2u
#endif

static void say_file(const struct stat *status, struct io_file *file) {
    file->device = (uint64_t)status->st_dev;
    file->inode = (uint64_t)status->st_ino;
    file->length = (uint64_t)status->st_size;
    file->allocated = (uint64_t)status->st_blocks * 512;
    file->modified_ns = (int64_t)status->st_mtim.tv_sec * 1000000000 + status->st_mtim.tv_nsec;
    file->mode = (uint32_t)status->st_mode;
}

/* A descriptor of what is there, whatever it is but a symbolic link, and what that is. */
int io_open(int folder, const char *name, int writable, struct io_file *file) {
    int fd =
        openat(folder, name, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    struct stat status;
    if (fd < 0) return -errno;
    if (fstat(fd, &status) != 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    say_file(&status, file);
    return fd;
}

/* A new, empty file, open for reading and writing. */
int io_create(int folder, const char *name, uint32_t mode, struct io_file *file) {
    int fd = openat(folder, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, (mode_t)mode);
    struct stat status;
    if (fd < 0) return -errno;
    if (fstat(fd, &status) != 0) {
        int error = errno;
        unlinkat(folder, name, 0);
        close(fd);
        return -error;
    }
    say_file(&status, file);
    return fd;
}

/* Does what io_open does, and reads the first bytes of a file: as many as it has, up to `room`. */
int io_open_head(int folder, const char *name, struct io_file *file, char *head, uint64_t room,
                 int64_t *got) {
    int fd = io_open(folder, name, 0, file);
    if (fd < 0) return fd;
    *got = S_ISREG(file->mode) ? pread(fd, head, room, 0) : 0;
    if (*got >= 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

/* Whether there is anything of that name. */
int io_exists(int folder, const char *name) {
    return faccessat(folder, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* Opens a folder or file and locks it at once: -EWOULDBLOCK when it is locked, -ESTALE when its name was
   another's by then. What is neither, or a link, is left to who waits for locks to say. */
int io_lock(const char *path, int exclusive, struct io_file *file) {
    struct stat now;
    int fd = io_open(AT_FDCWD, path, 0, file), error = 0;
    if (fd < 0) return fd;
    if (!S_ISDIR(file->mode) && !S_ISREG(file->mode))
        error = ESTALE;
    else if (flock(fd, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0)
        error = errno;
    else if (lstat(path, &now) != 0 || now.st_dev != file->device || now.st_ino != file->inode)
        error = ESTALE;
    if (!error) return fd;
    close(fd);
    return -error;
}

static int write_all(int fd, struct iovec *parts, int count) {
    while (count > 0) {
        ssize_t written = writev(fd, parts, count);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -errno;
        for (; count > 0 && (size_t)written >= parts->iov_len; parts++, count--)
            written -= (ssize_t)parts->iov_len;
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + written;
            parts->iov_len -= (size_t)written;
        }
    }
    return 0;
}

/* A new file of up to three parts, all of them or none. */
int io_write_new(int folder, const char *name, const char *first, uint64_t first_length, const char *second,
                 uint64_t second_length, const char *third, uint64_t third_length, uint32_t mode,
                 struct io_file *file) {
    struct iovec vector[] = {
        {(void *)first, first_length}, {(void *)second, second_length}, {(void *)third, third_length}};
    struct stat status;
    int fd = openat(folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, (mode_t)mode);
    if (fd < 0) return -errno;
    int result = write_all(fd, vector, 3);
    if (result == 0 && fstat(fd, &status) != 0) result = -errno;
    if (close(fd) != 0 && result == 0) result = -errno;
    if (result == 0)
        say_file(&status, file);
    else
        unlinkat(folder, name, 0);
    return result;
}

/* Another name for the file at `source`, and which file that was. */
int io_link(const char *source, int folder, const char *name, struct io_file *file) {
    struct stat status;
    if (linkat(AT_FDCWD, source, folder, name, 0) != 0) return -errno;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    say_file(&status, file);
    return 0;
}

/* The same of many, in one open folder: sources and names follow one another, each ended by a zero byte. */
void io_link_all(int folder, const char *names, int count, struct io_linked *linked) {
    for (int i = 0; i < count; i++) {
        const char *source = names, *name = source + strlen(source) + 1;
        linked[i].error = io_link(source, folder, name, &linked[i].file);
        names = name + strlen(name) + 1;
    }
}

/* By number, because a wheel's oldest glibc (2.17) has no renameat2. */
static int rename_flags(int folder, const char *source, const char *target, unsigned flags) {
    return syscall(SYS_renameat2, folder, source, folder, target, flags) == 0 ? 0 : -errno;
}

/* A new folder that is built under another name: open, and locked against those who sweep. */
int io_draft(const char *path) {
    int error;
    if (mkdir(path, 0777) != 0) return -errno;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) == 0) return fd;
    error = errno;
    if (fd >= 0) close(fd);
    rmdir(path);
    return -error;
}

/* It gets its name, in the place of nothing, and is unlocked then; while it is locked nobody sweeps it. When
   it cannot have the name it stays open. Closing alone would leave the lock to a copy in a process that is
   being spawned. */
int io_draft_end(int fd, const char *path, const char *target) {
    int error = target == NULL ? 0 : rename_flags(AT_FDCWD, path, target, RENAME_NOREPLACE);
    if (error) return error;
    flock(fd, LOCK_UN);
    close(fd);
    return 0;
}

/* `source` takes the place of `target` in one step, and what was there is deleted. An exchange first: a plain
   rename over a file makes ext4 allocate the new one's blocks at once (mount option auto_da_alloc), which
   costs more than all the rest; who wants that wants fsync, too. */
int io_replace(int folder, const char *source, const char *target) {
    if (rename_flags(folder, source, target, RENAME_EXCHANGE) == 0) // some in user space rename all the same
        return unlinkat(folder, source, 0) == 0 || errno == ENOENT ? 0 : -errno;
    return renameat(folder, source, folder, target) == 0 ? 0 : -errno;
}

/* The part then reads as zeros and occupies no blocks. */
int io_punch(int fd, uint64_t offset, uint64_t length) {
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    return fallocate(fd, mode, (off_t)offset, (off_t)length) == 0 ? 0 : -errno;
}
