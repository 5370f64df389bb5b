// linux.h: the few riscv64 system calls the agent makes, raw; each returns a result or a negative errno.
#ifndef LINUX_H
#define LINUX_H

#include "orchestra.h"

enum { O_READ = 0, O_NONBLOCK = 04000, O_CLOSE_ON_EXEC = 02000000, AT_CWD = -100 };
enum { EINTR = 4, EAGAIN = 11 };
enum { POLL_IN = 1, WAIT_NO_HANG = 1, SIGNAL_CHILD = 17 };

struct pollfd {
    int fd;
    int16_t events, revents;
};

static inline long call3(long number, long a, long b, long c) {
    return orchestra_syscall(number, a, b, c, 0, 0, 0);
}

static inline int sys_open(const char *path, int flags) {
    return (int)orchestra_syscall(56, AT_CWD, (long)path, flags, 0, 0, 0);
}
static inline int sys_close(int fd) { return (int)call3(57, fd, 0, 0); }
static inline int sys_pipe(int fds[2], int flags) { return (int)call3(59, (long)fds, flags, 0); }
static inline long sys_read(int fd, void *data, size_t length) {
    return call3(63, fd, (long)data, (long)length);
}
static inline long sys_write(int fd, const void *data, size_t length) {
    return call3(64, fd, (long)data, (long)length);
}
static inline int sys_duplicate(int fd, int target) { return (int)call3(24, fd, target, 0); }
static inline int sys_fork(void) { return (int)orchestra_syscall(220, SIGNAL_CHILD, 0, 0, 0, 0, 0); }
static inline int sys_execute(const char *path, const char *const *argv, char *const *envp) {
    return (int)call3(221, (long)path, (long)argv, (long)envp);
}
static inline int sys_wait(int pid, int *status, int flags) {
    return (int)orchestra_syscall(260, pid, (long)status, flags, 0, 0, 0);
}
static inline int sys_pidfd(int pid) { return (int)call3(434, pid, 0, 0); }
static inline int sys_memory_file(const char *name) {
    return (int)call3(279, (long)name, 1, 0);
} // closed on exec
static inline int sys_set_nonblocking(int fd) { return (int)call3(25, fd, 4, O_NONBLOCK); }
static inline int sys_keep_from_children(const void *start, size_t length) {
    return (int)call3(233, (long)start, (long)length, 10); // madvise MADV_DONTFORK
}
static inline int sys_new_session(void) { return (int)call3(157, 0, 0, 0); }

// milliseconds < 0: wait for ever
static inline int sys_poll(struct pollfd *fds, long count, long milliseconds) {
    int64_t timeout[2] = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    return (int)orchestra_syscall(73, (long)fds, count, milliseconds < 0 ? 0 : (long)timeout, 0, 8, 0);
}

static inline void __attribute__((noreturn)) sys_exit(int code) {
    for (;;) call3(94, code, 0, 0);
}

#endif
