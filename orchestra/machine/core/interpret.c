/* interpret.c: the interpreter: operations by computed goto; isa.def says what each does.
 *
 * A block is charged when it is entered (budget -= n); an operation that cannot complete gives back what was
 * not executed, so cycle and pc are exact wherever a run ends. Before each guest memory access the
 * operation's place is stored in m->at: if that access faults on the host, machine_unwind makes the machine
 * stand before it.
 */
#include "machine.h"
#include "integer.h"

static uint64_t unboxed(uint64_t value) {
    return value >> 32 == 0xffffffff ? value & 0xffffffff : 0x7fc00000;
}

// what SYSTEM instructions do; pc is the instruction's own

static outcome trap_with(machine *m, int cause, uint64_t value) {
    m->cause = cause;
    m->value = value;
    return GO_TRAP;
}

static outcome system_illegal(machine *m, const operation *d, uint64_t pc) {
    (void)m, (void)d, (void)pc;
    return GO_ILLEGAL;
}

static outcome system_fence_i(machine *m, const operation *d, uint64_t pc) {
    (void)m, (void)d, (void)pc;
    return GO_NEXT; // stores to code are seen at once
}

static outcome system_sfence(machine *m, const operation *d, uint64_t pc) {
    (void)d, (void)pc;
    if (m->s.privilege == PRIVILEGE_U || (m->s.privilege == PRIVILEGE_S && (m->s.mstatus & MSTATUS_TVM)))
        return GO_ILLEGAL;
    return GO_NEXT; // translations are coherent: see mmu.c
}

static outcome system_sfence_inval(machine *m, const operation *d, uint64_t pc) {
    (void)d, (void)pc;
    return m->s.privilege == PRIVILEGE_U ? GO_ILLEGAL : GO_NEXT;
}

static outcome manage(machine *m, const operation *d, uint64_t allowed) {
    if (!csr_environment(m, allowed)) return GO_ILLEGAL;
    return mmu_manage(m, m->s.x[d->rs1]) ? GO_NEXT : GO_TRAP; // there are no caches that could be seen
}

static outcome system_cbo_inval(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return manage(m, d, ENVCFG_CBIE);
}

static outcome system_cbo_clean(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return manage(m, d, ENVCFG_CBCFE);
}

static outcome system_cbo_zero(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    uint64_t address = m->s.x[d->rs1];
    if (!csr_environment(m, ENVCFG_CBZE)) return GO_ILLEGAL;
    for (unsigned offset = 0; offset < 64; offset += 8) { // all in one page: only the first can be refused
        int result = mmu_store(m, (address & ~63ull) + offset, 8, 0);
        if (result == STORE_TRAP) {
            if (m->cause != CAUSE_NONE) m->value = address;
            return GO_TRAP;
        }
        if (result == STORE_LEAVE) m->attention = true;
    }
    return GO_NEXT;
}

static outcome system_ecall(machine *m, const operation *d, uint64_t pc) {
    (void)d, (void)pc;
    return trap_with(m, CAUSE_ECALL_U + m->s.privilege, 0);
}

static outcome system_ebreak(machine *m, const operation *d, uint64_t pc) {
    (void)d;
    return trap_with(m, CAUSE_BREAKPOINT, pc);
}

static outcome system_mret(machine *m, const operation *d, uint64_t pc) {
    (void)d, (void)pc;
    return trap_return(m, PRIVILEGE_M) ? GO_LEAVE : GO_ILLEGAL;
}

static outcome system_sret(machine *m, const operation *d, uint64_t pc) {
    (void)d, (void)pc;
    return trap_return(m, PRIVILEGE_S) ? GO_LEAVE : GO_ILLEGAL;
}

static outcome system_wfi(machine *m, const operation *d, uint64_t pc) {
    (void)d, (void)pc;
    if (m->s.privilege == PRIVILEGE_U || (m->s.privilege == PRIVILEGE_S && (m->s.mstatus & MSTATUS_TW)))
        return GO_ILLEGAL;
    m->s.waiting = 1;
    m->attention = true;
    return GO_NEXT;
}

static outcome csr_change(machine *m, const operation *d, bool reads, bool writes, uint64_t operand,
                          unsigned kind) {
    unsigned number = (unsigned)d->imm;
    uint64_t old = 0;
    if (!csr_access(m, number, writes)) return GO_ILLEGAL;
    if (reads && !csr_read(m, number, &old)) return GO_ILLEGAL;
    if (writes) {
        uint64_t base = old;
        if (number == 0x344 || number == 0x144) base = m->s.mip; // read-modify-write leaves the wires out
        uint64_t value = kind == 0 ? operand : kind == 1 ? base | operand : base & ~operand;
        csr_write(m, number, value);
        if (m->trace) m->trace->csr = (uint16_t)number;
    }
    m->s.x[d->rd] = old;
    return GO_NEXT;
}

static outcome system_csrrw(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return csr_change(m, d, d->rd != 32, true, m->s.x[d->rs1], 0);
}

static outcome system_csrrs(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return csr_change(m, d, true, d->rs1 != 0, m->s.x[d->rs1], 1);
}

static outcome system_csrrc(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return csr_change(m, d, true, d->rs1 != 0, m->s.x[d->rs1], 2);
}

static outcome system_csrrwi(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return csr_change(m, d, d->rd != 32, true, d->rs1, 0);
}

static outcome system_csrrsi(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return csr_change(m, d, true, d->rs1 != 0, d->rs1, 1);
}

static outcome system_csrrci(machine *m, const operation *d, uint64_t pc) {
    (void)pc;
    return csr_change(m, d, true, d->rs1 != 0, d->rs1, 2);
}

// One SYSTEM instruction for translated code.
outcome system_operation(machine *m, const operation *d, unsigned opcode, uint64_t pc) {
    static outcome (*const functions[OP_COUNT])(machine *, const operation *, uint64_t) = {
#define ALU(...)                                         NULL
#define ALU_NONE(...)                                    NULL
#define JUMP(...)                                        NULL
#define JUMP_REGISTER(...)                               NULL
#define BRANCH(...)                                      NULL
#define LOAD(...)                                        NULL
#define STORE(...)                                       NULL
#define FLOAT_LOAD(...)                                  NULL
#define FLOAT_STORE(...)                                 NULL
#define RESERVE(...)                                     NULL
#define CONDITIONAL(...)                                 NULL
#define ATOMIC(...)                                      NULL
#define FLOAT_S(...)                                     NULL
#define FLOAT_D(...)                                     NULL
#define FLOAT_X(...)                                     NULL
#define SYSTEM(function)                                 function
#define OP(name, format, match, mask, operands, meaning) [OP_##name] = meaning,
#include "isa.def"
#undef OP
#undef ALU
#undef ALU_NONE
#undef JUMP
#undef JUMP_REGISTER
#undef BRANCH
#undef LOAD
#undef STORE
#undef FLOAT_LOAD
#undef FLOAT_STORE
#undef RESERVE
#undef CONDITIONAL
#undef ATOMIC
#undef FLOAT_S
#undef FLOAT_D
#undef FLOAT_X
#undef SYSTEM
    };
    return functions[opcode] ? functions[opcode](m, d, pc) : GO_ILLEGAL;
}

// the interpreter

#define A           x[d->rs1]
#define B           x[d->rs2]
#define SA          ((int64_t)A)
#define SB          ((int64_t)B)
#define RD          x[d->rd]
#define IMM         ((int64_t)d->imm)
#define PC          (((uintptr_t)d >> 3) + delta)
#define WORD(value) ((uint64_t)(int64_t)(int32_t)(value))

#define F1          m->s.f[d->rs1]
#define S1          ((uint32_t)unboxed(m->s.f[d->rs1]))
#define S2          ((uint32_t)unboxed(m->s.f[d->rs2]))
#define S3          ((uint32_t)unboxed(m->s.f[d->imm >> 8]))
#define D1          m->s.f[d->rs1]
#define D2          m->s.f[d->rs2]
#define D3          m->s.f[d->imm >> 8]
#define SIGN_S      0x80000000u
#define SIGN_D      0x8000000000000000ull
#define NEGATE_S(v) ((v) ^ SIGN_S)
#define NEGATE_D(v) ((v) ^ SIGN_D)
#define FLAGS       (&flags)
#define RM                                                                                                   \
    ({                                                                                                       \
        unsigned rm = (unsigned)d->imm & 7;                                                                  \
        if (rm == 7) rm = m->s.frm;                                                                          \
        if (unlikely(rm > 4)) goto illegal;                                                                  \
        rm;                                                                                                  \
    })

#define NEXT(slots)                                                                                          \
    do {                                                                                                     \
        d += slots;                                                                                          \
        goto *__atomic_load_n(&d->handler, __ATOMIC_RELAXED);                                                \
    } while (0)
// Handler first, then n: another thread may be publishing this very operation (decode.c).
#define ENTER                                                                                                \
    do {                                                                                                     \
        const void *handler = __atomic_load_n(&d->handler, __ATOMIC_ACQUIRE);                                \
        charge = d->n;                                                                                       \
        budget -= charge;                                                                                    \
        if (unlikely(budget < 0)) goto exhausted;                                                            \
        m->budget = budget;                                                                                  \
        goto *handler;                                                                                       \
    } while (0)
#define GO_TO(address)                                                                                       \
    do {                                                                                                     \
        target = (address);                                                                                  \
        const fetch_entry *f = &fetch[target >> PAGE_SHIFT & (FETCH_ENTRIES - 1)];                           \
        if (unlikely(f->tag != (target & ~4095ull))) goto fetch_target;                                      \
        d = f->operations + (target & 4095) / 2;                                                             \
        m->delta = delta = target - ((uintptr_t)d >> 3);                                                     \
        ENTER;                                                                                               \
    } while (0)

// One body for the 2-byte and the 4-byte form; `slots` is its length.
#define FORMS(name, ...)                                                                                     \
    name##_2 : {                                                                                             \
        enum { slots = 1 };                                                                                  \
        __VA_ARGS__                                                                                          \
    }                                                                                                        \
    name##_4 : {                                                                                             \
        enum { slots = 2 };                                                                                  \
        __VA_ARGS__                                                                                          \
    }

#define PROBE(tag, bytes) (address & (~4095ull | ((bytes)-1))) == entry->tag
#define ADDRESS                                                                                              \
    uint64_t address = A + (uint64_t)IMM;                                                                    \
    tlb_entry *entry = &tlb[address >> PAGE_SHIFT & (TLB_ENTRIES - 1)];                                      \
    m->at = d
#define HOST(type) (*(volatile type *)(uintptr_t)(address + entry->addend))
#define LOADED(type, put)                                                                                    \
    ADDRESS;                                                                                                 \
    if (likely(PROBE(read, sizeof(type)))) {                                                                 \
        type v = HOST(type);                                                                                 \
        put;                                                                                                 \
        NEXT(slots);                                                                                         \
    }                                                                                                        \
    uint64_t slow;                                                                                           \
    if (!mmu_load(m, address, sizeof(type), &slow)) goto trap;                                               \
    type v = (type)slow;                                                                                     \
    put;                                                                                                     \
    width = slots;                                                                                           \
    if (unlikely(m->attention)) goto leave_after;                                                            \
    NEXT(slots);

#define STORED(type, value)                                                                                  \
    ADDRESS;                                                                                                 \
    if (likely(PROBE(write, sizeof(type)))) {                                                                \
        HOST(type) = (type)(value);                                                                          \
        NEXT(slots);                                                                                         \
    }                                                                                                        \
    width = slots;                                                                                           \
    switch (mmu_store(m, address, sizeof(type), (type)(value))) {                                            \
    case STORE_TRAP: goto trap;                                                                              \
    case STORE_LEAVE: goto leave_after;                                                                      \
    }                                                                                                        \
    NEXT(slots);

// the meanings of isa.def

#define ALU(value)                                                                                           \
    RD = (uint64_t)(value);                                                                                  \
    NEXT(slots);
#define ALU_NONE() NEXT(slots);
#define JUMP()                                                                                               \
    RD = PC + 2 * slots;                                                                                     \
    d = (const operation *)((const char *)d + d->imm);                                                       \
    ENTER;
#define JUMP_FAR()                                                                                           \
    uint64_t to = PC + (uint64_t)IMM;                                                                        \
    RD = PC + 2 * slots;                                                                                     \
    GO_TO(to);
#define JUMP_REGISTER()                                                                                      \
    uint64_t to = (A + (uint64_t)IMM) & ~1ull;                                                               \
    RD = PC + 2 * slots;                                                                                     \
    GO_TO(to);
#define BRANCH(condition)                                                                                    \
    if (condition)                                                                                           \
        d = (const operation *)((const char *)d + d->imm);                                                   \
    else                                                                                                     \
        d += slots;                                                                                          \
    ENTER;
#define BRANCH_FAR(condition)                                                                                \
    if (condition) GO_TO(PC + (uint64_t)IMM);                                                                \
    d += slots;                                                                                              \
    ENTER;
#define LOAD(type)  LOADED(type, RD = (uint64_t)(int64_t)v)
#define STORE(type) STORED(type, B)
#define NEEDS_FLOAT                                                                                          \
    if (unlikely(!(m->s.mstatus & MSTATUS_FS))) goto illegal
#define DIRTY_FLOAT                                                                                          \
    if (unlikely(~m->s.mstatus & MSTATUS_FS)) m->s.mstatus |= MSTATUS_FS
#define PUT_FLOAT(value)                                                                                     \
    m->s.f[d->rd] = (value);                                                                                 \
    DIRTY_FLOAT
#define BOX(v, bits) (sizeof(bits) == 4 ? 0xffffffff00000000ull | (v) : (v))
#define FLOAT_LOAD(bits)                                                                                     \
    NEEDS_FLOAT;                                                                                             \
    LOADED(bits, PUT_FLOAT(BOX(v, bits)))
#define FLOAT_STORE(bits)                                                                                    \
    NEEDS_FLOAT;                                                                                             \
    STORED(bits, m->s.f[d->rs2])
#define FLOAT_PUT(value)                                                                                     \
    uint32_t flags = m->s.fflags;                                                                            \
    NEEDS_FLOAT;                                                                                             \
    m->s.f[d->rd] = (value);                                                                                 \
    m->s.fflags = flags;                                                                                     \
    DIRTY_FLOAT;                                                                                             \
    NEXT(slots);
#define FLOAT_S(value) FLOAT_PUT(0xffffffff00000000ull | (uint32_t)(value))
#define FLOAT_D(value) FLOAT_PUT(value)
#define FLOAT_X(value)                                                                                       \
    uint32_t flags = 0;                                                                                      \
    NEEDS_FLOAT;                                                                                             \
    RD = (uint64_t)(value);                                                                                  \
    if (flags) {                                                                                             \
        m->s.fflags |= flags;                                                                                \
        DIRTY_FLOAT;                                                                                         \
    }                                                                                                        \
    NEXT(slots);
#define RESERVE(type)                                                                                        \
    uint64_t old;                                                                                            \
    m->at = d;                                                                                               \
    if (!mmu_reserve(m, A, sizeof(type), &old)) goto trap;                                                   \
    RD = (uint64_t)(int64_t)(type)old;                                                                       \
    width = slots;                                                                                           \
    if (unlikely(m->attention)) goto leave_after;                                                            \
    NEXT(slots);
#define CONDITIONAL(type)                                                                                    \
    bool stored;                                                                                             \
    m->at = d;                                                                                               \
    width = slots;                                                                                           \
    int result = mmu_store_conditional(m, A, sizeof(type), (type)B, &stored);                                \
    if (result == STORE_TRAP) goto trap;                                                                     \
    RD = !stored;                                                                                            \
    if (result == STORE_LEAVE) goto leave_after;                                                             \
    NEXT(slots);
#define ATOMIC(signed_type, type, value)                                                                     \
    uint64_t address = A;                                                                                    \
    type old, new = (type)B;                                                                                 \
    tlb_entry *entry = &tlb[address >> PAGE_SHIFT & (TLB_ENTRIES - 1)];                                      \
    m->at = d;                                                                                               \
    if (likely(PROBE(write, sizeof(type)))) {                                                                \
        old = HOST(type);                                                                                    \
        HOST(type) = (type)(value);                                                                          \
        RD = (uint64_t)(signed_type)old;                                                                     \
        NEXT(slots);                                                                                         \
    }                                                                                                        \
    uint64_t slow;                                                                                           \
    if (!mmu_amo_load(m, address, sizeof(type), &slow)) goto trap;                                           \
    old = (type)slow;                                                                                        \
    width = slots;                                                                                           \
    int result = mmu_store(m, address, sizeof(type), (type)(value));                                         \
    if (result == STORE_TRAP) goto trap;                                                                     \
    RD = (uint64_t)(int64_t)(signed_type)old;                                                                \
    if (result == STORE_LEAVE) goto leave_after;                                                             \
    NEXT(slots);
#define SYSTEM(function)                                                                                     \
    m->at = d;                                                                                               \
    width = slots;                                                                                           \
    switch (function(m, d, PC)) {                                                                            \
    case GO_LEAVE: goto leave_at_pc;                                                                         \
    case GO_TRAP: goto trap;                                                                                 \
    case GO_ILLEGAL: goto illegal;                                                                           \
    case GO_NEXT: break;                                                                                     \
    }                                                                                                        \
    if (m->attention) goto leave_after;                                                                      \
    d += slots;                                                                                              \
    ENTER;

// Branches and jumps have other forms for targets outside the page.
#define FAR_LABELS_B(name)     &&op_##name##_far_2, &&op_##name##_far_4,
#define FAR_LABELS_J(name)     FAR_LABELS_B(name)
#define NEAR_LABELS(name)      &&op_##name##_2, &&op_##name##_4,
#define FAR_LABELS_R(name)     NEAR_LABELS(name)
#define FAR_LABELS_I(name)     NEAR_LABELS(name)
#define FAR_LABELS_S(name)     NEAR_LABELS(name)
#define FAR_LABELS_U(name)     NEAR_LABELS(name)
#define FAR_LABELS_SH(name)    NEAR_LABELS(name)
#define FAR_LABELS_FR(name)    NEAR_LABELS(name)
#define FAR_LABELS_R4(name)    NEAR_LABELS(name)
#define FAR_LABELS_CSR(name)   NEAR_LABELS(name)
#define FAR_LABELS_N(name)     NEAR_LABELS(name)
#define FAR_FORMS_B(name, ...) FORMS(op_##name##_far, __VA_ARGS__)
#define FAR_FORMS_J(name, ...) FORMS(op_##name##_far, __VA_ARGS__)
#define FAR_FORMS_R(name, ...)
#define FAR_FORMS_I(name, ...)
#define FAR_FORMS_S(name, ...)
#define FAR_FORMS_U(name, ...)
#define FAR_FORMS_SH(name, ...)
#define FAR_FORMS_FR(name, ...)
#define FAR_FORMS_R4(name, ...)
#define FAR_FORMS_CSR(name, ...)
#define FAR_FORMS_N(name, ...)

// Where this block's translation is; 0: it has none, yet.
static inline uint32_t translation_of(machine *m, code_page *page, unsigned slot) {
    hot_page *hot = page->hot;
    uint32_t entry = __atomic_load_n(&hot->entries[slot], __ATOMIC_ACQUIRE);
    if (likely(entry)) return entry;
    uint8_t heat = __atomic_load_n(&hot->heat[slot], __ATOMIC_RELAXED);
    if (heat >= m->warmth) return translation_make(m, page, slot);
    __atomic_store_n(&hot->heat[slot], (uint8_t)(heat + 1), __ATOMIC_RELAXED);
    return 0;
}

static const void *const *interpreter(machine *m) {
    static const void *const handlers[OP_TOTAL * 4] = {
#define OP(name, format, ...) [OP_##name * 4] = &&op_##name##_2, &&op_##name##_4, FAR_LABELS_##format(name)
#include "isa.def"
#undef OP
#define SAME(opcode, label) [opcode * 4] = &&label, &&label, &&label, &&label,
        SAME(OP_UNDECODED, undecoded) SAME(OP_STEP, step) SAME(OP_PAGE_END, page_end)
            SAME(OP_STEP_DONE, step_done) SAME(OP_WARM, warm)};
    if (!m) return handlers;

    uint64_t *const x = m->s.x;
    engine *const e = m->engine;
    tlb_entry *tlb = mmu_bank(m);
    const fetch_entry *fetch = tlb_fetch(m);
    const operation *d;
    uint64_t delta, target;
    unsigned charge = 0; // of the block entered last
    int64_t budget = m->budget;
    unsigned width = 0;
    bool translating = m->in_cache && !m->trace;
    m->fetch = fetch;

    while (e->graveyard) {
        code_page *next = e->graveyard->next;
        code_free(m->home, e->graveyard);
        e->graveyard = next;
    }
    m->attention = false;
    GO_TO(m->s.pc);

#define OP(name, format, match, mask, operands, meaning) FORMS(op_##name, meaning)
#include "isa.def"
#undef OP

#undef JUMP
#undef BRANCH
#define JUMP                                             JUMP_FAR
#define BRANCH                                           BRANCH_FAR
#define OP(name, format, match, mask, operands, meaning) FAR_FORMS_##format(name, meaning)
#include "isa.def"
#undef OP

undecoded : { // charges for itself once it is decoded
    uint64_t pc = PC;
    budget += charge; // 0, unless it was decoded meanwhile
    m->budget = budget;
    m->at = NULL;
    m->s.pc = pc;
    if (machine_tires(m)) goto leave_at_pc;
    unsigned slot = (pc & 4095) / 2;
    code_page *page = (code_page *)((char *)(d - slot) - offsetof(code_page, operations));
    decode_block(m->home, page, slot);
    ENTER;
}

warm : { // entered with its charge, as any operation is
    uint64_t pc = PC;
    unsigned slot = (pc & 4095) / 2;
    code_page *page = (code_page *)((char *)(d - slot) - offsetof(code_page, operations));
    uint32_t entry = translating ? translation_of(m, page, slot) : 0;
    if (!entry) goto *handlers[page->hot->forms[slot]];
    m->budget = budget + d->n;
    m->at = NULL;
    m->page = pc & ~4095ull;
    int left = translation_run(m, entry, tlb);
    budget = m->budget;
    target = m->s.pc;
    if (left == LEAVE_NOW) goto leave_at_pc;
    tlb = m->bank, fetch = m->fetch; // it may have changed modes
    if (left == LEAVE_TAIL) translating = false;
    const fetch_entry *f = &fetch[target >> PAGE_SHIFT & (FETCH_ENTRIES - 1)];
    if (unlikely(f->tag != (target & ~4095ull))) goto fetch_target;
    slot = (target & 4095) / 2;
    d = f->operations + slot;
    m->delta = delta = target - ((uintptr_t)d >> 3);
    page = (code_page *)((char *)f->operations - offsetof(code_page, operations));
    if (left == LEAVE_PLAIN) hot_mark(m->home, page, slot);
    const void *handler = __atomic_load_n(&d->handler, __ATOMIC_ACQUIRE);
    charge = d->n;
    budget -= charge;
    if (unlikely(budget < 0)) goto exhausted;
    m->budget = budget;
    if (handler != &&warm || left == LEAVE_PLAIN) goto *handler;
    goto *handlers[page->hot->forms[slot]];
}

page_end:
    GO_TO(PC);

step_done:
    GO_TO(PC);

exhausted: // the block does not fit into what is left: run it instruction by instruction
    budget += charge;
    m->budget = budget;
step : { // one instruction, outside its block
    uint32_t raw;
    uint64_t pc = PC;
    m->s.pc = pc;
    m->at = NULL;
    if (budget == 0 || machine_tires(m)) goto leave_at_pc;
    if (!mmu_fetch_raw(m, pc, &raw)) goto fetch_trap;
    decode_operation(m->home, raw, pc & 4095, true, &e->scratch[0]);
    e->scratch[0].n = 1;
    d = e->scratch;
    m->delta = delta = pc - ((uintptr_t)d >> 3);
    m->budget = --budget;
    goto * d->handler;
}

fetch_target : {
    m->at = NULL;
    m->s.pc = target;
    m->budget = budget;
    if (budget == 0) goto leave_at_pc;
    const operation *found = mmu_fetch(m, target);
    if (!found) goto fetch_trap;
    if (machine_tires(m)) goto leave_at_pc; // it is found again
    if (translating) {
        unsigned slot = (target & 4095) / 2;
        hot_mark(m->home, (code_page *)((char *)(found - slot) - offsetof(code_page, operations)), slot);
    }
    d = found;
    m->delta = delta = target - ((uintptr_t)d >> 3);
    ENTER;
}

fetch_trap: // s.pc could not be fetched
    if (m->cause == CAUSE_NONE) goto leave_at_pc;
    m->budget = --budget;
    m->s.minstret_offset--;
    trap_enter(m, (uint64_t)m->cause, m->value);
    goto leave_at_pc;

illegal : {
    uint32_t raw = 0;
    m->at = d;
    if (mmu_fetch_raw(m, PC, &raw) || m->cause != CAUSE_NONE) m->cause = CAUSE_ILLEGAL;
    m->value = raw;
}
trap: // the operation d did not happen; it takes a cycle all the same
    m->s.pc = PC;
    budget += d->n;
    if (m->cause != CAUSE_NONE) {
        budget--;
        m->s.minstret_offset--;
        trap_enter(m, (uint64_t)m->cause, m->value);
    }
    goto leave_at_pc;

leave_after: // d is done
    m->s.pc = PC + 2 * width;
    budget += d->n - 1;
leave_at_pc:
    m->budget = budget;
    m->at = NULL;
    return NULL;
}

void interpret(machine *m) { interpreter(m); }

const void *const *interpreter_handlers(void) { return interpreter(NULL); }
