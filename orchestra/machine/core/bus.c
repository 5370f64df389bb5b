/* bus.c: physical addresses: which device answers, and how devices reach memory. */
#include "machine.h"

typedef struct {
    uint64_t start, length;
    uint32_t needs; // bit of board.devices; 0: always there
    bool (*load)(machine *m, uint64_t offset, unsigned size, uint64_t *value);
    bool (*store)(machine *m, uint64_t offset, unsigned size, uint64_t value);
} device;

static const device devices[] = {
    {0x00100000, 0x1000, DEVICE_SYSCON, syscon_load, syscon_store},
    {0x02000000, 0xc0000, 0, clint_load, clint_store},
    {0x10000000, 0x1000, DEVICE_UART, uart_load, uart_store},
    {0x40008000, 0x1000, DEVICE_HTIF, htif_load, htif_store},
    {0x40010000, VIRTIO_SLOTS * 0x1000, 0, virtio_load, virtio_store},
    {0x40100000, 0x400000, 0, plic_load, plic_store},
};

static const device *device_at(const machine *m, uint64_t address, unsigned size) {
    if (address & (size - 1)) return NULL;
    for (unsigned i = 0; i < sizeof devices / sizeof *devices; i++) {
        const device *d = &devices[i];
        if (address - d->start < d->length) return !d->needs || (m->home->devices & d->needs) ? d : NULL;
    }
    return NULL;
}

bool bus_load(machine *m, uint64_t address, unsigned size, uint64_t *value) {
    const device *d = device_at(m, address, size);
    return d && d->load(m, address - d->start, size, value);
}

bool bus_store(machine *m, uint64_t address, unsigned size, uint64_t value) {
    const device *d = device_at(m, address, size);
    m->attention = true;
    return d && d->store(m, address - d->start, size, value);
}

// Guest memory for a device (guest) or the content behind one (not guest): the range must hold all of it.
bool dma_inside(const machine *m, uint64_t address, uint64_t length, bool guest, unsigned rights) {
    const memory_range *r = board_range(m->home, address);
    if (!r || (guest && (r->flags & (RANGE_GUEST | rights)) != (RANGE_GUEST | rights))) return false;
    return length <= r->length - (address - r->start);
}

// As much of it as there is in one page.
uint32_t dma_part(uint64_t address, uint64_t length) {
    uint64_t left = PAGE_BYTES - (address & 4095);
    return (uint32_t)(length < left ? length : left);
}

bool dma_read(machine *m, uint64_t address, void *data, uint64_t length, bool guest) {
    if (!dma_inside(m, address, length, guest, RANGE_READ)) return false;
    uint8_t *to = data;
    while (length) {
        uint64_t part = dma_part(address, length);
        memcpy(to, memory_peek(m, address >> PAGE_SHIFT) + (address & 4095), part);
        address += part, to += part, length -= part;
    }
    return true;
}

bool dma_write(machine *m, uint64_t address, const void *data, uint64_t length, bool guest) {
    if (!dma_inside(m, address, length, guest, RANGE_WRITE)) return false;
    const uint8_t *from = data;
    while (length) {
        uint64_t part = dma_part(address, length);
        bool leave = false;
        uint8_t *host = mmu_own(m, address >> PAGE_SHIFT, &leave);
        if (!host) return false;
        memcpy(host + (address & 4095), from, part);
        address += part, from += part, length -= part;
    }
    return true;
}

// What guest memory cannot be written there faults now, before anything is.
void dma_touch(machine *m, uint64_t address, uint64_t length) {
    if (!dma_inside(m, address, length, true, RANGE_WRITE)) return;
    for (uint64_t part; length; address += part, length -= part) {
        bool leave = false;
        uint8_t *host = mmu_own(m, address >> PAGE_SHIFT, &leave);
        if (!host) return;
        volatile uint8_t *byte = host + (address & 4095);
        *byte = *byte;
        part = dma_part(address, length);
    }
}

// The source is in one page.
bool dma_copy(machine *m, uint64_t target, uint64_t source, uint32_t length, bool guest_target,
              bool guest_source) {
    if (!dma_inside(m, source, length, guest_source, RANGE_READ)) return false;
    const uint8_t *from = memory_peek(m, source >> PAGE_SHIFT) + (source & 4095);
    return dma_write(m, target, from, length, guest_target);
}
