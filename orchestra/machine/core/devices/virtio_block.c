/* virtio_block.c: a drive whose content is a hidden range of the machine's memory (Virtual I/O Device 1.2,
 * section 5.2). */
#include "../machine.h"

enum { REQUEST_IN = 0, REQUEST_OUT = 1, REQUEST_FLUSH = 4, REQUEST_GET_ID = 8 };
enum { STATUS_OK = 0, STATUS_ERROR = 1, STATUS_UNSUPPORTED = 2 };
enum { SECTOR = 512, HEADER = 16, ID_BYTES = 20 };

uint64_t virtio_block_config(const machine *m, unsigned slot, uint64_t offset) {
    uint64_t capacity = m->home->virtio[slot].length / SECTOR;
    return offset < 8 ? capacity >> (8 * offset) : 0;
}

static uint8_t transfer(machine *m, const virtio_config *c, uint32_t type, uint64_t sector,
                        const virtio_segment *segments, unsigned count, uint32_t *written) {
    if (sector > c->length / SECTOR) return STATUS_ERROR;
    uint64_t position = sector * SECTOR, length = 0;
    for (unsigned i = 0; i < count; i++) length += segments[i].length;
    dma_touch(m, c->start + position, length, false, type == REQUEST_OUT);
    for (unsigned i = 0; i < count; i++) {
        const virtio_segment *g = &segments[i];
        bool in = type == REQUEST_IN;
        if ((g->writable != 0) != in || g->length > c->length - position) return STATUS_ERROR;
        bool done = in ? dma_copy(m, g->address, c->start + position, g->length, true, false)
                       : dma_copy(m, c->start + position, g->address, g->length, false, true);
        if (!done) return STATUS_ERROR;
        position += g->length;
        if (in) *written += g->length;
    }
    return STATUS_OK;
}

// One request: a 16-byte header, data, a status byte. Returns the bytes written to the guest.
uint32_t virtio_block_request(machine *m, unsigned slot, const virtio_segment *segments, unsigned count) {
    const virtio_config *c = &m->home->virtio[slot];
    const virtio_segment *last = &segments[count - 1];
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } header;
    uint8_t status = STATUS_ERROR;
    uint32_t written = 0;
    if (count < 2 || segments[0].writable || segments[0].length != HEADER || !last->writable ||
        last->length != 1)
        return 0;
    if (!dma_read(m, segments[0].address, &header, HEADER, true)) return 0;
    switch (header.type) {
    case REQUEST_IN:
        status = transfer(m, c, REQUEST_IN, header.sector, segments + 1, count - 2, &written);
        break;
    case REQUEST_OUT:
        if (!c->read_only)
            status = transfer(m, c, REQUEST_OUT, header.sector, segments + 1, count - 2, &written);
        break;
    case REQUEST_FLUSH: status = STATUS_OK; break;
    case REQUEST_GET_ID: {
        char id[ID_BYTES] = "orchestra-0";
        id[10] = (char)(slot < 10 ? '0' + slot : 'a' + slot - 10);
        if (count == 3 && segments[1].writable && segments[1].length >= ID_BYTES &&
            dma_write(m, segments[1].address, id, sizeof id, true)) {
            status = STATUS_OK;
            written = ID_BYTES;
        }
        break;
    }
    default: status = STATUS_UNSUPPORTED;
    }
    return dma_write(m, last->address, &status, 1, true) ? written + 1 : written;
}
