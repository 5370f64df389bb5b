/* flat.c: memory that is a file of the user's, stored to in place: which of its pages were written since the
 * last seal, and, for whoever wants to roll back, what they held. */
#include "machine.h"

static bool make_room(flat_writes *f) {
    if (f->count < f->capacity) return true;
    uint64_t capacity = f->capacity ? f->capacity * 2 : 64;
    uint64_t *pages = realloc(f->pages, capacity * sizeof *pages);
    if (pages) f->pages = pages;
    uint8_t **before = realloc(f->before, capacity * sizeof *before);
    if (before) f->before = before;
    if (!pages || !before) return false;
    memset(f->before + f->capacity, 0, (capacity - f->capacity) * sizeof *before);
    f->capacity = capacity;
    return true;
}

// Remember a page before the first store to it since the last seal; false: out of memory.
bool flat_note(flat_writes *f, uint64_t page, const uint8_t *host) {
    if (!make_room(f)) return false;
    if (f->undoes) {
        uint8_t **before = &f->before[f->count]; // may be there already: the copy below may fault
        if (!*before && !(*before = malloc(PAGE_BYTES))) return false;
        memcpy(*before, host, PAGE_BYTES);
    }
    f->pages[f->count++] = page;
    return true;
}

// Forget what was written: it stays.
void flat_keep(flat_writes *f) { f->count = 0; }

// Put back what the pages held at the last seal. A fault leaves the rest for another try.
void flat_undo(machine *m) {
    flat_writes *f = &m->memory.flat;
    for (uint64_t i = f->count; f->undoes && i-- > 0;) {
        uint8_t *host = memory_peek(m, f->pages[i]);
        if (memcmp(host, f->before[i], PAGE_BYTES)) memcpy(host, f->before[i], PAGE_BYTES);
    }
}

void flat_free(flat_writes *f) {
    for (uint64_t i = 0; i < f->capacity; i++) free(f->before[i]);
    free(f->before);
    free(f->pages);
}

// From the next seal on, keep what is needed to undo stores.
void machine_keep_undo(machine *m) { m->memory.flat.undoes = true; }
