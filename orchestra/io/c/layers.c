/* layers.c: the files that a folder's memory is made of, opened, looked at and mapped in one call.
 */
#define _GNU_SOURCE
#include "io.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_whole(struct io_layer *layer, uint64_t owner) {
    struct io_map map;
    int error = io_map_file(&map, layer->fd, 0, layer->file.length, IO_MAP_READ, owner);
    if (error) return error;
    layer->address = map.address;
    layer->slot = map.slot;
    return 0;
}

static void close_layer(struct io_layer *layer) {
    close(layer->fd);
    layer->fd = -1;
}

/* Opens the files with these names, one after the other, each ended by a zero byte; up to the first that
   cannot be mapped. The first `images` of them are mapped at once, and stay open where they have holes. Of
   the others the first bytes go to `heads`, and `check` decides. Returns how many were looked at. */
int io_map_layers(int folder, const char *names, const uint64_t *lengths, int images, int count,
                  uint64_t owner, char *heads, uint64_t head_bytes, uintptr_t check, uintptr_t context,
                  struct io_layer *layers) {
    for (int i = 0; i < count; i++, names += strlen(names) + 1) {
        struct io_layer *layer = &layers[i];
        int is_image = i < images, verdict = IO_SOUND;
        char *head = is_image ? NULL : heads + (uint64_t)(i - images) * head_bytes;
        layer->slot = -1;
        layer->fd = is_image ? io_open(folder, names, 0, &layer->file)
                             : io_open_head(folder, names, &layer->file, head, head_bytes, &layer->got);
        if (layer->fd < 0) {
            layer->error = layer->fd;
            return i + 1;
        }
        if (!S_ISREG(layer->file.mode))
            verdict = IO_REFUSED;
        else if (is_image)
            verdict = layer->file.length == lengths[i] ? IO_SOUND : IO_REFUSED;
        else
            verdict = ((io_check)check)((void *)context, (uint64_t)(i - images), head, (uint64_t)layer->got,
                                        layer->file.length);
        if (verdict == IO_SOUND) layer->error = map_whole(layer, owner + (uint64_t)i);
        int is_sparse = is_image && layer->address && layer->file.allocated < layer->file.length;
        if (!is_sparse && verdict != IO_UNDECIDED) close_layer(layer);
        if (!layer->address && verdict != IO_UNDECIDED) return i + 1;
    }
    return count;
}
