/* help.c: loads, stores and SYSTEM instructions for translated code, which calls when it cannot do them
 * inline.
 *
 * The meanings of isa.def again, as the interpreter's slow paths have them: with one instruction done or not
 * begun, and everything that might look at the clock or at the place knowing them.
 */
#include "machine.h"

enum { HELP_DONE, HELP_LEAVES, HELP_CANNOT, HELP_TRAPS, HELP_RETURNS };

#define ALU(...)           return HELP_CANNOT;
#define ALU_NONE(...)      return HELP_CANNOT;
#define JUMP(...)          return HELP_CANNOT;
#define JUMP_REGISTER(...) return HELP_CANNOT;
#define BRANCH(...)        return HELP_CANNOT;
#define FLOAT_S(...)       return HELP_CANNOT;
#define FLOAT_D(...)       return HELP_CANNOT;
#define FLOAT_X(...)       return HELP_CANNOT;
#define SYSTEM(...)        return HELP_CANNOT;
// A group of accesses comes here when it is not all in one page: most of them may be in the TLB.
#define IN_TLB(tag, type) ((address + sizeof(type) - 1) & ~4095ull) == entry->tag
#define HOST(type)                                                                                           \
    ((volatile struct { type v; } __attribute__((packed)) *)(uintptr_t)(address + entry->addend))->v
#define LOADED(type, put)                                                                                    \
    if (IN_TLB(read, type)) {                                                                                \
        value = (uint64_t)HOST(type);                                                                        \
        put;                                                                                                 \
        return HELP_DONE;                                                                                    \
    }                                                                                                        \
    if (!mmu_load(m, address, sizeof(type), &value)) return HELP_TRAPS;                                      \
    put;                                                                                                     \
    return m->attention ? HELP_LEAVES : HELP_DONE;
#define STORED(type, from)                                                                                   \
    if (IN_TLB(write, type)) {                                                                               \
        HOST(type) = (type)(from);                                                                           \
        return HELP_DONE;                                                                                    \
    }                                                                                                        \
    result = mmu_store(m, address, sizeof(type), (type)(from));                                              \
    return result == STORE_TRAP ? HELP_TRAPS : result == STORE_LEAVE ? HELP_LEAVES : HELP_DONE;
#define BOXED(type)       (sizeof(type) == 4 ? 0xffffffff00000000ull | (type)value : value)
#define LOAD(type)        LOADED(type, m->s.x[d->rd] = (uint64_t)(int64_t)(type)value)
#define STORE(type)       STORED(type, m->s.x[d->rs2])
#define FLOAT_LOAD(type)  LOADED(type, m->s.f[d->rd] = BOXED(type))
#define FLOAT_STORE(type) STORED(type, m->s.f[d->rs2])

#define RESERVE(type)                                                                                        \
    if (!mmu_reserve(m, address, sizeof(type), &value)) return HELP_TRAPS;                                   \
    m->s.x[d->rd] = (uint64_t)(int64_t)(type)value;                                                          \
    return m->attention ? HELP_LEAVES : HELP_DONE;
#define CONDITIONAL(type)                                                                                    \
    result = mmu_store_conditional(m, address, sizeof(type), (type)m->s.x[d->rs2], &stored);                 \
    if (result == STORE_TRAP) return HELP_TRAPS;                                                             \
    m->s.x[d->rd] = !stored;                                                                                 \
    return result == STORE_LEAVE ? HELP_LEAVES : HELP_DONE;
#define ATOMIC(signed_type, type, wanted)                                                                    \
    {                                                                                                        \
        if (!mmu_amo_load(m, address, sizeof(type), &value)) return HELP_TRAPS;                              \
        type old = (type)value, new = (type)m->s.x[d->rs2];                                                  \
        result = mmu_store(m, address, sizeof(type), (type)(wanted));                                        \
        if (result == STORE_TRAP) return HELP_TRAPS;                                                         \
        m->s.x[d->rd] = (uint64_t)(int64_t)(signed_type)old;                                                 \
        (void)new;                                                                                           \
        return result == STORE_LEAVE ? HELP_LEAVES : HELP_DONE;                                              \
    }

static int access_operation(machine *m, const operation *d, unsigned opcode) {
    uint64_t address = m->s.x[d->rs1] + (uint64_t)(int64_t)d->imm, value;
    const tlb_entry *entry = &m->bank[address >> PAGE_SHIFT & (TLB_ENTRIES - 1)];
    int result;
    bool stored;
    switch (opcode) {
#define OP(name, format, match, mask, operands, meaning)                                                     \
    case OP_##name:                                                                                          \
        meaning
#include "isa.def"
#undef OP
    }
    return HELP_CANNOT;
}

static const fetch_entry *fetched(const machine *m) { // the page under way, if its tag is m->page
    return &m->fetch[m->page >> PAGE_SHIFT & (FETCH_ENTRIES - 1)];
}

// Has nothing that the run loop would look at come of the CSR that was written? Others than these move
// timers. Loads and stores may go by another bank now.
static bool may_go_on(machine *m, int32_t csr) {
    bool known = csr == 0x100 || csr == 0x104 || csr == 0x144 || csr == 0x300 || csr == 0x304 || csr == 0x344;
    if (!known || m->stop || tlb_fetch(m) != m->fetch || fetched(m)->tag != m->page) return false;
    m->bank = mmu_bank(m);
    return !interrupts_enabled(m);
}

static int system_with(machine *m, const operation *d, unsigned opcode, uint64_t pc) {
    switch (system_operation(m, d, opcode, pc)) {
    case GO_NEXT: break;
    case GO_LEAVE: return HELP_RETURNS;
    case GO_TRAP: return HELP_TRAPS;
    case GO_ILLEGAL: return HELP_CANNOT;
    }
    if (!m->attention) return HELP_DONE;
    if (!may_go_on(m, d->imm)) return HELP_LEAVES;
    m->attention = false;
    return HELP_DONE;
}

// Into a handler or out of it, without the run loop if it had nothing to do there.
static int change_modes(machine *m, int did, uint64_t pc) {
    if (did == HELP_TRAPS) {
        m->s.pc = pc;
        m->s.minstret_offset--;
        trap_enter(m, (uint64_t)m->cause, m->value);
    }
    if (m->stop || m->budget <= 0 || machine_tires(m) || interrupts_enabled(m)) return LEAVE_NOW;
    m->attention = false;
    m->fetch = tlb_fetch(m);
    m->bank = mmu_bank(m);
    return HELP_JUMPS;
}

// Called with all registers in the state: 0, the translation goes on; else HELP_JUMPS, or why it leaves.
int translation_help(machine *m, uint32_t where) {
    unsigned slot = where & (PAGE_SLOTS - 1), back = where >> 16, form = 0;
    unsigned count = where >> HELP_COUNT_SHIFT & GROUP_ACCESSES;
    bool system = where & HELP_SYSTEM, floats = m->float_ready;
    int64_t budget = m->budget;
    const fetch_entry *f = fetched(m);
    int did = HELP_CANNOT;
    if (floats) host_gather_flags(m, m->float_status);
    m->float_again = floats && !system;
    while (f->tag == m->page) {
        const operation *d = f->operations + slot;
        const code_page *page = (code_page *)((char *)f->operations - offsetof(code_page, operations));
        uint64_t pc = m->page + 2 * slot;
        form = page->hot->forms[slot];
        m->delta = pc - ((uintptr_t)d >> 3);
        m->budget = budget + (int64_t)back - d->n; // as the interpreter has it, which charged d->n
        m->at = d;
        did = system ? system_with(m, d, form >> 2, pc) : access_operation(m, d, form >> 2);
        if (did == HELP_RETURNS || (did == HELP_TRAPS && m->cause != CAUSE_NONE)) {
            m->at = NULL;
            m->budget = budget + (int64_t)back - 1;
            m->s.cycle = m->limit - (uint64_t)m->budget; // the clock, between operations
            return change_modes(m, did, pc);
        }
        m->at = NULL;
        if (did == HELP_CANNOT || did == HELP_TRAPS) break;
        slot += form & 1 ? 2 : 1;
        back--;
        if (did == HELP_LEAVES || count-- <= 1) break;
        did = HELP_CANNOT;
    }
    m->budget = did == HELP_DONE ? budget : budget + (int64_t)back;
    m->s.pc = m->page + 2 * slot;
    return did == HELP_DONE ? 0 : did == HELP_LEAVES ? LEAVE_NOW : LEAVE_SIDE;
}
