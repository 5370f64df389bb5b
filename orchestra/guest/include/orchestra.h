// orchestra.h: how a guest program talks to its host; bare metal or Linux, no libc needed.
//
// Compile with -ffreestanding where there is no libc. Bare metal (default when the compiler does not say
// Linux) reaches the registers directly. On Linux (the compiler says so, or -DORCHESTRA_LINUX)
// orchestra_open() maps them from /dev/mem by raw system calls: the program must be root, or be handed the
// mappings by root before it drops privileges.
//
//     struct orchestra_request request;
//     if (orchestra_open()) return 1;
//     int verdict = ORCHESTRA_ACCEPT;
//     for (;;) {
//         orchestra_finish(verdict, &request);              // stops the machine until the host's next
//         request orchestra_report(request.data, request.length);   // an echo
//     }
#ifndef ORCHESTRA_H
#define ORCHESTRA_H

#include <stddef.h>
#include <stdint.h>

#if defined(__linux__) && !defined(ORCHESTRA_LINUX) && !defined(ORCHESTRA_BARE)
#    define ORCHESTRA_LINUX 1
#endif

enum {
    ORCHESTRA_ACCEPT = 1,    // orchestra_finish: keep the new state
    ORCHESTRA_REJECT = 2,    // orchestra_finish: the host reverts the state
    ORCHESTRA_ADVANCE = 0,   // request.kind: change your state
    ORCHESTRA_INSPECT = 1,   // request.kind: answer; the host throws this state away
    ORCHESTRA_TOO_LONG = -1, // an emit longer than the tx buffer, which nothing was sent of
};

#define ORCHESTRA_BUFFER_BYTES 0x200000u // of rx and of tx
#define ORCHESTRA_HTIF_ADDRESS 0x40008000u
#define ORCHESTRA_RX_ADDRESS   0x60000000u
#define ORCHESTRA_TX_ADDRESS   0x60800000u

struct orchestra_request {
    uint32_t kind;       // ORCHESTRA_ADVANCE or ORCHESTRA_INSPECT
    uint32_t length;     // bytes at data
    const uint8_t *data; // in the rx buffer: read-only, valid until the next orchestra_finish
};

// ---- where the registers and buffers are

#ifdef ORCHESTRA_LINUX
static struct {
    volatile uint64_t *htif;
    const uint8_t *rx;
    uint8_t *tx;
} orchestra_mapped;
#    define ORCHESTRA_HTIF (orchestra_mapped.htif)
#    define ORCHESTRA_RX   (orchestra_mapped.rx)
#    define ORCHESTRA_TX   (orchestra_mapped.tx)

static inline long orchestra_syscall(long number, long a, long b, long c, long d, long e, long f) {
    register long a0 __asm__("a0") = a;
    register long a1 __asm__("a1") = b;
    register long a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d;
    register long a4 __asm__("a4") = e;
    register long a5 __asm__("a5") = f;
    register long a7 __asm__("a7") = number;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7) : "memory");
    return a0;
}

// Maps the registers and buffers; 0, or the negative errno of what failed (-EPERM: not root).
static inline int orchestra_open(void) {
    enum { OPENAT = 56, CLOSE = 57, MMAP = 222, AT_CWD = -100, RDWR_SYNC_CLOEXEC = 02 | 04010000 | 02000000 };
    enum { READ = 1, WRITE = 2, SHARED = 1 };
    long fd = orchestra_syscall(OPENAT, AT_CWD, (long)"/dev/mem", RDWR_SYNC_CLOEXEC, 0, 0, 0);
    if (fd < 0) return (int)fd;
    long htif = orchestra_syscall(MMAP, 0, 0x1000, READ | WRITE, SHARED, fd, ORCHESTRA_HTIF_ADDRESS);
    long rx = orchestra_syscall(MMAP, 0, ORCHESTRA_BUFFER_BYTES, READ, SHARED, fd, ORCHESTRA_RX_ADDRESS);
    long tx =
        orchestra_syscall(MMAP, 0, ORCHESTRA_BUFFER_BYTES, READ | WRITE, SHARED, fd, ORCHESTRA_TX_ADDRESS);
    orchestra_syscall(CLOSE, fd, 0, 0, 0, 0, 0);
    if (htif < 0 && htif > -4096) return (int)htif;
    if (rx < 0 && rx > -4096) return (int)rx;
    if (tx < 0 && tx > -4096) return (int)tx;
    orchestra_mapped.htif = (volatile uint64_t *)htif;
    orchestra_mapped.rx = (const uint8_t *)rx;
    orchestra_mapped.tx = (uint8_t *)tx;
    return 0;
}
#else
#    define ORCHESTRA_HTIF ((volatile uint64_t *)(uintptr_t)ORCHESTRA_HTIF_ADDRESS)
#    define ORCHESTRA_RX   ((const uint8_t *)(uintptr_t)ORCHESTRA_RX_ADDRESS)
#    define ORCHESTRA_TX   ((uint8_t *)(uintptr_t)ORCHESTRA_TX_ADDRESS)
static inline int orchestra_open(void) { return 0; }
#endif

// ---- HTIF: tohost = dev[63:56] cmd[55:48] reason[47:32] data[31:0]

enum { ORCHESTRA_TOHOST = 0, ORCHESTRA_FROMHOST = 1 }; // 64-bit words of HTIF
enum { ORCHESTRA_DEV_HALT = 0, ORCHESTRA_DEV_CONSOLE = 1, ORCHESTRA_DEV_YIELD = 2 };
enum { ORCHESTRA_AUTOMATIC = 0, ORCHESTRA_MANUAL = 1 };
enum { ORCHESTRA_PROGRESS = 1, ORCHESTRA_OUTPUT = 2, ORCHESTRA_REPORT = 4, ORCHESTRA_EXCEPTION = 4 };

// The machine stops at this store and goes on behind it.
static inline void orchestra_tohost(uint32_t device, uint32_t command, uint32_t reason, uint32_t data) {
    __asm__ volatile("fence" ::: "memory"); // what the host reads is written before it is told
    ORCHESTRA_HTIF[ORCHESTRA_TOHOST] =
        (uint64_t)device << 56 | (uint64_t)command << 48 | (uint64_t)reason << 32 | data;
    __asm__ volatile("fence" ::: "memory"); // what the host wrote is read after it has answered
}

// Copies into the tx buffer; by volatile words, so that no compiler makes a call of memcpy of it.
static inline void orchestra_fill(const void *data, size_t length) {
    const uint8_t *source = (const uint8_t *)data;
    uint8_t *target = ORCHESTRA_TX;
    __asm__(
        ""
        : "+r"(
            target)); // else gcc 12 takes the constant's end of address space for a loop's bound, and warns
    size_t done = 0;
    if (((uintptr_t)source & 7) == 0) {
        typedef uint64_t __attribute__((may_alias)) word;
        for (; done + 8 <= length; done += 8)
            *(volatile word *)(target + done) = *(const word *)(const void *)(source + done);
    }
    for (; done < length; done++) *(volatile uint8_t *)(target + done) = source[done];
}

static inline int orchestra_emit(uint32_t command, uint32_t reason, const void *data, size_t length) {
    if (length > ORCHESTRA_BUFFER_BYTES) return ORCHESTRA_TOO_LONG;
    if (data != ORCHESTRA_TX) orchestra_fill(data, length); // else the guest has written there itself
    orchestra_tohost(ORCHESTRA_DEV_YIELD, command, reason, (uint32_t)length);
    return 0;
}

static inline void orchestra_receive(struct orchestra_request *request) {
    uint64_t answer = ORCHESTRA_HTIF[ORCHESTRA_FROMHOST];
    ORCHESTRA_HTIF[ORCHESTRA_FROMHOST] = 0; // firmware that polls HTIF for its console must not find it
    if (!request) return;
    request->kind = (uint32_t)(answer >> 32);
    request->length = (uint32_t)answer;
    request->data = ORCHESTRA_RX;
}

// ---- what a guest says

// How far the request is, in thousandths.
static inline void orchestra_progress(uint32_t permille) {
    orchestra_tohost(ORCHESTRA_DEV_YIELD, ORCHESTRA_AUTOMATIC, ORCHESTRA_PROGRESS, permille);
}

// A result that belongs to the new state; dropped by the host when the request is rejected. 0 or
// ORCHESTRA_TOO_LONG.
static inline int orchestra_output(const void *data, size_t length) {
    return orchestra_emit(ORCHESTRA_AUTOMATIC, ORCHESTRA_OUTPUT, data, length);
}

// An answer or a diagnostic; kept by the host whatever becomes of the request. 0 or ORCHESTRA_TOO_LONG.
static inline int orchestra_report(const void *data, size_t length) {
    return orchestra_emit(ORCHESTRA_AUTOMATIC, ORCHESTRA_REPORT, data, length);
}

// Ends the request (the first call: "ready") and stops the machine; returns with the host's next request.
static inline void orchestra_finish(uint32_t verdict, struct orchestra_request *request) {
    orchestra_tohost(ORCHESTRA_DEV_YIELD, ORCHESTRA_MANUAL, verdict, 0);
    orchestra_receive(request);
}

// Ends the request as failed beyond rejection; the text is cut at the buffer's length. Returns, like
// orchestra_finish, only when a host chooses to go on from here; `request` may be NULL.
static inline void orchestra_exception(const void *data, size_t length, struct orchestra_request *request) {
    if (length > ORCHESTRA_BUFFER_BYTES) length = ORCHESTRA_BUFFER_BYTES;
    orchestra_emit(ORCHESTRA_MANUAL, ORCHESTRA_EXCEPTION, data, length);
    orchestra_receive(request);
}

// Ends the machine; the host sees the low 31 bits of code.
static inline void __attribute__((noreturn)) orchestra_halt(uint32_t code) {
    for (;;) orchestra_tohost(ORCHESTRA_DEV_HALT, 0, 0, code << 1 | 1);
}

static inline void orchestra_putchar(char c) { orchestra_tohost(ORCHESTRA_DEV_CONSOLE, 1, 0, (uint8_t)c); }

#endif
