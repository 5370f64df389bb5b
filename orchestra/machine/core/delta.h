/* delta.h: a layer's file, but for its pages. A part of machine.h. */
#ifndef ORCHESTRA_DELTA_H
#define ORCHESTRA_DELTA_H

// delta.c: a layer's file, but for its pages

typedef struct {
    char magic[8];
    uint32_t version;
    uint32_t page_bytes;
    uint64_t entries;     // of the index
    uint64_t slots;       // pages that are stored
    uint64_t offset;      // of state, index and page checksums, which follow each other
    uint64_t state_bytes; // without the zeros at its end
    uint64_t cycle;
    uint64_t sums_bytes;
    uint32_t known_sum; // of state and index
    uint32_t sums_sum;  // of the page checksums
    uint32_t unused;
    uint32_t own_sum; // of all before it
} delta_header;

enum {
    DELTA_SOUND,
    DELTA_SHORT,
    DELTA_MAGIC,
    DELTA_VERSION,
    DELTA_OWN_SUM,
    DELTA_UNITS,
    DELTA_SUMS,
    DELTA_LENGTH,
    DELTA_KNOWN_SUM,
    DELTA_STATE,
    DELTA_INDEX,
    DELTA_SLOTS
};

typedef struct {
    delta_header header;
    state state;
    uint64_t length;   // of the file
    uint64_t found;    // instead of what is expected: a checksum, an entry, a number of slots
    const char *field; // of the state, if that is flawed
    uint32_t flaw;
    bool fits; // all but the pages into page 0
} delta_look;

typedef struct {
    delta_look *looks;
    const uint64_t *bounds; // first page and end of each range of memory, in turn
    uint64_t ranges;
} delta_looks;

uint64_t delta_head(const state *s, const uint64_t *index, uint64_t entries, uint64_t slots,
                    const uint32_t *sums, uint8_t *page, uint8_t *rest);
int delta_open_one(delta_looks *looks, uint64_t number, const void *page, uint64_t got, uint64_t length);
void delta_check(delta_look *look, const uint8_t *known, const uint64_t *bounds, uint64_t ranges);

#endif
