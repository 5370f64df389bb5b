/* devices.h: physical addresses, control and status registers, traps, devices. A part of machine.h. */
#ifndef ORCHESTRA_DEVICES_H
#define ORCHESTRA_DEVICES_H

// bus.c: physical addresses

bool bus_load(machine *m, uint64_t address, unsigned size, uint64_t *value); // devices only
bool bus_store(machine *m, uint64_t address, unsigned size, uint64_t value);
bool dma_inside(const machine *m, uint64_t address, uint64_t length, bool guest, unsigned rights);
bool dma_read(machine *m, uint64_t address, void *data, uint64_t length, bool guest);
bool dma_write(machine *m, uint64_t address, const void *data, uint64_t length, bool guest);
void dma_touch(machine *m, uint64_t address, uint64_t length);
uint32_t dma_part(uint64_t address, uint64_t length);
bool dma_copy(machine *m, uint64_t target, uint64_t source, uint32_t length, bool guest_target,
              bool guest_source);

// csr.c, trap.c

#define MSTATUS_SIE  (1ull << 1)
#define MSTATUS_MIE  (1ull << 3)
#define MSTATUS_SPIE (1ull << 5)
#define MSTATUS_MPIE (1ull << 7)
#define MSTATUS_SPP  (1ull << 8)
#define MSTATUS_MPP  (3ull << 11)
#define MSTATUS_FS   (3ull << 13)
#define MSTATUS_MPRV (1ull << 17)
#define MSTATUS_SUM  (1ull << 18)
#define MSTATUS_MXR  (1ull << 19)
#define MSTATUS_TVM  (1ull << 20)
#define MSTATUS_TW   (1ull << 21)
#define MSTATUS_TSR  (1ull << 22)
#define MSTATUS_UXL  (2ull << 32)
#define MSTATUS_SXL  (2ull << 34)
#define MSTATUS_SD   (1ull << 63)

#define ENVCFG_CBIE  (3ull << 4)
#define ENVCFG_CBCFE (1ull << 6)
#define ENVCFG_CBZE  (1ull << 7)
#define MENVCFG_STCE (1ull << 63)

enum { IRQ_SSI = 1, IRQ_MSI = 3, IRQ_STI = 5, IRQ_MTI = 7, IRQ_SEI = 9, IRQ_MEI = 11 };

enum cause {
    CAUSE_NONE = -1, // the instruction was given up without a trap: m->stop says why
    CAUSE_FETCH_MISALIGNED,
    CAUSE_FETCH_ACCESS,
    CAUSE_ILLEGAL,
    CAUSE_BREAKPOINT,
    CAUSE_LOAD_MISALIGNED,
    CAUSE_LOAD_ACCESS,
    CAUSE_STORE_MISALIGNED,
    CAUSE_STORE_ACCESS,
    CAUSE_ECALL_U,
    CAUSE_ECALL_S,
    CAUSE_ECALL_M = 11,
    CAUSE_FETCH_PAGE,
    CAUSE_LOAD_PAGE,
    CAUSE_STORE_PAGE = 15,
};

bool csr_read(machine *m, unsigned number, uint64_t *value);
bool csr_write(machine *m, unsigned number, uint64_t value);
bool csr_access(machine *m, unsigned number, bool writes); // may the present mode?
bool csr_environment(const machine *m, uint64_t bits);     // do menvcfg and senvcfg let the present mode?
const char *csr_name(unsigned number);                     // NULL: no such CSR
int csr_number(const char *name);                          // -1: no such CSR
uint64_t interrupts_pending(const machine *m);             // mip with the wires
void trap_enter(machine *m, uint64_t cause, uint64_t value);
uint64_t interrupts_enabled(const machine *m); // those that would be taken now
bool trap_interrupt(machine *m);               // takes the most urgent enabled interrupt, if any
bool trap_return(machine *m, unsigned from);

// devices/

enum {
    STOP_NONE,
    STOP_HALTED,
    STOP_YIELDED,
    STOP_CYCLE,
    STOP_INTERRUPTED,
    STOP_IDLE,
    STOP_CONSOLE,
    STOP_MEMORY
};
enum { YIELD_AUTOMATIC = 0, YIELD_MANUAL = 1 };

bool clint_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool clint_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
uint64_t clint_time(const machine *m);
uint64_t clint_timer_cycle(const machine *m, uint64_t enabled); // when the next of these interrupts is due
bool plic_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool plic_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
void plic_set(machine *m, unsigned source, bool level);
bool plic_line(const machine *m, unsigned context);
bool uart_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool uart_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
unsigned uart_receive(machine *m, const uint8_t *data, unsigned length);
int uart_take(machine *m);
bool htif_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool htif_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
void htif_command(machine *m, uint64_t tohost);
bool syscon_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool syscon_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
bool virtio_load(machine *m, uint64_t offset, unsigned size, uint64_t *value);
bool virtio_store(machine *m, uint64_t offset, unsigned size, uint64_t value);
void virtio_reset(machine *m, unsigned slot);
void console_put(machine *m, uint8_t byte);

enum { WORK_NONE, WORK_TAKE, WORK_FETCH, WORK_PART, WORK_END, WORK_DONE };
enum { DESCRIPTOR_NEXT = 1, DESCRIPTOR_WRITE = 2, DESCRIPTOR_INDIRECT = 4 };
#define VIRTIO_MALFORMED UINT32_MAX // a part of this length is no part
void virtio_begin(machine *m, unsigned slot, unsigned queue);
void virtio_serve(machine *m, uint64_t until);
void virtio_interrupt(machine *m, unsigned slot, uint32_t bits);
void virtio_broken(machine *m, unsigned slot);
uint32_t virtio_block_part(machine *m, virtio_work *w);
uint32_t virtio_random_part(machine *m, virtio_work *w);
uint64_t virtio_block_config(const machine *m, unsigned slot, uint64_t offset);

enum { UART_SOURCE = 20 }; // PLIC sources: virtio slot k has k + 1

#endif
