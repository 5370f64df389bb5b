/* virtio.c: the virtio-mmio transport (Virtual I/O Device 1.2, section 4.2). */
#include "../machine.h"

enum {
    MAGIC = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    VENDOR_ID = 0x00c,
    DEVICE_FEATURES = 0x010,
    DEVICE_FEATURES_SELECT = 0x014,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SELECT = 0x024,
    QUEUE_SELECT = 0x030,
    QUEUE_SIZE_MAX = 0x034,
    QUEUE_SIZE = 0x038,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESCRIPTORS = 0x080,
    QUEUE_DRIVER = 0x090,
    QUEUE_DEVICE = 0x0a0,
    CONFIG_GENERATION = 0x0fc,
    CONFIG = 0x100
};
enum { STATUS_DRIVER_OK = 4, STATUS_NEEDS_RESET = 64 };
enum { QUEUE_MAXIMUM = 256 };
#define FEATURE_VERSION_1 (1ull << 32)
#define FEATURE_INDIRECT  (1ull << 28)
#define FEATURE_READ_ONLY (1ull << 5)
#define FEATURE_FLUSH     (1ull << 9)

static uint64_t features(const machine *m, unsigned slot) {
    const virtio_config *c = &m->home->virtio[slot];
    uint64_t bits = FEATURE_VERSION_1 | FEATURE_INDIRECT;
    if (c->kind == VIRTIO_BLOCK) bits |= FEATURE_FLUSH | (c->read_only ? FEATURE_READ_ONLY : 0);
    return bits;
}

static uint32_t device_id(const machine *m, unsigned slot) {
    switch (m->home->virtio[slot].kind) {
    case VIRTIO_BLOCK: return 2;
    case VIRTIO_RANDOM: return 4;
    }
    return 0;
}

void virtio_reset(machine *m, unsigned slot) {
    virtio_state *v = &m->s.virtio[slot];
    uint64_t random = v->random;
    *v = (virtio_state){.random = random};
    plic_set(m, slot + 1, false);
}

void virtio_interrupt(machine *m, unsigned slot, uint32_t bits) {
    m->s.virtio[slot].interrupt_status |= bits;
    plic_set(m, slot + 1, true);
}

void virtio_broken(machine *m, unsigned slot) { // the driver broke the protocol
    m->s.virtio[slot].status |= STATUS_NEEDS_RESET;
    virtio_interrupt(m, slot, 2);
}

static void notify(machine *m, unsigned slot, unsigned queue) {
    const virtio_state *v = &m->s.virtio[slot];
    if (queue >= VIRTIO_QUEUES || !(v->status & STATUS_DRIVER_OK) || (v->status & STATUS_NEEDS_RESET)) return;
    if (v->queues[queue].ready && v->queues[queue].size) virtio_begin(m, slot, queue);
}

bool virtio_load(machine *m, uint64_t address, unsigned size, uint64_t *value) {
    unsigned slot = (unsigned)(address >> 12);
    uint64_t offset = address & 4095;
    const virtio_state *v = &m->s.virtio[slot];
    *value = 0;
    if (offset >= CONFIG) {
        if (m->home->virtio[slot].kind == VIRTIO_BLOCK)
            *value = virtio_block_config(m, slot, offset - CONFIG) & (~0ull >> (64 - 8 * size));
        return true;
    }
    if (size != 4) return false;
    switch (offset) {
    case MAGIC: *value = 0x74726976; break;
    case VERSION: *value = 2; break;
    case DEVICE_ID: *value = device_id(m, slot); break;
    case VENDOR_ID: *value = 0x6863726f; break;
    case DEVICE_FEATURES:
        if (v->device_features_select < 2)
            *value = (uint32_t)(features(m, slot) >> (32 * v->device_features_select));
        break;
    case QUEUE_SIZE_MAX: *value = v->queue_select == 0 && device_id(m, slot) ? QUEUE_MAXIMUM : 0; break;
    case QUEUE_READY:
        if (v->queue_select < VIRTIO_QUEUES) *value = v->queues[v->queue_select].ready;
        break;
    case INTERRUPT_STATUS: *value = v->interrupt_status; break;
    case STATUS: *value = v->status; break;
    }
    return true;
}

static void set_half(uint64_t *whole, bool high, uint64_t value) {
    *whole = high ? (*whole & 0xffffffff) | value << 32 : (*whole & ~0xffffffffull) | (uint32_t)value;
}

bool virtio_store(machine *m, uint64_t address, unsigned size, uint64_t value) {
    unsigned slot = (unsigned)(address >> 12);
    uint64_t offset = address & 4095;
    virtio_state *v = &m->s.virtio[slot];
    virtqueue *q = v->queue_select < VIRTIO_QUEUES ? &v->queues[v->queue_select] : NULL;
    uint32_t word = (uint32_t)value;
    if (offset >= CONFIG || !device_id(m, slot)) return true;
    if (size != 4) return false;
    switch (offset) {
    case DEVICE_FEATURES_SELECT: v->device_features_select = word; break;
    case DRIVER_FEATURES_SELECT: v->driver_features_select = word; break;
    case DRIVER_FEATURES:
        if (v->driver_features_select < 2) set_half(&v->driver_features, v->driver_features_select, word);
        break;
    case QUEUE_SELECT: v->queue_select = word; break;
    case QUEUE_NOTIFY: notify(m, slot, word); break;
    case INTERRUPT_ACK:
        v->interrupt_status &= ~word;
        if (!v->interrupt_status) plic_set(m, slot + 1, false);
        break;
    case STATUS:
        if (word == 0)
            virtio_reset(m, slot);
        else if ((word & 8) && (v->driver_features & ~features(m, slot)))
            v->status = word & ~8u;
        else
            v->status = word;
        break;
    }
    if (!q) return true;
    switch (offset) {
    case QUEUE_SIZE: q->size = word <= QUEUE_MAXIMUM && !(word & (word - 1)) ? (uint16_t)word : 0; break;
    case QUEUE_READY: q->ready = word & 1; break;
    case QUEUE_DESCRIPTORS: set_half(&q->descriptors, false, word); break;
    case QUEUE_DESCRIPTORS + 4: set_half(&q->descriptors, true, word); break;
    case QUEUE_DRIVER: set_half(&q->driver, false, word); break;
    case QUEUE_DRIVER + 4: set_half(&q->driver, true, word); break;
    case QUEUE_DEVICE: set_half(&q->device, false, word); break;
    case QUEUE_DEVICE + 4: set_half(&q->device, true, word); break;
    }
    return true;
}
