/* virtio_queue.c: split queues (Virtual I/O Device 1.2, section 2.7), served step by step.
 *
 * A driver's notification makes its device busy, and the hart stands still until all requests are done. Each
 * step touches a page or two and takes the cycles that a hart might need for it; where a device stands
 * between two is part of the machine's state. So a run can end at any cycle, a machine be stored in the
 * middle of a request, and nothing takes long without time going by.
 *
 * A step changes the state when it has done all that may fault: one that faulted is done again.
 */
#include "../machine.h"

enum { CHAIN_LENGTH = 256 }; // descriptors
enum { TAKE_CYCLES = 64, FETCH_CYCLES = 32, PART_CYCLES = 32, BYTES_PER_CYCLE = 8, END_CYCLES = 64 };

typedef struct {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;
} descriptor;

void virtio_begin(machine *m, unsigned slot, unsigned queue) {
    const virtqueue *q = &m->s.virtio[slot].queues[queue];
    uint16_t available;
    if (!dma_read(m, q->driver + 2, &available, sizeof available, true)) {
        virtio_broken(m, slot);
    } else if (available != q->next_available) {
        m->s.work = (virtio_work){
            .phase = WORK_TAKE, .slot = (uint8_t)slot, .queue = (uint8_t)queue, .available = available};
    }
}

// The next request's chain.
static bool take(machine *m, const virtqueue *q, virtio_work *w) {
    uint64_t place = q->driver + 4 + 2ull * (q->next_available % q->size);
    if (!dma_read(m, place, &w->head, sizeof w->head, true)) return false;
    w->table = q->descriptors, w->table_length = q->size;
    w->next = w->head;
    w->count = w->flags = 0;
    w->written = 0;
    w->phase = WORK_FETCH;
    return true;
}

static bool fetch(machine *m, virtio_work *w) {
    descriptor d;
    if (w->next >= w->table_length || w->count == CHAIN_LENGTH) return false;
    if (!dma_read(m, w->table + 16ull * w->next, &d, sizeof d, true)) return false;
    if (d.flags & DESCRIPTOR_INDIRECT) { // another table, which has none of these
        if (w->count || w->flags || !d.length || d.length % sizeof d) return false;
        w->table = d.address, w->table_length = d.length / (uint32_t)sizeof d;
        w->flags = d.flags;
        w->next = 0;
        return true;
    }
    unsigned rights = d.flags & DESCRIPTOR_WRITE ? RANGE_WRITE : RANGE_READ;
    if (!dma_inside(m, d.address, d.length, true, rights)) return false;
    w->address = d.address, w->left = d.length;
    w->flags = d.flags, w->next = d.next;
    w->count++;
    w->phase = WORK_PART;
    return true;
}

// Some of the segment at hand.
static bool part(machine *m, virtio_work *w, uint32_t *cycles) {
    uint32_t length =
        m->home->virtio[w->slot].kind == VIRTIO_BLOCK ? virtio_block_part(m, w) : virtio_random_part(m, w);
    if (length == VIRTIO_MALFORMED) return false;
    w->address += length, w->left -= length;
    if (!w->left) w->phase = w->flags & DESCRIPTOR_NEXT ? WORK_FETCH : WORK_END;
    *cycles = PART_CYCLES + length / BYTES_PER_CYCLE;
    return true;
}

static bool end(machine *m, virtqueue *q, virtio_work *w) {
    uint16_t used;
    if (!dma_read(m, q->device + 2, &used, sizeof used, true)) return false;
    uint32_t element[2] = {w->head, w->written};
    uint64_t place = q->device + 4 + 8ull * (used++ % q->size);
    dma_touch(m, place, sizeof element);
    dma_touch(m, q->device + 2, sizeof used);
    if (!dma_write(m, place, element, sizeof element, true)) return false;
    if (!dma_write(m, q->device + 2, &used, sizeof used, true)) return false;
    w->phase = ++q->next_available == w->available ? WORK_DONE : WORK_TAKE;
    return true;
}

static void done(machine *m, const virtqueue *q, unsigned slot) {
    uint16_t flags;
    if (!dma_read(m, q->driver, &flags, sizeof flags, true))
        virtio_broken(m, slot);
    else if (!(flags & 1))
        virtio_interrupt(m, slot, 1);
    m->s.work = (virtio_work){.phase = WORK_NONE};
}

static void step(machine *m) {
    virtio_work w = m->s.work;
    virtqueue *q = &m->s.virtio[w.slot].queues[w.queue];
    uint32_t cycles = 0;
    bool sound = true;
    switch (w.phase) {
    case WORK_TAKE: sound = take(m, q, &w), cycles = TAKE_CYCLES; break;
    case WORK_FETCH: sound = fetch(m, &w), cycles = FETCH_CYCLES; break;
    case WORK_PART: sound = part(m, &w, &cycles); break;
    case WORK_END: sound = end(m, q, &w), cycles = END_CYCLES; break;
    case WORK_DONE: done(m, q, w.slot); return;
    }
    if (m->stop == STOP_MEMORY) return; // as if it had not begun
    if (!sound) {
        virtio_broken(m, w.slot);
        w = (virtio_work){.phase = WORK_NONE};
    }
    w.until = sound ? m->s.cycle + cycles : 0;
    m->s.work = w;
}

// A device is busy: let time go by, at most to `until`, or make its next step.
void virtio_serve(machine *m, uint64_t until) {
    uint64_t ready = m->s.work.until;
    m->limit = m->s.cycle, m->budget = 0; // where it is if the step faults
    if (ready > m->s.cycle)
        run_passes_time(m, ready < until ? ready : until);
    else
        step(m);
}
