// devices_guest.c: answers with all it can see of registers, memory and devices, and spoils all of it first
// seen. Each bit of a query's first byte spoils one thing more; the second says how the query ends.
#include "orchestra.h"

enum { ACCEPT = 'a', REJECT = 'r', EXCEPTION = 'e', HALT = 'h', LOOP = 'l' };

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define WIDE(address)     (*(volatile uint64_t *)(uintptr_t)(address))
#define BYTE(address)     (*(volatile uint8_t *)(uintptr_t)(address))

static const uintptr_t CLINT = 0x02000000, UART = 0x10000000, PLIC = 0x40100000;
static const uintptr_t DISK = 0x40010000, ENTROPY = 0x40011000;

// virtio 1.2, section 2.7: a split queue of eight

struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
};

struct queue {
    struct descriptor table[8];
    struct {
        uint16_t flags, index, ring[8];
    } available;
    volatile struct {
        uint16_t flags, index;
        struct {
            uint32_t id, length;
        } ring[8];
    } used __attribute__((aligned(4)));
} __attribute__((aligned(16)));

static struct queue disk_queue, entropy_queue;

static struct {
    uint32_t type, reserved;
    uint64_t sector;
} header;
static uint8_t sector[512], status;

static void start(uintptr_t device, struct queue *queue) {
    static const uint16_t steps[][2] = {{0x70, 1},  {0x70, 3}, {0x24, 1}, {0x20, 1},
                                        {0x70, 11}, {0x30, 0}, {0x38, 8}};
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) REGISTER(device + steps[i][0]) = steps[i][1];
    REGISTER(device + 0x80) = (uint32_t)(uintptr_t)queue->table;
    REGISTER(device + 0x90) = (uint32_t)(uintptr_t)&queue->available;
    REGISTER(device + 0xa0) = (uint32_t)(uintptr_t)&queue->used;
    REGISTER(device + 0x44) = 1;
    REGISTER(device + 0x70) = 15;
}

static void submit(uintptr_t device, struct queue *queue) {
    queue->available.ring[queue->available.index % 8] = 0;
    __asm__ volatile("fence" ::: "memory");
    queue->available.index++;
    __asm__ volatile("fence" ::: "memory");
    REGISTER(device + 0x50) = 0;
    while (queue->used.index != queue->available.index) __asm__ volatile("" ::: "memory");
}

static uint64_t draw(void) {
    static uint64_t drawn;
    entropy_queue.table[0] = (struct descriptor){(uintptr_t)&drawn, 8, 2, 0};
    submit(ENTROPY, &entropy_queue);
    return drawn;
}

static void transfer(uint32_t type) {
    header.type = type;
    disk_queue.table[0] = (struct descriptor){(uintptr_t)&header, sizeof header, 1, 1};
    disk_queue.table[1] = (struct descriptor){(uintptr_t)sector, sizeof sector, type ? 1 : 3, 2};
    disk_queue.table[2] = (struct descriptor){(uintptr_t)&status, 1, 2, 0};
    submit(DISK, &disk_queue);
}

static uint64_t kept; // plain memory
static uint64_t seen[24];

#define CSR(name)                                                                                            \
    ({                                                                                                       \
        uint64_t value;                                                                                      \
        __asm__ volatile("csrr %0, " #name : "=r"(value));                                                   \
        value;                                                                                               \
    })

static void look(void) {
    transfer(0);
    seen[0] = kept, seen[1] = CSR(mscratch), seen[2] = CSR(fcsr), seen[3] = CSR(mie);
    seen[4] = WIDE(CLINT + 0x4000), seen[5] = REGISTER(CLINT), seen[6] = WIDE(CLINT + 0xbff8);
    seen[7] = BYTE(UART + 7), seen[8] = BYTE(UART + 3), seen[9] = BYTE(UART + 1);
    seen[10] = REGISTER(PLIC + 4), seen[11] = REGISTER(PLIC + 0x2000), seen[12] = REGISTER(PLIC + 0x1000);
    seen[13] = REGISTER(DISK + 0x60), seen[14] = REGISTER(ENTROPY + 0x60), seen[15] = CSR(mcycle);
    seen[16] = *(uint64_t *)(void *)sector, seen[17] = draw(), seen[18] = CSR(satp), seen[19] = CSR(mepc);
    seen[20] = ORCHESTRA_HTIF[ORCHESTRA_FROMHOST], seen[21] = CSR(stvec), seen[22] = CSR(medeleg);
    __asm__ volatile("fmv.x.d %0, fs11" : "=r"(seen[23]));
}

static void spoil(unsigned bits) {
    if (bits & 1) kept += 0x1234567;
    if (bits & 2)
        __asm__ volatile(
            "csrw mscratch, %0\n csrw fcsr, %1\n csrw mepc, %0\n csrw stvec, %0\n csrw medeleg, %1" ::"r"(
                0x55aa55a4ul),
            "r"(0x35ul));
    if (bits & 4) WIDE(CLINT + 0x4000) = 77, REGISTER(CLINT) = 1, WIDE(CLINT + 0xbff8) = 1ull << 40;
    if (bits & 8)
        BYTE(UART + 7) = 0x5a, BYTE(UART + 3) = 0x83, BYTE(UART + 1) = 7, BYTE(UART + 3) = 3,
                    BYTE(UART) = 'x';
    if (bits & 16) REGISTER(PLIC + 4) = 5, REGISTER(PLIC + 0x2000) = 0xfffe, REGISTER(PLIC + 0x200000) = 3;
    if (bits & 32) {
        for (unsigned i = 0; i < sizeof sector; i++) sector[i] = (uint8_t)(i + 1);
        transfer(1);
    }
    if (bits & 64)
        for (unsigned i = 0; i < 5; i++) kept ^= draw();
    if (bits & 128) {
        REGISTER(ENTROPY + 0x70) = 0; // a reset
        REGISTER(DISK + 0x70) = 0;
        __asm__ volatile("fmv.d.x fs11, %0\n csrw mie, %0" ::"r"(0x888ul));
    }
}

void serve(void) {
    struct orchestra_request request;
    start(DISK, &disk_queue);
    start(ENTROPY, &entropy_queue);
    __asm__ volatile("fmv.d.x fs11, zero");
    uint32_t verdict = ORCHESTRA_ACCEPT;
    for (;;) {
        orchestra_finish(verdict, &request);
        unsigned bits = request.length > 0 ? request.data[0] : 0,
                 end = request.length > 1 ? request.data[1] : ACCEPT;
        look();
        orchestra_report(seen, sizeof seen);
        spoil(bits);
        if (end == HALT) orchestra_halt(bits);
        if (end == EXCEPTION) orchestra_exception("spoilt", 6, &request);
        for (; end == LOOP; kept++) __asm__ volatile("" ::: "memory");
        verdict = end == REJECT ? ORCHESTRA_REJECT : ORCHESTRA_ACCEPT;
    }
}

void trapped(void) { orchestra_halt(99); }
