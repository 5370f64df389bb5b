/* translate_aarch64.c: jumps, blocks, and the ways into and out of translated code for AArch64. */
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

void page_offset(assembly *a, int to, int64_t offset) {
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
    field(a, LOAD_X, TLB, FIELD(bank));
}

static void callee_saved(assembly *a, uint32_t integers, uint32_t floats) { // stp, or ldp
    for (unsigned i = 0; i < 5; i++)                                        // x19, x20, [sp, 16] …
        emit(a, integers | (2 + 2 * i) << 15 | (20 + 2 * i) << 10 | SP << 5 | (19 + 2 * i));
    for (unsigned i = 0; i < 4; i++) // d8, d9, [sp, 96] …
        emit(a, floats | (12 + 2 * i) << 15 | (9 + 2 * i) << 10 | SP << 5 | (8 + 2 * i));
}

// int enter(machine *, code): x0, x1
static void way_in(assembly *a) {
    emit(a, 0xa9b67bfd); // stp x29, x30, [sp, -160]!
    callee_saved(a, 0xa9000000, 0x6d000000);
    move(a, MACHINE, X0);
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
    move_constant(a, X2, HELP_JUMPS);
    op(a, SUBS, W, ZERO, X1, X2);
    uint8_t *jumps = skip_if(a, IF_EQ);
    branch(a, 0x14000000, pop);
    land(a, jumps);
    unspill(a);
    field(a, LOAD_X, X0, FIELD(s.pc));
    jump_to_x0(a);
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
    c->find_page = place_now(&a);
    find_page(&a);
    c->help = place_now(&a);
    call_help(&a, pop);
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
