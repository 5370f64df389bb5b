/* machine.h: everything the core's files share: one machine's state, its memory, its engine. */
#ifndef ORCHESTRA_MACHINE_H
#define ORCHESTRA_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "float_fast.h"

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

enum { PAGE_SHIFT = 12, PAGE_BYTES = 4096, PAGE_SLOTS = PAGE_BYTES / 2 };
enum { PRIVILEGE_U = 0, PRIVILEGE_S = 1, PRIVILEGE_M = 3 };
typedef enum { ACCESS_LOAD, ACCESS_STORE, ACCESS_FETCH } access_kind;

typedef struct machine machine;
typedef struct board board;
typedef struct layer layer;
typedef struct arena arena;
typedef struct node node;
typedef struct code_page code_page;
typedef struct codecache codecache;
typedef struct hot_page hot_page;

// Held for a moment only, and never while memory is touched that may fault.
static inline void spin_lock(uint32_t *lock) {
    while (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(lock, __ATOMIC_RELAXED)) {
        }
}

static inline void spin_unlock(uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }

// clang-format off: each needs those before it
#include "state.h"
#include "pages.h"
#include "board.h"
#include "mmu.h"
#include "translate.h"
#include "devices.h"
// clang-format on

// interpret.c, run.c

typedef struct { // one retired instruction, for traces
    uint64_t pc, address, stored, value;
    uint32_t raw;
    uint8_t privilege, memory, size; // memory: 0 none, 1 load, 2 store
    uint8_t rd, destination;         // destination: 0 none, 1 x, 2 f
    uint8_t trapped;
    uint16_t csr; // 0: none written
    uint64_t csr_value;
    uint64_t behind;        // of the M-mode register that sstatus, sie or sip shows
    uint64_t mstatus;       // when it changed by itself: FS became dirty, or a return from a trap; else 0
    uint32_t fflags;        // before the instruction
    uint32_t fflags_raised; // by its arithmetic
} commit;

typedef uint64_t (*host_clock)(int cpu); // nanoseconds: on the wall, or of the calling thread's CPU

struct machine {
    state s;                      // first, so that x[i] is at the machine's own address
    const operation *volatile at; // the operation whose memory access is under way; NULL: between operations
    uint64_t delta;               // pc = (at >> 3) + delta
    int64_t budget;               // cycles left before limit, as of the last block entered
    uint64_t limit;
    uint64_t page;            // translated code: the virtual address of the page it is in
    const fetch_entry *fetch; // translated code: where pages of this privilege are looked up
    const uint8_t *code;      // translated code: place 0
    tlb_entry *bank;          // translated code: of this mode
    int (*help)(machine *m, uint32_t where);
    uint32_t float_status, float_control, host_float_control;
    uint32_t float_again; // translated code: load them again after a call
    uint32_t float_ready; // translated code: floats are in host registers
    int cause;            // of the trap under way
    uint64_t value;       // and its mtval
    board *home;
    memory memory;
    engine *engine;
    commit *trace;
    uint8_t *console;
    uint32_t console_length, console_capacity, console_limit;
    uint32_t stop_flag;
    uint32_t stop;         // set by devices
    uint32_t warmth;       // a block is translated when it has been entered so often; 0: not at all
    uint32_t generation;   // of the code cache, as last seen
    int32_t patience;      // slow operations until the run loop is to look at the stop flag
    fast_modes host_modes; // of the host's floating-point unit, outside the run
    bool running;
    bool in_cache;  // one of the code cache's users
    bool attention; // leave the block: interrupts, mode or translation may have changed
    host_clock clock;
    uint64_t cpu_end; // as in run_call
    uint64_t look_at; // not before this time on the wall can it be reached
};

// What may take a thousand times as long as a cycle counts; true: the run loop is to have a look.
static inline bool machine_tires(machine *m) { return unlikely(--m->patience <= 0); }

uint64_t cycle_now(const machine *m);
void interpret(machine *m);
void run_begins(machine *m); // and ends: the host's floating-point unit is the guest's between them
void run_ends(machine *m);
int run_until(machine *m, uint64_t until);
bool run_skips_idle(machine *m, uint64_t until);
void run_passes_time(machine *m, uint64_t to);
bool run_used_up(machine *m, host_clock clock, uint64_t cpu_end); // as in run_call
typedef enum { GO_NEXT, GO_LEAVE, GO_TRAP, GO_ILLEGAL } outcome;  // LEAVE: s.pc is set
outcome system_operation(machine *m, const operation *d, unsigned opcode, uint64_t pc);

#include "calls.h"
#include "delta.h"

unsigned disassemble(board *b, uint32_t raw, uint64_t pc, char *out, unsigned capacity);
const char *instruction_name(unsigned op);
const char *instruction_operands(unsigned op);
uint32_t instruction_match(unsigned op);
uint32_t instruction_mask(unsigned op);
uint32_t instruction_extension(unsigned op);

#endif
