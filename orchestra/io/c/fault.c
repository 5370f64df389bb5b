/* fault.c: SIGBUS at an address of ours becomes a return value of io_guarded; any other goes where it always
 * went. */
#include "io.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

/* glibc may call malloc at a thread's first use of a dynamic thread-local, which a signal handler must not
 * do. */
#ifdef __GLIBC__
#    define THREAD_LOCAL _Thread_local __attribute__((tls_model("initial-exec")))
#else
#    define THREAD_LOCAL _Thread_local
#endif

struct landing {
    sigjmp_buf environment;
    struct landing *outer;
    struct io_fault *fault;
};

/* A handler that was installed before ours, or put over ours later and found at the next io_guarded. Never
   changed, never freed: a handler on another thread may be reading it. */
struct previous {
    struct sigaction action;
    struct previous *older;
    struct previous *made_before;
};

static struct {
    pthread_mutex_t writer;
    _Atomic(struct previous *) newest;
    struct previous *all;
    bool watches_fork;
} chain = {.writer = PTHREAD_MUTEX_INITIALIZER};

static THREAD_LOCAL struct landing *innermost;

/* What this thread last passed on. faulthandler puts back what it found (us) and raises again: while its call
   lasts, the next older one is due. Disabled, it returns, and the same fault comes again, endlessly. */
#define FUTILE 64u

static THREAD_LOCAL struct {
    struct previous *receiver;
    void *address;
    unsigned returned; // times in a row, for this address
    bool active;
} passed;

static bool is_fault(const siginfo_t *info) {
    return info->si_code == BUS_ADRALN || info->si_code == BUS_ADRERR || info->si_code == BUS_OBJERR ||
           info->si_code == BUS_MCEERR_AR;
}

static struct previous *next_receiver(const siginfo_t *info) {
    struct previous *last = passed.receiver;
    if (is_fault(info) && passed.address != info->si_addr) passed.returned = 0;
    bool again = is_fault(info) ? passed.returned >= FUTILE : passed.active;
    if (again && last != NULL && last->older != NULL) return last->older;
    return atomic_load_explicit(&chain.newest, memory_order_acquire);
}

/* The kernel kills whoever ignores a fault, too; a signal that somebody sent must be sent again. */
static void die(int signal, bool fault) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(signal, &standard, NULL);
    if (!fault) raise(signal);
}

static void call(const struct sigaction *action, int signal, siginfo_t *info, void *context) {
    sigset_t blocked = action->sa_mask, before;
    if (!(action->sa_flags & SA_NODEFER)) sigaddset(&blocked, signal);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    if (action->sa_flags & SA_SIGINFO)
        action->sa_sigaction(signal, info, context);
    else
        action->sa_handler(signal);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void pass_on(int signal, siginfo_t *info, void *context) {
    struct previous *receiver = next_receiver(info);
    const struct sigaction *action = &receiver->action;
    bool plain = !(action->sa_flags & SA_SIGINFO);
    if (plain && action->sa_handler == SIG_IGN && !is_fault(info)) return;
    if (plain && (action->sa_handler == SIG_IGN || action->sa_handler == SIG_DFL)) {
        die(signal, is_fault(info));
        return;
    }
    bool outer = passed.active;
    passed.receiver = receiver;
    passed.address = is_fault(info) ? info->si_addr : NULL;
    passed.active = true;
    call(action, signal, info, context);
    passed.active = outer;
    passed.returned++;
}

/* Registers by the number that instructions have for them. */
static void note_registers(struct io_fault *fault, const ucontext_t *at) {
#if defined(__x86_64__) && defined(__linux__)
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    for (unsigned i = 0; i < 16; i++) fault->registers[i] = (uint64_t)at->uc_mcontext.gregs[order[i]];
    fault->registers[32] = (uint64_t)at->uc_mcontext.gregs[REG_RIP];
    const struct _libc_fpstate *floats = at->uc_mcontext.fpregs;
    if (floats == NULL) return;
    fault->registers[33] = floats->mxcsr;
    for (unsigned i = 0; i < 16; i++) memcpy(&fault->registers[34 + i], &floats->_xmm[i], 8);
#elif defined(__aarch64__) && defined(__linux__)
    for (unsigned i = 0; i < 31; i++) fault->registers[i] = at->uc_mcontext.regs[i];
    fault->registers[31] = at->uc_mcontext.sp;
    fault->registers[32] = at->uc_mcontext.pc;
    struct {
        uint32_t magic, size, status, control;
        uint64_t registers[32][2];
    } record; // of the list of extensions, that of FPSIMD_MAGIC
    const unsigned char *next = (const unsigned char *)at->uc_mcontext.__reserved;
    const unsigned char *end = next + sizeof at->uc_mcontext.__reserved - sizeof record;
    do {
        memcpy(&record, next, sizeof record);
        next += record.size;
    } while (record.magic != 0x46508001 && record.size != 0 && next <= end);
    if (record.magic != 0x46508001) return;
    fault->registers[33] = record.status;
    for (unsigned i = 0; i < 32; i++) fault->registers[34 + i] = record.registers[i][0];
#else
    (void)at;
    memset(fault->registers, 0, sizeof fault->registers);
#endif
}

/* The mask is restored by hand: ours blocks nothing, but ThreadSanitizer's stand-in for it blocks everything.
 */
_Noreturn static void land(struct landing *landing, const ucontext_t *interrupted) {
    pthread_sigmask(SIG_SETMASK, &interrupted->uc_sigmask, NULL);
    siglongjmp(landing->environment, 1);
}

static void on_bus_error(int signal, siginfo_t *info, void *context) {
    int saved_errno = errno;
    struct landing *landing = innermost;
    if (landing != NULL && is_fault(info) && io_region_find((uintptr_t)info->si_addr, landing->fault)) {
        note_registers(landing->fault, context);
        land(landing, context);
    }
    pass_on(signal, info, context);
    errno = saved_errno;
}

static bool is_ours(const struct sigaction *action) {
    return (action->sa_flags & SA_SIGINFO) && action->sa_sigaction == on_bus_error;
}

static bool same_action(const struct sigaction *one, const struct sigaction *other) {
    if ((one->sa_flags & SA_SIGINFO) != (other->sa_flags & SA_SIGINFO)) return false;
    if (one->sa_flags & SA_SIGINFO) return one->sa_sigaction == other->sa_sigaction;
    return one->sa_handler == other->sa_handler;
}

/* The chain with `action` at its head: cut back to it where it is in the chain, else with it put on top. */
static struct previous *remember(const struct sigaction *action) {
    struct previous *newest = atomic_load_explicit(&chain.newest, memory_order_relaxed);
    for (struct previous *known = newest; known != NULL; known = known->older)
        if (same_action(&known->action, action)) return known;
    for (struct previous *known = chain.all; known != NULL; known = known->made_before)
        if (known->older == newest && same_action(&known->action, action)) return known;
    struct previous *made = malloc(sizeof *made);
    if (made == NULL) return NULL;
    *made = (struct previous){.action = *action, .older = newest, .made_before = chain.all};
    chain.all = made;
    return made;
}

static void before_fork(void) {
    pthread_mutex_lock(&chain.writer);
    io_regions_before_fork();
}

static void after_fork_in_parent(void) {
    io_regions_after_fork(0);
    pthread_mutex_unlock(&chain.writer);
}

static void after_fork_in_child(void) {
    io_regions_after_fork(1);
    pthread_mutex_unlock(&chain.writer);
}

static int put_on_top(void) {
    struct sigaction current;
    if (!chain.watches_fork) {
        int error = pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
        if (error != 0) return -error;
        chain.watches_fork = true;
    }
    if (sigaction(SIGBUS, NULL, &current) != 0) return -errno;
    if (is_ours(&current)) return 0;
    struct previous *newest = remember(&current);
    if (newest == NULL) return -ENOMEM;
    atomic_store_explicit(&chain.newest, newest, memory_order_release);
    struct sigaction ours = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, NULL) == 0 ? 0 : -errno;
}

/* Cheap when nothing changed (one system call, no lock); somebody may have put a handler over ours meanwhile.
 */
int io_fault_install(void) {
    struct sigaction current;
    if (sigaction(SIGBUS, NULL, &current) == 0 && is_ours(&current)) return 0;
    pthread_mutex_lock(&chain.writer);
    int result = put_on_top();
    pthread_mutex_unlock(&chain.writer);
    return result;
}

/* Returns 0, or 1 with `fault` filled, or -errno when the handler could not be installed. */
int io_guarded(uintptr_t function, uintptr_t argument, struct io_fault *fault) {
    struct landing here = {.outer = innermost, .fault = fault};
    int installed = io_fault_install();
    if (installed != 0) return installed;
    passed.active = false;
    passed.returned = 0;
    if (sigsetjmp(here.environment, 0) != 0) {
        innermost = here.outer;
        return 1;
    }
    innermost = &here;
    atomic_signal_fence(memory_order_seq_cst);
    ((void (*)(void *))function)((void *)argument);
    atomic_signal_fence(memory_order_seq_cst);
    innermost = here.outer;
    return 0;
}

void io_copy(void *argument) {
    const struct io_copy *copy = argument;
    memcpy((void *)copy->target, (const void *)copy->source, copy->length);
}
