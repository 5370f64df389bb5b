/* state.h: all of a machine except its memory, as snapshots store it. A part of machine.h. */
#ifndef ORCHESTRA_STATE_H
#define ORCHESTRA_STATE_H

// state.c: all of a machine except its memory; a snapshot stores these bytes as they are (little endian)

enum { VIRTIO_SLOTS = 16, VIRTIO_QUEUES = 2, UART_FIFO = 64, PLIC_SOURCES = 32, PLIC_CONTEXTS = 2 };

typedef struct {
    uint64_t descriptors, driver, device; // physical addresses
    uint16_t size, ready, next_available, reserved;
} virtqueue;

typedef struct {
    uint32_t status, device_features_select, driver_features_select, queue_select;
    uint64_t driver_features;
    uint32_t interrupt_status, reserved;
    uint64_t random; // rng: the generator's state
    virtqueue queues[VIRTIO_QUEUES];
} virtio_state;

typedef struct {                                // what a virtio device is doing, while the hart stands still
    uint64_t until;                             // cycle: when its last step is over
    uint64_t table, address;                    // of descriptors; of what is left of the segment at hand
    uint64_t position;                          // block: in the drive, bytes
    uint32_t table_length, left, type, written; // descriptors; bytes; block: the request's; bytes
    uint16_t available;                         // the driver's index, at the notification
    uint16_t head, next, flags;                 // of the chain; of the descriptor at hand
    uint16_t count, reserved;                   // descriptors met, this one included
    uint8_t phase, slot, queue, status;         // all zeros: no device is busy
} virtio_work;

typedef struct {
    uint64_t x[33]; // x[32] takes the writes to x0; it is 0 whenever the machine stands
    uint64_t f[32]; // NaN-boxed
    uint64_t pc;
    uint64_t cycle;           // the machine's clock: every instruction, trap and skipped idle cycle counts
    uint64_t mcycle_offset;   // mcycle = cycle + mcycle_offset
    uint64_t minstret_offset; // minstret = cycle + minstret_offset
    uint64_t mtime_offset;    // mtime = cycle / cycles_per_tick + mtime_offset
    uint64_t mstatus, medeleg, mideleg, mie, mip, mtvec, mscratch, mepc, mcause, mtval, mcounteren, menvcfg;
    uint64_t stvec, sscratch, sepc, scause, stval, satp, scounteren, senvcfg;
    uint64_t reservation; // physical address of the last LR, or ~0
    uint64_t mtimecmp;
    uint64_t tohost, fromhost, ihalt, iconsole, iyield;
    uint64_t stop_data; // of the halt or yield the machine stands at
    uint32_t fflags, frm;
    uint32_t plic_priority[PLIC_SOURCES];
    uint32_t plic_pending, plic_claimed, plic_level;
    uint32_t plic_enable[PLIC_CONTEXTS], plic_threshold[PLIC_CONTEXTS];
    uint32_t stop_reason;
    uint8_t privilege, waiting, halted, yielded;
    uint8_t msip;
    uint8_t uart_ier, uart_lcr, uart_mcr, uart_scratch, uart_dll, uart_dlm, uart_fcr;
    uint8_t uart_count, uart_thr_interrupt;
    uint8_t uart_reserved[2];
    uint8_t uart_fifo[UART_FIFO];
    uint64_t stimecmp;
    virtio_work work;
    uint64_t reserved[86];
    virtio_state virtio[VIRTIO_SLOTS];
    uint8_t padding[640];
} state;

_Static_assert(sizeof(virtqueue) == 32 && sizeof(virtio_state) == 104 && sizeof(virtio_work) == 64,
               "virtio state layout");
_Static_assert(offsetof(state, f) == 264 && offsetof(state, pc) == 520 && offsetof(state, mstatus) == 560,
               "registers stay where snapshots have them");
_Static_assert(offsetof(state, virtio) == 1792 && sizeof(state) == PAGE_BYTES, "the state fills one page");

#endif
