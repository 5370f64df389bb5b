/* calls.h: what the host may ask of a machine, a board and a layer. A part of machine.h. */
#ifndef ORCHESTRA_CALLS_H
#define ORCHESTRA_CALLS_H

// machine.c, run.c, trace.c, disassemble.c: calls that touch guest memory take one argument, so that a guard
// can make them

typedef struct {
    machine *machine;
    uint64_t until;          // out: where it was to end at most
    uint64_t cycles;         // that it may run, at most
    uint32_t console_bytes;  // stop when this much output waits
    uint32_t console_length; // out: how much waits
    int stop;                // out
    host_clock clock;
    uint64_t cpu_end; // stop, though not at `until`, when this thread has used so much; 0: never
} run_call;
void run_on(run_call *call); // m->look_at is set

typedef struct {
    machine *machine;
    uint64_t until;
    commit *commits;
    uint64_t capacity;
    uint64_t count; // out
    int stop;       // out; STOP_CYCLE with cycle < until: the room for commits is used up
} trace_call;

typedef struct {
    machine *machine;
    bool stored;  // all of it is in files now
    layer *layer; // out; NULL: out of memory
} seal_call;

typedef struct {
    machine *machine;
    const uint64_t *pages;
    uint64_t count;
    bool done; // out; false: out of memory
} adopt_call;

typedef struct {
    machine *machine;
    uint64_t address;
    uint8_t *data;
    uint64_t length;
    bool write, virtual_address;
    bool done;        // out
    uint64_t failure; // out: the first address that is not memory
} access_call;

typedef struct {
    uint64_t cycle;
    uint32_t reason;
    uint32_t data; // of progress: per mille; else the length of what follows, padded to 8 bytes
} said;

typedef struct {
    machine *machine;
    const uint8_t *payload;
    uint64_t fromhost; // reason << 32 | length of the payload
    uint64_t rx, tx;   // addresses of the buffers
    uint64_t until;
    uint64_t most; // in, out: bytes of outputs and reports that may be kept
    uint8_t *said; // 8-byte aligned
    uint64_t capacity;
    uint64_t used;           // out
    uint64_t cycle;          // out: at the stop
    uint64_t stop_data;      // out
    uint32_t console_bytes;  // as in run_call
    uint32_t console_length; // out
    int stop;                // out
    host_clock clock;        // as in run_call
    uint64_t cpu_end;
    bool fresh;              // in, out: the payload is still to be given
    bool discard;            // roll back when the guest has accepted or rejected
    bool refused, discarded; // out: the guest waits for no request; it was rolled back
} serve_call;

typedef struct {
    machine *machine;
    uint64_t cursor; // in and out: a page number
    uint64_t *pages;
    uint8_t *bytes;
    uint64_t capacity;
    uint64_t count; // out
} collect_call;

typedef struct {
    machine *machine;
    uint64_t *pages; // out: bit 63 is set in those of zeros, which are left out
    uint64_t count;
    uint8_t *bytes;       // room for all of them
    uint64_t written;     // out: bytes
    uint32_t *sums;       // room for their checksums; for a delta only, as the rest
    uint8_t *page;        // zeros, where its first page goes
    uint8_t *rest;        // room for what is behind the pages
    uint64_t rest_length; // out
} gather_call;

typedef struct {
    machine *machine;
    const merkle *kind;
    uint64_t *pages;
    uint8_t *hashes; // 32 bytes for each page
    uint64_t count;
    uint64_t cursor; // in and out: a page number
} hash_call;

void machine_run(run_call *call);
void machine_unwind(machine *m, const uint64_t *registers);
void machine_trace(trace_call *call);
void machine_seal(seal_call *call);
void machine_adopt(adopt_call *call);
bool machine_uses(const machine *m, const void *context);
void machine_rollback(machine *m); // may fault if memory is in place
void machine_access(access_call *call);
void machine_serve(serve_call *call);
void machine_collect_pages(collect_call *call);
void machine_gather_pages(gather_call *call);
void machine_hash_pages(hash_call *call);
void machine_hash_all(hash_call *call);
void machine_gather_delta(gather_call *call);
uint64_t machine_unstored(machine *m, uint64_t *pages, uint64_t capacity);
uint64_t machine_take_changed(machine *m, uint64_t *pages, uint64_t capacity);
uint64_t machine_slots(machine *m, uint64_t *pages, uint64_t capacity);
machine *machine_new(layer *base);
bool machine_translate(machine *m, uint32_t warmth);
void machine_free(machine *m);
layer *machine_base(machine *m);
const state *machine_state(const machine *m);
bool machine_set_arena(machine *m, arena_grow grow, void *context);
bool machine_register(machine *m, unsigned number, uint64_t *value);
bool machine_set_register(machine *m, unsigned number, uint64_t value);
int machine_csr_number(const char *name);
const char *machine_csr_name(unsigned number);
unsigned machine_console_input(machine *m, const uint8_t *data, unsigned length);
uint32_t machine_console_length(const machine *m);
uint32_t machine_console_output(machine *m, uint8_t *data, uint32_t capacity);
bool machine_answer(machine *m, uint64_t fromhost);
void machine_interrupt(machine *m);
void machine_clear_interrupt(machine *m);
void machine_cool(machine *m);
bool sanitized(void);
board *board_new(const decoder *d, pool *p, uint64_t cycles_per_tick, uint32_t devices, uint64_t watched,
                 uint64_t watched_fromhost);
board *board_like(const board *other);
bool board_add_range(board *b, uint64_t start, uint64_t length, uint32_t flags);
bool board_add_extent(board *b, uint64_t start, uint64_t length, uintptr_t host, uint32_t flags);
void board_set_virtio(board *b, uint32_t slot, uint32_t kind, uint64_t start, uint64_t length,
                      uint32_t read_only, uint64_t seed);
void board_set_cache(board *b, codecache *cache);
layer *layer_new(board *b, layer *parent, const uint8_t *initial);
bool layer_add_pages(layer *l, const uint64_t *pages, uintptr_t first_host, uint64_t count);
void page_checksums(const uint8_t *pages, uint64_t count, uint32_t *sums, bool by_hand);
uint32_t checksum(const uint8_t *bytes, uint64_t length);
uint32_t state_used(const state *s);
uint64_t index_check(const uint64_t *pages, uint64_t count, const uint64_t *bounds, uint64_t ranges,
                     uint64_t *slots);
void layer_set_stored(layer *l);
const state *layer_state(const layer *l);
void state_reset(state *s, board *b, uint64_t pc, uint64_t device_tree);
const char *state_flaw(const state *s);

#endif
