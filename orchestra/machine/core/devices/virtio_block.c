/* virtio_block.c: a drive whose content is a hidden range of the machine's memory (Virtual I/O Device 1.2,
 * section 5.2).
 *
 * A request is a 16-byte header, data, a status byte.
 */
#include "../machine.h"

enum { REQUEST_IN = 0, REQUEST_OUT = 1, REQUEST_FLUSH = 4, REQUEST_GET_ID = 8 };
enum { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_UNSUPPORTED = 2 };
enum { SECTOR = 512, HEADER = 16, ID_BYTES = 20 };

uint64_t virtio_block_config(const machine *m, unsigned slot, uint64_t offset) {
    uint64_t capacity = m->home->virtio[slot].length / SECTOR;
    return offset < 8 ? capacity >> (8 * offset) : 0;
}

static uint32_t begin(machine *m, virtio_work *w) {
    const virtio_config *c = &m->home->virtio[w->slot];
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    if (!(w->flags & DESCRIPTOR_NEXT) || (w->flags & DESCRIPTOR_WRITE) || w->left != HEADER)
        return VIRTIO_MALFORMED;
    if (!dma_read(m, w->address, &header, HEADER, true)) return VIRTIO_MALFORMED;
    bool inside = header.sector <= c->length / SECTOR;
    w->type = header.type;
    w->position = inside ? header.sector * SECTOR : 0;
    switch (header.type) {
    case REQUEST_IN: w->status = inside ? STATUS_OK : STATUS_ERROR; break;
    case REQUEST_OUT: w->status = inside && !c->read_only ? STATUS_OK : STATUS_ERROR; break;
    case REQUEST_FLUSH: w->status = STATUS_OK; break;
    case REQUEST_GET_ID: w->status = STATUS_ERROR; break; // until it is told
    default: w->status = STATUS_UNSUPPORTED;
    }
    return HEADER;
}

static uint32_t transfer(machine *m, virtio_work *w) {
    const virtio_config *c = &m->home->virtio[w->slot];
    uint64_t place = c->start + w->position;
    bool in = w->type == REQUEST_IN;
    uint32_t length = dma_part(w->address, dma_part(place, w->left));
    bool fits = w->position <= c->length && w->left <= c->length - w->position;
    bool done = fits && in == !!(w->flags & DESCRIPTOR_WRITE) &&
                (in ? dma_copy(m, w->address, place, length, true, false)
                    : dma_copy(m, place, w->address, length, false, true));
    if (!done) {
        w->status = STATUS_ERROR;
        return w->left;
    }
    w->position += length;
    if (in) w->written += length;
    return length;
}

static uint32_t tell_id(machine *m, virtio_work *w) {
    char id[ID_BYTES] = "orchestra-0";
    id[10] = (char)(w->slot < 10 ? '0' + w->slot : 'a' + w->slot - 10);
    bool first = w->count == 2;
    w->status = STATUS_ERROR;
    if (first && (w->flags & DESCRIPTOR_WRITE) && w->left >= ID_BYTES &&
        dma_write(m, w->address, id, ID_BYTES, true)) {
        w->status = STATUS_OK;
        w->written = ID_BYTES;
    }
    return w->left;
}

static uint32_t finish(machine *m, virtio_work *w) {
    if (w->left != 1 || !(w->flags & DESCRIPTOR_WRITE)) return VIRTIO_MALFORMED;
    if (!dma_write(m, w->address, &w->status, 1, true)) return VIRTIO_MALFORMED;
    w->written++;
    return 1;
}

// Some of the segment at hand; gives how many bytes, or VIRTIO_MALFORMED.
uint32_t virtio_block_part(machine *m, virtio_work *w) {
    if (w->count == 1) return begin(m, w);
    if (!(w->flags & DESCRIPTOR_NEXT)) return finish(m, w);
    if (w->type == REQUEST_GET_ID) return tell_id(m, w);
    bool moves = w->type == REQUEST_IN || w->type == REQUEST_OUT;
    return moves && w->status == STATUS_OK ? transfer(m, w) : w->left;
}
