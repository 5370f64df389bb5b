/* virtio_random.c: an entropy device whose bytes come from the config's seed, so that a machine repeats
 * itself. */
#include "../machine.h"

static uint64_t next(uint64_t *counter) { // splitmix64
    uint64_t z = *counter += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

// Some of the segment at hand; gives how many bytes.
uint32_t virtio_random_part(machine *m, virtio_work *w) {
    uint64_t counter = m->s.virtio[w->slot].random; // kept only when all is written: a fault repeats it
    uint64_t values[PAGE_BYTES / 8];
    uint32_t length = dma_part(w->address, w->left);
    if (!(w->flags & DESCRIPTOR_WRITE)) return w->left;
    for (uint32_t i = 0; 8 * i < length; i++) values[i] = next(&counter);
    if (!dma_write(m, w->address, values, length, true)) return w->left;
    if (m->stop != STOP_MEMORY) m->s.virtio[w->slot].random = counter;
    w->written += length;
    return length;
}
