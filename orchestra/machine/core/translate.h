/* translate.h: hot blocks as host code: the cache, runs of blocks, templates. A part of machine.h. */
#ifndef ORCHESTRA_TRANSLATE_H
#define ORCHESTRA_TRANSLATE_H

// codecache.c, translate.c: blocks that are run often, as host code
//
// Translations belong to the page they were made from, as operations do, and know neither its virtual address
// nor the machine. They never call: whatever has no template, misses the TLB or needs a second look goes back
// to the interpreter, at that operation, with everything before it done.

enum {
    LEAVE_PLAIN, // at an address that has no translation yet
    LEAVE_SIDE,  // at an operation that the interpreter must do
    LEAVE_TAIL,  // at a block that does not fit into the budget
    LEAVE_NOW,   // after an operation that says so
    HELP_JUMPS,  // not at all: translation_help says that it goes on at s.pc, perhaps in another mode

    CALL_FLOAT,  // does not leave if floats may be computed with here
    CALL_ACCESS, // does not leave if translation_help can load or store
    CALL_SYSTEM, // or do this instruction
};
enum { FORM_NONE = 0xffff, BLOCK_DONE = 0xff, HELP_COUNT_SHIFT = 11, HELP_SYSTEM = 0x8000 };
// registers of the host at a fault: integer ones by number; on x86-64 mxcsr; the lower halves of the others
enum { HOST_PC = 32, HOST_FLOAT_STATUS, HOST_FLOAT, HOST_REGISTERS = HOST_FLOAT + 32 };

typedef struct { // a host instruction that touches guest memory
    uint32_t place;
    uint16_t slot; // of the guest instruction
    uint16_t back; // instructions of its block that are not done, itself included
} code_site;

typedef struct { // the address field of a host jump to a slot that has no translation yet
    uint32_t place;
    uint16_t slot, reserved;
} code_link;

struct hot_page {                 // what the translator knows of a page
    uint32_t entries[PAGE_SLOTS]; // places in the code cache; 0: no translation
    uint16_t forms[PAGE_SLOTS];   // index of the handler of what is decoded, or FORM_NONE
    uint8_t heat[PAGE_SLOTS];     // 0: not known to be where a block starts
    uint8_t covered[PAGE_SLOTS / 8];
    code_link *links;
    uint32_t link_count, link_capacity;
    uint32_t generation; // of the cache
    uint32_t drops;
    uint32_t bytes; // of the cache, that its translations take
};

struct codecache { // in memory that a forked child finds zeroed: its parent goes on writing to the cache
    uint8_t *writable;
    const uint8_t *executable; // the same memory
    uint32_t length;           // 0: no cache
    uint32_t lock;
    uint32_t generation;            // counts how often it was emptied
    uint32_t first, hot, cold, top; // code grows up from `first`, what is rarely run down from `top`
    uint32_t users;                 // machines that are running
    uint32_t full;                  // to be emptied once nobody is running
    uint32_t dead;                  // bytes of translations that nobody can come to
    uint32_t enter, enter_float, float_tiny, help, find_page, leave[LEAVE_NOW], leave_address;
    code_site *sites; // ascending
    uint32_t site_count, site_capacity;
};

typedef struct {            // a host jump of the run under way
    uint32_t place, resume; // where to go on after CALL_…
    uint16_t slot;
    uint8_t kind, done;
    uint16_t block, count; // of accesses that CALL_ACCESS makes
} run_jump;

enum { RUN_INSTRUCTIONS = 200, RUN_BLOCKS = 64, BLOCK_INSTRUCTIONS = 100, RUN_JUMPS = 6 * RUN_INSTRUCTIONS };

typedef struct { // a run of blocks that is being translated
    codecache *cache;
    code_page *page;
    uint8_t *at;
    run_jump jumps[RUN_JUMPS];
    code_site sites[RUN_INSTRUCTIONS];
    struct {
        uint32_t entry;
        uint16_t slot, length; // in instructions
    } blocks[RUN_BLOCKS];
    unsigned jump_count, site_count, block_count, first_site, access;
    unsigned slot, slots, done; // of the instruction under way
    bool float_ready;           // checked in this block
} assembly;

codecache *codecache_start(void *memory, uintptr_t writable, uintptr_t executable, uint64_t length);
bool codecache_enter(machine *m);
void codecache_leave(machine *m);
void codecache_look(machine *m);
const code_site *codecache_site(const codecache *c, uint32_t place);
void codecache_lock(codecache *c);
void codecache_unlock(codecache *c);
uint32_t translation_make(machine *m, code_page *page, unsigned slot);
int translation_run(machine *m, uint32_t entry, tlb_entry *tlb);
bool translation_unwind(machine *m, const uint64_t *registers);
void hot_mark(const board *b, code_page *page, unsigned slot);
void hot_forget(codecache *c, code_page *page, unsigned slot);
void hot_free(codecache *c, hot_page *hot);
void hot_renew(codecache *c, code_page *page);
void run_jump_to(assembly *a, unsigned kind, unsigned slot);
void run_site(assembly *a);
void run_step(assembly *a, unsigned slot, unsigned slots);
void run_resume(assembly *a, unsigned jump);
int translation_help(machine *m, uint32_t where);

// translate_x86_64*.c, translate_aarch64*.c: the templates

enum { GROUP_ACCESSES = 15 };

typedef struct { // loads, or stores, one after the other that start at the same register
    unsigned count;
    bool stores;
    int32_t low, high; // bytes from that register
    struct {
        const operation *operation;
        uint16_t slot;
        uint8_t slots, bytes;
        bool is_signed;
    } members[GROUP_ACCESSES];
} access_group;

bool has_template(unsigned opcode);
bool rounds_to_nearest(const operation *o);
bool host_translates(unsigned opcode);
void host_publish(codecache *c, uint32_t from, uint32_t to); // code was written here
bool host_start(codecache *c);
void host_begin(assembly *a);
void host_charge(assembly *a, uint32_t entry, unsigned instructions);
void host_operation(assembly *a, unsigned opcode, const operation *o);
void host_group(assembly *a, const access_group *g);
void host_branch(assembly *a, unsigned opcode, const operation *o, bool far);
void host_link(assembly *a, const operation *o);
void host_jump(assembly *a, unsigned slot);
void host_jump_far(assembly *a, int64_t offset);
void host_jump_register(assembly *a, const operation *o);
uint32_t host_stub(codecache *c, unsigned kind, unsigned slot, unsigned back, uint32_t resume);
void host_gather_flags(machine *m, uint32_t status);
void host_aim(codecache *c, uint32_t place, uint32_t target);
enum { FLOAT_CONTROL = 0x1f80 }; // x86-64's mxcsr: nearest, nothing trapped, no flags
void host_unspill(machine *m, const uint64_t *registers);

#endif
