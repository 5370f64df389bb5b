/* core.cdef.h: the core as Python sees it; orchestra/machine/_core is its only user. */

typedef struct machine machine;
typedef struct board board;
typedef... decoder;
typedef... codecache;
typedef... pool;
typedef struct layer layer;
typedef void *(*arena_grow)(void *context, uint64_t wanted_bytes, uint64_t *got_bytes);

typedef struct {
    uint64_t cycle;
    uint64_t stop_data;
    uint32_t stop_reason;
    uint8_t privilege, waiting, halted, yielded;
    ...;
} state;

decoder *decoder_new(uint32_t extensions);
uint32_t extension_bit(const char *name);
void decoder_free(decoder *d);
board *board_new(const decoder *d, pool *p, uint64_t cycles_per_tick, uint32_t devices, uint64_t watched,
                 uint64_t watched_fromhost);
board *board_like(const board *other);
bool board_add_range(board *b, uint64_t start, uint64_t length, uint32_t flags);
bool board_add_extent(board *b, uint64_t start, uint64_t length, uintptr_t host, uint32_t flags);
void board_set_virtio(board *b, uint32_t slot, uint32_t kind, uint64_t start, uint64_t length,
                      uint32_t read_only, uint64_t seed);
void board_set_cache(board *b, codecache *cache);
void board_release(board *b);

typedef void *(*block_take)(uint64_t bytes);
typedef void (*block_give)(void *start, uint64_t bytes);
pool *pool_new(block_take take, block_give give, block_give discard);
void pool_count(pool *p, unsigned kind, uint64_t counts[3]);
void pool_hold(void *context, int hold);

codecache *codecache_start(void *memory, uintptr_t writable, uintptr_t executable, uint64_t length);

layer *layer_new(board *b, layer *parent, const uint8_t *initial);
bool layer_add_pages(layer *l, const uint64_t *pages, uintptr_t first_host, uint64_t count);
void page_checksums(const uint8_t *pages, uint64_t count, uint32_t *sums, bool by_hand);
uint32_t checksum(const uint8_t *bytes, uint64_t length);
uint64_t index_check(const uint64_t *pages, uint64_t count, const uint64_t *bounds, uint64_t ranges,
                     uint64_t *slots);
void layer_set_stored(layer *l);
const state *layer_state(const layer *l);
layer *layer_hold(layer *l);
void layer_release(layer *l);

void state_reset(state *s, board *b, uint64_t pc, uint64_t device_tree);

machine *machine_new(layer *base);
void machine_free(machine *m);
bool machine_translate(machine *m, uint32_t warmth);
layer *machine_base(machine *m);
const state *machine_state(const machine *m);
bool machine_set_arena(machine *m, arena_grow grow, void *context);

typedef uint64_t (*host_clock)(int cpu);
typedef struct {
    machine *machine;
    uint64_t until;  // out: where it was to end at most
    uint64_t cycles; // that it may run, at most
    uint32_t console_bytes;
    uint32_t console_length;
    int stop;
    host_clock clock;
    uint64_t cpu_end;
} run_call;
void machine_run(run_call *call);
void machine_unwind(machine *m, const uint64_t *registers);

typedef struct {
    uint64_t pc, address, stored, value;
    uint32_t raw;
    uint8_t privilege, memory, size;
    uint8_t rd, destination;
    uint8_t trapped;
    uint16_t csr;
    uint64_t csr_value, behind;
    uint64_t mstatus;
    uint32_t fflags, fflags_raised;
} commit;
typedef struct {
    machine *machine;
    uint64_t until;
    commit *commits;
    uint64_t capacity;
    uint64_t count;
    int stop;
} trace_call;
void machine_trace(trace_call *call);

typedef struct {
    machine *machine;
    bool stored;
    layer *layer;
} seal_call;
typedef struct {
    machine *machine;
    const uint64_t *pages;
    uint64_t count;
    bool done;
} adopt_call;
void machine_seal(seal_call *call);
void machine_adopt(adopt_call *call);
bool machine_uses(const machine *m, const void *context);
void machine_rollback(machine *m);
void machine_keep_undo(machine *m);

typedef struct {
    machine *machine;
    uint64_t address;
    uint8_t *data;
    uint64_t length;
    bool write, virtual_address;
    bool done;
    uint64_t failure;
} access_call;
void machine_access(access_call *call);

typedef struct {
    machine *machine;
    const uint8_t *payload;
    uint64_t fromhost;
    uint64_t rx, tx;
    uint64_t until;
    uint64_t most;
    uint8_t *said;
    uint64_t capacity;
    uint64_t used;
    uint64_t cycle;
    uint64_t stop_data;
    uint32_t console_bytes;
    uint32_t console_length;
    int stop;
    host_clock clock;
    uint64_t cpu_end;
    bool fresh;
    bool discard;
    bool refused, discarded;
} serve_call;
void machine_serve(serve_call *call);

typedef struct {
    machine *machine;
    uint64_t cursor;
    uint64_t *pages;
    uint8_t *bytes;
    uint64_t capacity;
    uint64_t count;
} collect_call;
void machine_collect_pages(collect_call *call);
typedef struct {
    machine *machine;
    uint64_t *pages; // out: bit 63 is set in those of zeros, which are left out
    uint64_t count;
    uint8_t *bytes;   // room for all of them
    uint64_t written; // out: bytes
    uint32_t *sums; // room for their checksums; for a delta only, as the rest
    uint8_t *page;  // zeros, where its first page goes
    uint8_t *rest;  // room for what is behind the pages
    uint64_t rest_length; // out
} gather_call;

typedef ... merkle;
typedef ... merkle_node;
typedef struct {
    machine *machine;
    const merkle *kind;
    uint64_t *pages;
    uint8_t *hashes;
    uint64_t count;
    uint64_t cursor;
} hash_call;
merkle *merkle_new(pool *p, bool plain);
bool merkle_put(const merkle *k, merkle_node *tree, const uint64_t *numbers, const uint8_t *hashes,
                uint64_t count, merkle_node **made);
void merkle_find(const merkle *k, const merkle_node *n, unsigned height, uint64_t number, uint8_t *out);
void merkle_release(const merkle *k, merkle_node *n);
void machine_hash_pages(hash_call *call);
void machine_hash_all(hash_call *call);

void machine_gather_pages(gather_call *call);
void machine_gather_delta(gather_call *call);
uint64_t machine_unstored(machine *m, uint64_t *pages, uint64_t capacity);
uint64_t machine_take_changed(machine *m, uint64_t *pages, uint64_t capacity);
uint64_t machine_slots(machine *m, uint64_t *pages, uint64_t capacity);

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

typedef struct {
    uint32_t version;
    uint32_t page_bytes;
    uint64_t entries;
    uint64_t slots;
    uint64_t offset;
    uint64_t state_bytes;
    uint64_t cycle;
    uint64_t sums_bytes;
    uint32_t known_sum;
    uint32_t sums_sum;
    uint32_t own_sum;
    ...;
} delta_header;

typedef struct {
    delta_header header;
    state state;
    uint64_t found;
    const char *field;
    uint32_t flaw;
    bool fits;
    ...;
} delta_look;

typedef struct {
    delta_look *looks;
    const uint64_t *bounds;
    uint64_t ranges;
} delta_looks;

uint64_t delta_head(const state *s, const uint64_t *index, uint64_t entries, uint64_t slots,
                    const uint32_t *sums, uint8_t *page, uint8_t *rest);
int delta_open_one(delta_looks *looks, uint64_t number, const void *page, uint64_t got, uint64_t length);
void delta_check(delta_look *look, const uint8_t *known, const uint64_t *bounds, uint64_t ranges);

unsigned disassemble(board *b, uint32_t raw, uint64_t pc, char *out, unsigned capacity);
const char *instruction_name(unsigned op);
const char *instruction_operands(unsigned op);
uint32_t instruction_match(unsigned op);
uint32_t instruction_mask(unsigned op);
uint32_t instruction_extension(unsigned op);
