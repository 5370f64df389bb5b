/* translate_aarch64.c: the templates of integer arithmetic, memory and jumps for AArch64. */
#include "translate_aarch64.h"

#ifdef __aarch64__

// jumps

void host_jump(assembly *a, unsigned slot) { jump_always(a, LEAVE_PLAIN, slot); }

void host_aim(codecache *c, uint32_t place, uint32_t to) {
    uint32_t instruction = 0x14000000 | ((uint32_t)((int32_t)(to - place) / 4) & 0x3ffffff);
    __atomic_store_n((uint32_t *)(void *)(c->writable + place), instruction, __ATOMIC_RELEASE);
    host_publish(c, place, place + 4);
}

// A subroutine: x0 is a guest address, x1 becomes where its translation is.
static void find_page(assembly *a) {
    unsigned log2_entries = (unsigned)__builtin_ctz(FETCH_ENTRIES);
    low_bits(a, X1, X0, PAGE_SHIFT, log2_entries);
    field(a, LOAD_X, X2, FIELD(fetch));
    emit(a, 0x8b000000 | X1 << 16 | 4 << 10 | X2 << 5 | X1); // x1 = x2 + x1 * 16
    page_of(a, X2, X0, 0);
    emit(a, LOAD_X | offsetof(fetch_entry, tag) / 8 << 10 | X1 << 5 | X3);
    op(a, SUBS, X, ZERO, X2, X3);
    uint8_t *known = skip_if(a, IF_EQ);
    branch(a, 0x14000000, a->cache->leave_address);
    land(a, known);
    emit(a, LOAD_X | offsetof(fetch_entry, operations) / 8 << 10 | X1 << 5 | X1);
    field(a, STORE_X, X2, FIELD(page));
    low_bits(a, X0, X0, 0, PAGE_SHIFT);
    emit(a, 0x8b000000 | X0 << 16 | 1 << 10 | X1 << 5 | X1); // x1 += x0 * 2
    move_constant(a, X3, sizeof(code_page) - offsetof(code_page, operations) + offsetof(hot_page, entries));
    emit(a, 0xb8606800 | X3 << 16 | X1 << 5 | X1); // ldr w1, [x1, x3]
    field(a, LOAD_X, X2, FIELD(code));
    op(a, ADD, X, X1, X1, X2);
    emit(a, 0xd65f03c0); // ret
}

static void jump_to_x0(assembly *a) {
    branch(a, 0x94000000, a->cache->find_page);
    emit(a, 0xd61f0000 | X1 << 5); // br x1
}

static void page_offset(assembly *a, int to, int64_t offset) {
    field(a, LOAD_X, to, FIELD(page));
    if (offset) add_constant(a, to, to, offset);
}

void host_jump_far(assembly *a, int64_t offset) {
    page_offset(a, X0, offset);
    jump_to_x0(a);
}

void host_link(assembly *a, const operation *o) {
    if (o->rd == 32) return;
    int to = target(o->rd, X0);
    page_offset(a, to, 2 * (int64_t)(a->slot + a->slots));
    put(a, o->rd, to);
}

void host_jump_register(assembly *a, const operation *o) {
    int base = use(a, o->rs1, X0);
    if (base == ZERO)
        move_constant(a, X0, o->imm);
    else
        add_constant(a, X0, base, o->imm);
    emit(a, 0x927ff800 | X0 << 5 | X0); // and x0, x0, -2
    if (o->rd != 32) {
        int to = target(o->rd, X1);
        page_offset(a, to, 2 * (int64_t)(a->slot + a->slots));
        put(a, o->rd, to);
    }
    jump_to_x0(a);
}

static void compare_and_branch(assembly *a, const operation *o, unsigned condition, bool far) {
    op(a, SUBS, X, ZERO, use(a, o->rs1, X0), use(a, o->rs2, X1));
    if (!far) {
        jump_if(a, condition, LEAVE_PLAIN, (unsigned)((int)a->slot + o->imm / 16));
        return;
    }
    uint8_t *over = skip_if(a, condition ^ 1);
    host_jump_far(a, (int64_t)a->slot * 2 + o->imm);
    land(a, over);
}

void host_branch(assembly *a, unsigned opcode, const operation *o, bool far) {
    switch (opcode) {
#    define BRANCH(name, condition)                                                                          \
    case OP_##name:                                                                                          \
        compare_and_branch(a, o, condition, far);                                                            \
        break;
#    include "templates.def"
    }
}

// blocks and stubs

void host_begin(assembly *a) {
    emit(a, 0x71000000 | BUDGET << 5 | BUDGET); // subs w26, w26, …
    emit(a, 0x54000000 | 2 << 5 | IF_GE);       // over the jump that follows
}

void host_charge(assembly *a, uint32_t entry, unsigned instructions) {
    uint32_t instruction = 0x71000000 | instructions << 10 | BUDGET << 5 | BUDGET;
    memcpy(a->cache->writable + entry, &instruction, 4);
}

uint32_t host_stub(codecache *c, unsigned kind, unsigned slot, unsigned back, uint32_t resume) {
    bool helps = kind == CALL_ACCESS || kind == CALL_SYSTEM;
    uint32_t where = slot | back << 16 | (kind == CALL_SYSTEM ? HELP_SYSTEM : 0), end = c->cold;
    assembly a;
    c->cold -= kind == CALL_FLOAT ? 24 : helps ? 16 : 12;
    a.cache = c, a.at = c->writable + c->cold;
    if (kind == CALL_FLOAT) {
        branch(&a, 0x94000000, c->enter_float);
        uint8_t *cannot = skip_if(&a, IF_NE);
        branch(&a, 0x14000000, resume);
        land(&a, cannot);
    }
    emit(&a, 0x52800000 | (where & 0xffff) << 5 | X0);
    emit(&a, 0x72a00000 | (where >> 16) << 5 | X0);
    if (helps) branch(&a, 0x94000000, c->help);
    branch(&a, 0x14000000, helps ? resume : c->leave[kind == CALL_FLOAT ? LEAVE_SIDE : kind]);
    host_publish(c, c->cold, end);
    return c->cold;
}

void host_publish(codecache *c, uint32_t from, uint32_t to) {
    char *code = (char *)(uintptr_t)c->executable;
    __builtin___clear_cache(code + from, code + to);
}

// arithmetic

static void upper(assembly *a, const operation *o) {
    int to = target(o->rd, X0);
    move_constant(a, to, o->imm);
    put(a, o->rd, to);
}

static void upper_from_here(assembly *a, const operation *o) {
    int to = target(o->rd, X0);
    page_offset(a, to, (int64_t)a->slot * 2 + o->imm);
    put(a, o->rd, to);
}

static void result(assembly *a, unsigned rd, int from, bool wide) {
    if (!wide) sign_extend(a, from, from);
    put(a, rd, from);
}

static void arithmetic(assembly *a, const operation *o, uint32_t code, bool wide) {
    int to = target(o->rd, X0);
    op(a, code, wide, to, use(a, o->rs1, X0), use(a, o->rs2, X1));
    result(a, o->rd, to, wide);
}

static void arithmetic_constant(assembly *a, const operation *o, uint32_t code, bool wide) {
    int to = target(o->rd, X0), left = use(a, o->rs1, X0);
    if (code != ADD) {
        move_constant(a, X1, o->imm);
        op(a, code, X, to, left, X1);
    } else if (left == ZERO) {
        move_constant(a, to, o->imm);
    } else {
        add_constant(a, to, left, o->imm);
    }
    result(a, o->rd, to, wide);
}

static void shift_variable(assembly *a, const operation *o, uint32_t code, bool wide) {
    arithmetic(a, o, code, wide);
}

static void shift_constant(assembly *a, const operation *o, uint32_t code, bool wide) {
    int to = target(o->rd, X0), from = use(a, o->rs1, X0);
    unsigned n = (unsigned)o->imm, width = wide ? 64 : 32;
    if (code == SHIFT_LEFT)
        bits(a, 0x53000000, wide, to, from, (width - n) % width, width - 1 - n);
    else
        bits(a, code == SHIFT_RIGHT ? 0x53000000 : 0x13000000, wide, to, from, n, width - 1);
    result(a, o->rd, to, wide);
}

static void set_less(assembly *a, const operation *o, unsigned condition) {
    op(a, SUBS, X, ZERO, use(a, o->rs1, X0), use(a, o->rs2, X1));
    set_if(a, condition, o->rd);
}

static void set_less_constant(assembly *a, const operation *o, unsigned condition) {
    move_constant(a, X1, o->imm);
    op(a, SUBS, X, ZERO, use(a, o->rs1, X0), X1);
    set_if(a, condition, o->rd);
}

static void multiply(assembly *a, const operation *o, bool wide) { arithmetic(a, o, MULTIPLY, wide); }

enum { HIGH_SIGNED = 0x1b407c00, HIGH_UNSIGNED = 0x1bc07c00, HIGH_MIXED = 0 };

static void multiply_high(assembly *a, const operation *o, uint32_t code) {
    if (code != HIGH_MIXED) return arithmetic(a, o, code, true);
    int left = use(a, o->rs1, X0), right = use(a, o->rs2, X1);
    bits(a, 0x13000000, X, X2, left, 63, 63);
    op(a, AND, X, X2, X2, right);
    op(a, HIGH_UNSIGNED, X, X3, left, right);
    op(a, SUB, X, X3, X3, X2);
    put(a, o->rd, X3);
}

static void divide(assembly *a, const operation *o, bool is_signed, bool wide, bool remainder) {
    int left = use(a, o->rs1, X0), right = use(a, o->rs2, X1);
    unsigned size = (unsigned)wide << 31;
    op(a, is_signed ? 0x1ac00c00 : 0x1ac00800, wide, X2, left, right); // by 0 it is 0
    if (remainder) {
        emit(a, (uint32_t)MULTIPLY_SUBTRACT | size | (uint32_t)right << 16 | (uint32_t)left << 10 | X2 << 5 |
                    X2);
    } else {
        op(a, SUBS, wide, ZERO, right, ZERO);
        emit(a, 0x5a800000 | size | ZERO << 16 | IF_NE << 12 | X2 << 5 | X2); // csinv: -1 by 0
    }
    result(a, o->rd, X2, wide);
}

// memory

// x0 = where the data are, x1 = the TLB entry; `within` is x0's offset in its page
void probe(assembly *a, unsigned rs1, int32_t offset, unsigned bytes, size_t tag, bool aligned) {
    unsigned kept = aligned ? (bytes == 8 ? 3 : 2) : 0;
    int base = use(a, rs1, X0);
    if (base == ZERO)
        move_constant(a, X0, offset);
    else if (base != X0 || offset)
        add_constant(a, X0, base, offset);
    low_bits(a, X1, X0, PAGE_SHIFT, (unsigned)__builtin_ctz(TLB_ENTRIES));
    emit(a, 0x8b000000 | X1 << 16 | 5 << 10 | TLB << 5 | X1); // x1 = x28 + x1 * 32
    if (!aligned && bytes > 1) add_constant(a, X2, X0, (int64_t)bytes - 1);
    page_of(a, X2, !aligned && bytes > 1 ? X2 : X0, kept);
    emit(a, LOAD_X | (uint32_t)tag / 8 << 10 | X1 << 5 | X3);
    op(a, SUBS, X, ZERO, X2, X3);
    uint8_t *hit = skip_if(a, IF_EQ);
    a->access = a->jump_count;
    jump_always(a, CALL_ACCESS, a->slot);
    land(a, hit);
    emit(a, LOAD_X | offsetof(tlb_entry, addend) / 8 << 10 | X1 << 5 | X3);
    if (aligned) low_bits(a, X2, X0, 0, PAGE_SHIFT);
    op(a, ADD, X, X0, X0, X3);
}

void unscaled(assembly *a, uint32_t code, int reg, int base, int32_t at) {
    if (at > 255) { // in a group
        add_constant(a, X2, base, at);
        base = X2, at = 0;
    }
    run_site(a);
    emit(a, code | ((uint32_t)at & 0x1ff) << 12 | (uint32_t)base << 5 | (uint32_t)reg);
}

static void load_from(assembly *a, unsigned bytes, bool is_signed, int to, int32_t at) {
    uint32_t size = (uint32_t)__builtin_ctz(bytes) << 30;
    unscaled(a, (is_signed && bytes < 8 ? 0x38800000 : 0x38400000) | size, to, X0, at);
}

static void store_to(assembly *a, unsigned bytes, int value, int32_t at) {
    unscaled(a, 0x38000000 | (uint32_t)__builtin_ctz(bytes) << 30, value, X0, at);
}

void host_group(assembly *a, const access_group *g) {
    a->slot = g->members[0].slot;
    probe(a, g->members[0].operation->rs1, g->low, (unsigned)(g->high - g->low),
          g->stores ? offsetof(tlb_entry, write) : offsetof(tlb_entry, read), false);
    a->jumps[a->access].count = (uint16_t)g->count;
    for (unsigned i = 0; i < g->count; i++) {
        const operation *o = g->members[i].operation;
        int32_t at = o->imm - g->low;
        run_step(a, g->members[i].slot, g->members[i].slots);
        if (g->stores) {
            store_to(a, g->members[i].bytes, use(a, o->rs2, X1), at);
        } else {
            int to = target(o->rd, X1);
            load_from(a, g->members[i].bytes, g->members[i].is_signed, to, at);
            put(a, o->rd, to);
        }
        a->done++;
    }
    run_resume(a, a->access);
}

static void atomic_result(assembly *a, unsigned wide, unsigned rd, int from) {
    result(a, rd, from, wide);
    run_resume(a, a->access);
}

static int old_value(assembly *a, const operation *o, bool wide) { // x2; x0 is where; gives where rs2 is
    probe(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, write), true);
    int value = use(a, o->rs2, X1);
    load_from(a, wide ? 8 : 4, false, X2, 0);
    return value;
}

static void new_value(assembly *a, const operation *o, bool wide, int from) {
    emit(a, (wide ? 0xf8000000u : 0xb8000000u) | X0 << 5 | (uint32_t)from);
    atomic_result(a, wide, o->rd, X2);
}

enum { SWAP };

static void atomic(assembly *a, const operation *o, uint32_t code, bool wide) {
    int value = old_value(a, o, wide);
    if (code != SWAP) op(a, code, wide, X3, X2, value);
    new_value(a, o, wide, code == SWAP ? value : X3);
}

static void atomic_choice(assembly *a, const operation *o, unsigned keeps, bool wide) {
    int value = old_value(a, o, wide);
    op(a, SUBS, wide, ZERO, X2, value);
    emit(a, 0x1a800000 | (uint32_t)wide << 31 | (uint32_t)value << 16 | keeps << 12 | X2 << 5 | X3); // csel
    new_value(a, o, wide, X3);
}

static void physical_address(assembly *a) { // x2: of the entry in x1 and the offset in x2
    emit(a, LOAD_X | offsetof(tlb_entry, page) / 8 << 10 | X1 << 5 | X3);
    emit(a, 0xaa000000 | X3 << 16 | PAGE_SHIFT << 10 | X2 << 5 | X2); // x2 |= x3 << 12
}

static void reserve(assembly *a, const operation *o, bool wide) {
    probe(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, read), true);
    physical_address(a);
    load_from(a, wide ? 8 : 4, false, X1, 0);
    field(a, STORE_X, X2, FIELD(s.reservation));
    atomic_result(a, wide, o->rd, X1);
}

static void conditional(assembly *a, const operation *o, bool wide) {
    probe(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, write), true);
    physical_address(a);
    field(a, LOAD_X, X3, FIELD(s.reservation));
    int value = use(a, o->rs2, X1);
    op(a, SUBS, X, ZERO, X2, X3);
    uint8_t *over = skip_if(a, IF_NE);
    store_to(a, wide ? 8 : 4, value, 0);
    land(a, over);
    move_constant(a, X3, -1);
    field(a, STORE_X, X3, FIELD(s.reservation));
    set_if(a, IF_NE, o->rd);
    run_resume(a, a->access);
}

static void load(assembly *a, const operation *o, unsigned bytes, bool is_signed) {
    int to = target(o->rd, X1);
    probe(a, o->rs1, o->imm, bytes, offsetof(tlb_entry, read), false);
    load_from(a, bytes, is_signed, to, 0);
    put(a, o->rd, to);
    run_resume(a, a->access);
}

static void store(assembly *a, const operation *o, unsigned bytes) {
    probe(a, o->rs1, o->imm, bytes, offsetof(tlb_entry, write), false);
    store_to(a, bytes, use(a, o->rs2, X1), 0);
    run_resume(a, a->access);
}

void host_operation(assembly *a, unsigned opcode, const operation *o) {
    switch (opcode) {
#    define INTEGER(name, template, ...)                                                                     \
    case OP_##name:                                                                                          \
        if (o->rd != 32) template(a, o, ##__VA_ARGS__);                                                      \
        break;
#    define MEMORY(name, template, ...)                                                                      \
    case OP_##name:                                                                                          \
        template(a, o, __VA_ARGS__);                                                                         \
        break;
#    define SYSTEM(name)                                                                                     \
    case OP_##name:                                                                                          \
        jump_always(a, CALL_SYSTEM, a->slot);                                                                \
        break;
#    define FLOAT(name, ...)   case OP_##name:
#    define ROUNDED(name, ...) FLOAT(name)
#    include "templates.def"
        float_operation(a, opcode, o);
    }
}

bool host_translates(unsigned opcode) { return has_template(opcode); }

// the ways in and out

static void each_pinned(assembly *a, uint32_t code) {
    for (unsigned g = 0; g < 32; g++)
        if (pinned[g] >= 0) field(a, code, pinned[g], FIELD(s.x) + 8 * g);
}

static void spill(assembly *a) {
    sign_extend(a, X16, BUDGET);
    field(a, STORE_X, X16, FIELD(budget));
    each_pinned(a, STORE_X);
}

static void unspill(assembly *a) {
    each_pinned(a, LOAD_X);
    field(a, LOAD_W, BUDGET, FIELD(budget));
}

static void callee_saved(assembly *a, uint32_t integers, uint32_t floats) { // stp, or ldp
    for (unsigned i = 0; i < 5; i++)                                        // x19, x20, [sp, 16] …
        emit(a, integers | (2 + 2 * i) << 15 | (20 + 2 * i) << 10 | SP << 5 | (19 + 2 * i));
    for (unsigned i = 0; i < 4; i++) // d8, d9, [sp, 96] …
        emit(a, floats | (12 + 2 * i) << 15 | (9 + 2 * i) << 10 | SP << 5 | (8 + 2 * i));
}

// int enter(machine *, code, tlb): x0, x1, x2
static void way_in(assembly *a) {
    emit(a, 0xa9b67bfd); // stp x29, x30, [sp, -160]!
    callee_saved(a, 0xa9000000, 0x6d000000);
    move(a, MACHINE, X0);
    move(a, TLB, X2);
    move(a, X16, X1);
    unspill(a);
    emit(a, 0xd61f0000 | X16 << 5); // br x16
}

static void way_out(assembly *a) { // w1 = why
    move(a, X0, X1);
    callee_saved(a, 0xa9400000, 0x6d400000);
    emit(a, 0xa8ca7bfd); // ldp x29, x30, [sp], 160
    emit(a, 0xd65f03c0);
}

// A subroutine: w0 says where. Goes on, or out.
static void call_help(assembly *a, uint32_t pop) {
    spill(a);
    float_way_out(a);
    move(a, X1, X0);
    move(a, X0, MACHINE);
    emit(a, 0xf81f0ffe); // str x30, [sp, -16]!
    field(a, LOAD_X, X16, FIELD(help));
    emit(a, 0xd63f0000 | X16 << 5);
    emit(a, 0xf84107fe); // ldr x30, [sp], 16
    move(a, X1, X0);
    op(a, SUBS, W, ZERO, X1, ZERO);
    uint8_t *stays = skip_if(a, IF_EQ);
    branch(a, 0x14000000, pop);
    land(a, stays);
    unspill(a);
    field(a, LOAD_W, X0, FIELD(float_again));
    op(a, SUBS, W, ZERO, X0, ZERO);
    uint8_t *without = skip_if(a, IF_EQ);
    branch(a, 0x14000000, a->cache->enter_float);
    land(a, without);
    emit(a, 0xd65f03c0);
}

bool host_start(codecache *c) {
    assembly a;
    a.cache = c, a.at = c->writable;
    // place 0 is where pages say they have no translation: x0 is the offset in the page
    field(&a, LOAD_X, X1, FIELD(page));
    op(&a, ADD, X, X0, X0, X1);
    c->leave_address = place_now(&a);
    move_constant(&a, X1, LEAVE_PLAIN);
    uint32_t out = place_now(&a);
    spill(&a);
    field(&a, STORE_X, X0, FIELD(s.pc));
    float_way_out(&a);
    uint32_t pop = place_now(&a);
    way_out(&a);
    for (unsigned kind = 0; kind < LEAVE_NOW; kind++) { // w0 is slot and what to give back
        c->leave[kind] = place_now(&a);
        low_bits(&a, X2, X0, 16, 16);
        op(&a, ADD, W, BUDGET, BUDGET, X2);
        low_bits(&a, X0, X0, 0, 11);
        field(&a, LOAD_X, X1, FIELD(page));
        emit(&a, 0x8b000000 | X0 << 16 | 1 << 10 | X1 << 5 | X0); // x0 = x1 + x0 * 2
        move_constant(&a, X1, kind);
        branch(&a, 0x14000000, out);
    }
    c->enter = place_now(&a);
    way_in(&a);
    c->enter_float = place_now(&a);
    float_way_in(&a);
    c->float_tiny = place_now(&a);
    float_tiny(&a);
    c->help = place_now(&a);
    call_help(&a, pop);
    c->find_page = place_now(&a);
    find_page(&a);
    c->first = (place_now(&a) + 63) & ~63u;
    host_publish(c, 0, c->first);
    return true;
}

void host_unspill(machine *m, const uint64_t *registers) {
    for (unsigned g = 0; g < 32; g++)
        if (pinned[g] >= 0) m->s.x[g] = registers[pinned[g]];
    m->budget = (int32_t)registers[BUDGET];
    host_unspill_floats(m, registers);
}

#endif
