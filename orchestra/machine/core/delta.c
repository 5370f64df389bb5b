/* delta.c: what a layer's file says besides its pages: header, state, index and checksums (layout: delta.py).
 */
#include "machine.h"

static const char MAGIC[8] = {'o', 'r', 'c', 'h', 'd', 'l', 't', '\n'};
enum { VERSION = 6 };

_Static_assert(sizeof(delta_header) == 80, "the header is as it is in files");

// Fills page 0 and `rest`, which has room for all of it. Returns how much of that stands
// behind the last slot: nothing where page 0 has room for it. Without `sums` the pages have no checksums.
uint64_t delta_head(const state *s, const uint64_t *index, uint64_t entries, uint64_t slots,
                    const uint32_t *sums, uint8_t *page, uint8_t *rest) {
    uint64_t state_bytes = state_used(s), known = state_bytes + entries * sizeof *index;
    uint64_t sums_bytes = sums ? slots * sizeof *sums : 0, length = known + sums_bytes;
    bool fits = sizeof(delta_header) + length <= PAGE_BYTES;
    memcpy(rest, s, state_bytes);
    if (entries) memcpy(rest + state_bytes, index, known - state_bytes);
    if (sums_bytes) memcpy(rest + known, sums, sums_bytes);
    delta_header header = {.version = VERSION, .page_bytes = PAGE_BYTES, .entries = entries, .slots = slots};
    memcpy(header.magic, MAGIC, sizeof MAGIC);
    header.offset = fits ? sizeof header : (1 + slots) * PAGE_BYTES;
    header.state_bytes = state_bytes, header.cycle = s->cycle, header.sums_bytes = sums_bytes;
    header.known_sum = checksum(rest, known);
    header.sums_sum = checksum(rest + known, sums_bytes);
    header.own_sum = checksum((const uint8_t *)&header, offsetof(delta_header, own_sum));
    uint64_t used = sizeof header + (fits ? length : 0);
    memcpy(page, &header, sizeof header);
    memcpy(page + sizeof header, rest, used - sizeof header);
    memset(page + used, 0, PAGE_BYTES - used);
    return fits ? 0 : length;
}

static uint32_t flaw_of_head(delta_look *look) {
    const delta_header *h = &look->header;
    if (look->length < PAGE_BYTES) return DELTA_SHORT;
    if (memcmp(h->magic, MAGIC, sizeof MAGIC)) return DELTA_MAGIC;
    if (h->version != VERSION) return DELTA_VERSION;
    if (h->own_sum != checksum((const uint8_t *)h, offsetof(delta_header, own_sum))) return DELTA_OWN_SUM;
    if (h->page_bytes != PAGE_BYTES || h->state_bytes > sizeof(state) || h->state_bytes % sizeof(uint64_t))
        return DELTA_UNITS;
    if (h->entries > look->length || h->slots > look->length) return DELTA_LENGTH; // nor can sums overflow
    if (h->sums_bytes && h->sums_bytes != h->slots * sizeof(uint32_t)) return DELTA_SUMS;
    uint64_t rest = h->state_bytes + h->entries * sizeof(uint64_t) + h->sums_bytes;
    uint64_t end = (1 + h->slots) * PAGE_BYTES;
    look->fits = sizeof *h + rest <= PAGE_BYTES;
    if (h->offset != (look->fits ? sizeof *h : end) || look->length != (look->fits ? end : end + rest))
        return DELTA_LENGTH;
    return DELTA_SOUND;
}

// Verifies state and index, `known`, once the header was found sound.
void delta_check(delta_look *look, const uint8_t *known, const uint64_t *bounds, uint64_t ranges) {
    const delta_header *h = &look->header;
    uint64_t index_bytes = h->entries * sizeof(uint64_t), slots;
    look->flaw = DELTA_KNOWN_SUM;
    look->found = checksum(known, h->state_bytes + index_bytes);
    if (look->found != h->known_sum) return;
    look->flaw = DELTA_STATE;
    memset(&look->state, 0, sizeof look->state);
    memcpy(&look->state, known, h->state_bytes);
    look->field = state_flaw(&look->state);
    if (!look->field && look->state.cycle != h->cycle) look->field = "cycle";
    if (look->field) return;
    look->flaw = DELTA_INDEX;
    const uint64_t *index = (const uint64_t *)(known + h->state_bytes); // wherever it may stand
    uint64_t bad = index_check(index, h->entries, bounds, ranges, &slots);
    if (bad < h->entries) {
        memcpy(&look->found, index + bad, sizeof look->found);
        return;
    }
    look->found = slots;
    look->flaw = slots == h->slots ? DELTA_SOUND : DELTA_SLOTS;
}

// Looks at the `got` bytes of a file of `length` bytes that its first page has, and says what is wrong.
static void look_at(delta_look *look, const uint8_t *page, uint64_t got, uint64_t length,
                    const uint64_t *bounds, uint64_t ranges) {
    memset(&look->header, 0, sizeof look->header);
    memcpy(&look->header, page, got < sizeof look->header ? got : sizeof look->header);
    look->length = length;
    look->flaw = flaw_of_head(look);
    if (look->flaw != DELTA_SOUND || !look->fits) return;
    if (got < PAGE_BYTES) // it became shorter meanwhile
        look->flaw = DELTA_SHORT;
    else
        delta_check(look, page + sizeof look->header, bounds, ranges);
}

// The same as orchestra.io asks it, of one of several files.
int delta_open_one(delta_looks *looks, uint64_t number, const void *page, uint64_t got, uint64_t length) {
    delta_look *look = &looks->looks[number];
    look_at(look, page, got, length, looks->bounds, looks->ranges);
    return look->flaw != DELTA_SOUND ? 0 : look->fits ? 1 : 2; // see io.h
}

// Copies pages together as machine_gather_pages does, and makes the delta's first page and what is behind
// them.
void machine_gather_delta(gather_call *call) {
    machine_gather_pages(call);
    uint64_t slots = call->written / PAGE_BYTES;
    page_checksums(call->bytes, slots, call->sums, false);
    call->rest_length =
        delta_head(&call->machine->s, call->pages, call->count, slots, call->sums, call->page, call->rest);
}
