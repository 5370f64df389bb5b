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
static bool inside(const machine *m, uint64_t address, uint64_t length, bool guest, unsigned rights) {
    const memory_range *r = board_range(m->home, address);
    if (!r || (guest && (r->flags & (RANGE_GUEST | rights)) != (RANGE_GUEST | rights))) return false;
    return length <= r->length - (address - r->start);
}

static uint64_t in_page(uint64_t address, uint64_t length) {
    uint64_t left = PAGE_BYTES - (address & 4095);
    return length < left ? length : left;
}

bool dma_read(machine *m, uint64_t address, void *data, uint64_t length, bool guest) {
    if (!inside(m, address, length, guest, RANGE_READ)) return false;
    uint8_t *to = data;
    while (length) {
        uint64_t part = in_page(address, length);
        memcpy(to, memory_peek(m, address >> PAGE_SHIFT) + (address & 4095), part);
        address += part, to += part, length -= part;
    }
    return true;
}

bool dma_write(machine *m, uint64_t address, const void *data, uint64_t length, bool guest) {
    if (!inside(m, address, length, guest, RANGE_WRITE)) return false;
    const uint8_t *from = data;
    while (length) {
        uint64_t part = in_page(address, length);
        bool leave = false;
        uint8_t *host = mmu_own(m, address >> PAGE_SHIFT, &leave);
        if (!host) return false;
        memcpy(host + (address & 4095), from, part);
        address += part, from += part, length -= part;
    }
    return true;
}

// What cannot be read or written there faults now, before a device has begun.
void dma_touch(machine *m, uint64_t address, uint64_t length, bool guest, bool write) {
    if (!inside(m, address, length, guest, write ? RANGE_WRITE : RANGE_READ)) return;
    while (length) {
        uint64_t part = in_page(address, length);
        bool leave = false;
        uint8_t *host =
            write ? mmu_own(m, address >> PAGE_SHIFT, &leave) : memory_peek(m, address >> PAGE_SHIFT);
        if (!host) return;
        volatile uint8_t *byte = host + (address & 4095);
        if (write)
            *byte = *byte;
        else
            (void)*byte;
        address += part, length -= part;
    }
}

bool dma_copy(machine *m, uint64_t target, uint64_t source, uint64_t length, bool guest_target,
              bool guest_source) {
    if (!inside(m, source, length, guest_source, RANGE_READ)) return false;
    while (length) {
        uint64_t part = in_page(source, length);
        const uint8_t *from = memory_peek(m, source >> PAGE_SHIFT) + (source & 4095);
        if (!dma_write(m, target, from, part, guest_target)) return false;
        source += part, target += part, length -= part;
    }
    return true;
}
