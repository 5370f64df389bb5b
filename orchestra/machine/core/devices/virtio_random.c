/* virtio_random.c: an entropy device whose bytes come from the config's seed, so that a machine repeats
 * itself. */
#include "../machine.h"

static uint64_t next(uint64_t *counter) { // splitmix64
    uint64_t z = *counter += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint32_t virtio_random_request(machine *m, unsigned slot, const virtio_segment *segments, unsigned count) {
    uint64_t counter = m->s.virtio[slot].random; // kept only when all is written: a fault repeats the request
    uint32_t written = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!segments[i].writable) continue;
        for (uint32_t done = 0; done < segments[i].length;) {
            uint64_t value = next(&counter);
            uint32_t part = segments[i].length - done < 8 ? segments[i].length - done : 8;
            if (!dma_write(m, segments[i].address + done, &value, part, true)) return written;
            done += part;
            written += part;
        }
    }
    m->s.virtio[slot].random = counter;
    return written;
}
