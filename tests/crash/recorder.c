/* recorder.c: preloaded into a process, it sees each call that changes something below a folder: it counts
 * them, kills the process before the n-th, or in the middle of it, and writes down their order for
 * power_loss.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static struct {
    char root[4096], synced[4096];
    long count, at;
    int half, log;
} crash = {.log = -1};

#define CRASH_NO_HALF 77
#define REAL(name)    ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

// what the test program says through ctypes

void crash_watch(const char *root) { snprintf(crash.root, sizeof crash.root, "%s", root); }

// Die before the at-th change from now on (0: never), or when half of its bytes are written.
void crash_arm(long at, int half) { crash.count = 0, crash.at = at, crash.half = half; }

long crash_count(void) { return crash.count; }

void crash_log(const char *path, const char *synced) {
    snprintf(crash.synced, sizeof crash.synced, "%s", synced);
    crash.log = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

static void say(const char *line) {
    if (crash.log >= 0 && syscall(SYS_write, crash.log, line, strlen(line)) < 0) abort();
}

void crash_mark(const char *text) {
    char line[4200];
    snprintf(line, sizeof line, "mark\t0\t%s\t\n", text);
    say(line);
}

// where a call goes

static int path_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, 4095);
    path[length < 0 ? 0 : length] = 0;
    return length > 0;
}

static const char *full(int folder, const char *name, char *path) {
    if (name[0] == '/') return name;
    char base[4096];
    if (folder == AT_FDCWD ? !getcwd(base, sizeof base) : !path_of(folder, base)) return name;
    snprintf(path, 8192, "%s/%s", base, name);
    return path;
}

static int watched(const char *path) {
    size_t length = strlen(crash.root);
    return length && !strncmp(path, crash.root, length) && (path[length] == '/' || !path[length]);
}

// One more change is about to happen to this path; is this where half of it is wanted?
static int about_to(const char *path) {
    if (!watched(path) || ++crash.count != crash.at) return 0;
    if (crash.half) return 1;
    return kill(getpid(), SIGKILL);
}

static int about_to_fd(int fd) {
    char path[4096];
    return path_of(fd, path) && about_to(path);
}

// Of names there is no half.
static void about_to_name(const char *path) {
    if (about_to(path)) _exit(CRASH_NO_HALF);
}

static unsigned long inode_of(int folder, const char *name) {
    struct stat status;
    return fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) ? 0 : (unsigned long)status.st_ino;
}

static void happened(const char *what, unsigned long inode, const char *path, const char *second) {
    char line[20000];
    if (crash.log < 0 || !(watched(path) || watched(second))) return;
    snprintf(line, sizeof line, "%s\t%lu\t%s\t%s\n", what, inode, path, second);
    say(line);
}

static int number_of_syncs;

static void keep_synced(int fd, const char *path) {
    struct stat status;
    char name[8192], number[32];
    if (crash.log < 0 || !watched(path) || fstat(fd, &status)) return;
    snprintf(number, sizeof number, "%d", ++number_of_syncs);
    if (S_ISREG(status.st_mode)) {
        snprintf(name, sizeof name, "%s/%s", crash.synced, number);
        char opened[64]; // the name it was opened by may be gone, and it have another
        snprintf(opened, sizeof opened, "/proc/self/fd/%d", fd);
        int source = (int)syscall(SYS_openat, AT_FDCWD, opened, O_RDONLY | O_CLOEXEC, 0);
        int target = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
        char block[65536];
        for (long done; (done = syscall(SYS_read, source, block, sizeof block)) > 0;)
            if (syscall(SYS_write, target, block, done) != done) abort();
        syscall(SYS_close, source);
        syscall(SYS_close, target);
    }
    happened("sync", (unsigned long)status.st_ino, path, number);
}

// names

static int opened(int (*real)(int, const char *, int, ...), int folder, const char *name, int flags,
                  mode_t mode) {
    char buffer[8192];
    const char *path = full(folder, name, buffer);
    int makes = (flags & O_CREAT) && !inode_of(AT_FDCWD, path);
    if (makes || (flags & O_TRUNC)) about_to_name(path);
    int fd = real(folder, name, flags, mode);
    if (fd >= 0 && makes) happened("create", inode_of(AT_FDCWD, path), path, "");
    return fd;
}

#define MODE_OF(flags)                                                                                       \
    mode_t mode = 0;                                                                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                   \
        va_list rest;                                                                                        \
        va_start(rest, flags);                                                                               \
        mode = va_arg(rest, mode_t);                                                                         \
        va_end(rest);                                                                                        \
    }

int open(const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(REAL(openat), AT_FDCWD, name, flags, mode);
}
int open64(const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(REAL(openat), AT_FDCWD, name, flags, mode);
}
int openat(int folder, const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(REAL(openat), folder, name, flags, mode);
}
int openat64(int folder, const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(REAL(openat), folder, name, flags, mode);
}

int mkdirat(int folder, const char *name, mode_t mode) {
    char buffer[8192];
    const char *path = full(folder, name, buffer);
    about_to_name(path);
    int result = REAL(mkdirat)(folder, name, mode);
    if (!result) happened("mkdir", inode_of(AT_FDCWD, path), path, "");
    return result;
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int folder, const char *name, int flags) {
    char buffer[8192];
    const char *path = full(folder, name, buffer);
    about_to_name(path);
    unsigned long inode = inode_of(AT_FDCWD, path);
    int result = REAL(unlinkat)(folder, name, flags);
    if (!result) happened("unlink", inode, path, "");
    return result;
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    char first[8192], second[8192];
    const char *source = full(from, old, first), *target = full(to, new, second);
    about_to_name(target);
    unsigned long inode = inode_of(AT_FDCWD, source);
    int result = (int)REAL(syscall)(SYS_renameat2, from, old, to, new, flags);
    if (!result) happened(flags & RENAME_EXCHANGE ? "exchange" : "rename", inode, source, target);
    return result;
}
int renameat(int from, const char *old, int to, const char *new) { return renameat2(from, old, to, new, 0); }
int rename(const char *old, const char *new) { return renameat2(AT_FDCWD, old, AT_FDCWD, new, 0); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    char first[8192], second[8192];
    const char *source = full(from, old, first), *target = full(to, new, second);
    about_to_name(target);
    int result = REAL(linkat)(from, old, to, new, flags);
    if (!result) happened("link", inode_of(AT_FDCWD, target), source, target);
    return result;
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

// bytes

#define SHORTER(length) (crash.half == 1 && (length) > 1 ? (length) / 2 : (length))
#define DIE                                                                                                  \
    if (half) kill(getpid(), SIGKILL)

ssize_t write(int fd, const void *data, size_t length) {
    int half = about_to_fd(fd);
    ssize_t done = REAL(write)(fd, data, half ? SHORTER(length) : length);
    DIE;
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    int half = about_to_fd(fd);
    ssize_t done = REAL(pwrite64)(fd, data, half ? SHORTER(length) : length, offset);
    DIE;
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    return pwrite64(fd, data, length, offset);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    int half = about_to_fd(fd);
    ssize_t done = REAL(writev)(fd, parts, half ? (count + 1) / 2 : count);
    DIE;
    return done;
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    int half = about_to_fd(fd);
    ssize_t done = REAL(pwritev64)(fd, parts, half ? (count + 1) / 2 : count, offset);
    DIE;
    return done;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(fd, parts, count, offset);
}
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
    int half = about_to_fd(out);
    ssize_t done = REAL(copy_file_range)(in, from, out, to, half ? SHORTER(length) : length, flags);
    DIE;
    return done;
}
int ftruncate64(int fd, off64_t length) {
    int half = about_to_fd(fd);
    int result = REAL(ftruncate64)(fd, length);
    DIE;
    return result;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    int half = about_to_fd(fd);
    int result = REAL(fallocate64)(fd, mode, offset, length);
    DIE;
    return result;
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }
int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int half = (request == FICLONE || request == FICLONERANGE) && about_to_fd(fd);
    int result = (int)REAL(syscall)(SYS_ioctl, fd, request, argument);
    DIE;
    return result;
}

// order

static int synced(int (*real)(int), int fd) {
    char path[4096];
    int named = path_of(fd, path);
    if (named) about_to_name(path);
    int result = real(fd);
    if (!result && named) keep_synced(fd, path);
    return result;
}
int fsync(int fd) { return synced(REAL(fsync), fd); }
int fdatasync(int fd) { return synced(REAL(fdatasync), fd); }

// What has no function in an old C library is called by number.
long syscall(long number, ...) {
    va_list rest;
    va_start(rest, number);
    long a = va_arg(rest, long), b = va_arg(rest, long), c = va_arg(rest, long);
    long d = va_arg(rest, long), e = va_arg(rest, long), f = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_renameat2 && crash.root[0])
        return renameat2((int)a, (const char *)b, (int)c, (const char *)d, (unsigned)e);
    return REAL(syscall)(number, a, b, c, d, e, f);
}
