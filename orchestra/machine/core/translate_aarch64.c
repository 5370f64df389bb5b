/* translate_aarch64.c: the templates for AArch64; floats are interpreted.
 *
 * x27 is the machine, x28 the TLB bank, w26 the budget; nineteen guest registers live in x4 to x15 and x19 to
 * x25, the others in the state. x0 to x3, x16 and x17 are free between instructions.
 */
#include "machine.h"

#ifdef __aarch64__

enum { X0, X1, X2, X3, X16 = 16, X17, BUDGET = 26, MACHINE = 27, TLB = 28, LINK = 30, ZERO = 31, SP = 31 };
enum { IF_EQ, IF_NE, IF_HS, IF_LO, IF_HI = 8, IF_LS, IF_GE, IF_LT, IF_GT, IF_LE };
enum { W = 0, X = 1 }; // 32 or 64 bits
enum { ADD = 0x0b000000, SUB = 0x4b000000, AND = 0x0a000000, OR = 0x2a000000, XOR = 0x4a000000 };
enum { SUBS = 0x6b000000, SHIFT_LEFT = 0x1ac02000, SHIFT_RIGHT = 0x1ac02400, SHIFT_ARITHMETIC = 0x1ac02800 };
enum {
    DIVIDE_UNSIGNED = 0x1ac00800,
    DIVIDE = 0x1ac00c00,
    MULTIPLY = 0x1b007c00,
    MULTIPLY_SUBTRACT = 0x1b008000
};
enum { HIGH_SIGNED = 0x1b407c00, HIGH_UNSIGNED = 0x1bc07c00 };
enum { LOAD_X = 0xf9400000, STORE_X = 0xf9000000, LOAD_W = 0xb9400000, STORE_W = 0xb9000000 };

static const int8_t pinned[33] = {-1, 4,  5,  -1, -1, 6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 19, 20,
                                  21, 22, 23, 24, 25, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

#    define FIELD(name) ((unsigned)offsetof(machine, name))

// instructions

static void emit(assembly *a, uint32_t instruction) {
    memcpy(a->at, &instruction, 4);
    a->at += 4;
}

static uint32_t place_now(const assembly *a) { return (uint32_t)(a->at - a->cache->writable); }

static void op(assembly *a, uint32_t code, unsigned wide, int to, int left, int right) {
    emit(a, code | wide << 31 | (uint32_t)right << 16 | (uint32_t)left << 5 | (uint32_t)to);
}

static void move(assembly *a, int to, int from) {
    if (to != from) op(a, OR, X, to, ZERO, from);
}

static void move_constant(assembly *a, int to, int64_t value) {
    bool negative = value < 0, first = true;
    uint64_t bits = (uint64_t)value, rest = negative ? 0xffff : 0;
    for (unsigned part = 0; part < 4; part++) {
        uint64_t half = bits >> (16 * part) & 0xffff;
        if (half == rest && (part || (bits >> 16) != (negative ? ~0ull >> 16 : 0))) continue;
        uint32_t base = !first ? 0xf2800000 : negative ? 0x92800000 : 0xd2800000; // movk, movn, movz
        if (first && negative) half = ~half & 0xffff;
        emit(a, base | part << 21 | (uint32_t)half << 5 | (uint32_t)to);
        first = false;
    }
}

static void add_constant(assembly *a, int to, int from, int64_t value) { // clobbers x3 when it is far
    uint64_t size = value < 0 ? (uint64_t)-value : (uint64_t)value;
    if (size < 4096) {
        emit(a, (value < 0 ? 0xd1000000u : 0x91000000u) | (uint32_t)size << 10 | (uint32_t)from << 5 |
                    (uint32_t)to);
    } else {
        move_constant(a, X3, value);
        op(a, ADD, X, to, from, X3);
    }
}

static void field(assembly *a, uint32_t code, int reg, unsigned offset) {
    emit(a, code | offset / (code >> 30 == 3 ? 8 : 4) << 10 | MACHINE << 5 | (uint32_t)reg);
}

static void bits(assembly *a, uint32_t code, unsigned wide, int to, int from, unsigned r, unsigned s) {
    emit(a, code | wide << 31 | wide << 22 | r << 16 | s << 10 | (uint32_t)from << 5 | (uint32_t)to);
}

static void sign_extend(assembly *a, int to, int from) { bits(a, 0x13000000, X, to, from, 0, 31); }

static void low_bits(assembly *a, int to, int from, unsigned first, unsigned count) {
    bits(a, 0x53000000, X, to, from, first, first + count - 1);
}

static void page_of(assembly *a, int to, int from,
                    unsigned kept) { // the address of its page, and `kept` low bits
    emit(a, 0x92400000 | 52 << 16 | (51 + kept) << 10 | (uint32_t)from << 5 | (uint32_t)to);
}

// guest registers

static int use(assembly *a, unsigned g, int scratch) {
    if (g == 0) return ZERO;
    if (pinned[g] >= 0) return pinned[g];
    field(a, LOAD_X, scratch, FIELD(s.x) + 8 * g);
    return scratch;
}

static int target(unsigned g, int scratch) { return pinned[g] >= 0 ? pinned[g] : scratch; }

static void put(assembly *a, unsigned g, int from) {
    if (pinned[g] >= 0)
        move(a, pinned[g], from);
    else if (g < 32)
        field(a, STORE_X, from, FIELD(s.x) + 8 * g);
}

// jumps

static void branch(assembly *a, uint32_t code, uint32_t to) { // b 14000000, bl 94000000
    int32_t distance = (int32_t)(to - place_now(a)) / 4;
    emit(a, code | ((uint32_t)distance & 0x3ffffff));
}

static uint8_t *skip_if(assembly *a, unsigned condition) {
    uint8_t *from = a->at;
    emit(a, 0x54000000 | condition);
    return from;
}

static void land(assembly *a, uint8_t *from) {
    uint32_t instruction;
    memcpy(&instruction, from, 4);
    instruction |= (uint32_t)((a->at - from) / 4) << 5;
    memcpy(from, &instruction, 4);
}

static void jump_always(assembly *a, unsigned kind, unsigned slot) {
    run_jump_to(a, kind, slot);
    a->at += 4; // host_aim writes the instruction
}

static void jump_if(assembly *a, unsigned condition, unsigned kind, unsigned slot) {
    uint8_t *over = skip_if(a, condition ^ 1);
    jump_always(a, kind, slot);
    land(a, over);
}

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

void host_branch(assembly *a, unsigned opcode, const operation *o, bool far) {
    unsigned condition = opcode == OP_beq    ? IF_EQ
                         : opcode == OP_bne  ? IF_NE
                         : opcode == OP_blt  ? IF_LT
                         : opcode == OP_bge  ? IF_GE
                         : opcode == OP_bltu ? IF_LO
                                             : IF_HS;
    op(a, SUBS, X, ZERO, use(a, o->rs1, X0), use(a, o->rs2, X1));
    if (!far) {
        jump_if(a, condition, LEAVE_PLAIN, (unsigned)((int)a->slot + o->imm / 16));
        return;
    }
    uint8_t *over = skip_if(a, condition ^ 1);
    host_jump_far(a, (int64_t)a->slot * 2 + o->imm);
    land(a, over);
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
    c->cold -= helps ? 16 : 12;
    a.cache = c, a.at = c->writable + c->cold;
    emit(&a, 0x52800000 | (where & 0xffff) << 5 | X0);
    emit(&a, 0x72a00000 | (where >> 16) << 5 | X0);
    if (helps) branch(&a, 0x94000000, c->help);
    branch(&a, 0x14000000, helps ? resume : c->leave[kind]);
    host_publish(c, c->cold, end);
    return c->cold;
}

void host_publish(codecache *c, uint32_t from, uint32_t to) {
    char *code = (char *)(uintptr_t)c->executable;
    __builtin___clear_cache(code + from, code + to);
}

// arithmetic

static void arithmetic(assembly *a, uint32_t code, unsigned wide, const operation *o) {
    int to = target(o->rd, X0);
    op(a, code, wide, to, use(a, o->rs1, X0), use(a, o->rs2, X1));
    if (!wide) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void add_immediate(assembly *a, unsigned wide, const operation *o) {
    int to = target(o->rd, X0), left = use(a, o->rs1, X0);
    if (left == ZERO)
        move_constant(a, to, o->imm);
    else
        add_constant(a, to, left, o->imm);
    if (!wide) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void logical_immediate(assembly *a, uint32_t code, const operation *o) {
    int to = target(o->rd, X0);
    move_constant(a, X1, o->imm);
    op(a, code, X, to, use(a, o->rs1, X0), X1);
    put(a, o->rd, to);
}

static void shift_immediate(assembly *a, unsigned opcode, const operation *o) {
    int to = target(o->rd, X0), from = use(a, o->rs1, X0);
    unsigned n = (unsigned)o->imm;
    switch (opcode) {
    case OP_slli: bits(a, 0x53000000, X, to, from, (64 - n) % 64, 63 - n); break;
    case OP_srli: bits(a, 0x53000000, X, to, from, n, 63); break;
    case OP_srai: bits(a, 0x13000000, X, to, from, n, 63); break;
    case OP_slliw: bits(a, 0x53000000, W, to, from, (32 - n) % 32, 31 - n); break;
    case OP_srliw: bits(a, 0x53000000, W, to, from, n, 31); break;
    default: bits(a, 0x13000000, W, to, from, n, 31);
    }
    if (opcode == OP_slliw || opcode == OP_srliw || opcode == OP_sraiw) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void set_if(assembly *a, unsigned condition, unsigned rd) { // cset
    int to = target(rd, X0);
    emit(a, 0x9a9f07e0 | (condition ^ 1) << 12 | (uint32_t)to);
    put(a, rd, to);
}

static void set_less(assembly *a, unsigned condition, bool constant, const operation *o) {
    if (constant) move_constant(a, X1, o->imm);
    op(a, SUBS, X, ZERO, use(a, o->rs1, X0), constant ? X1 : use(a, o->rs2, X1));
    set_if(a, condition, o->rd);
}

static void multiply_mixed(assembly *a, const operation *o) {
    int left = use(a, o->rs1, X0), right = use(a, o->rs2, X1);
    bits(a, 0x13000000, X, X2, left, 63, 63);
    op(a, AND, X, X2, X2, right);
    op(a, HIGH_UNSIGNED, X, X3, left, right);
    op(a, SUB, X, X3, X3, X2);
    put(a, o->rd, X3);
}

static void divide(assembly *a, uint32_t code, unsigned wide, bool remainder, const operation *o) {
    int left = use(a, o->rs1, X0), right = use(a, o->rs2, X1);
    op(a, code, wide, X2, left, right); // by 0 it is 0
    if (remainder) {
        emit(a, (uint32_t)MULTIPLY_SUBTRACT | wide << 31 | (uint32_t)right << 16 | (uint32_t)left << 10 |
                    X2 << 5 | X2);
    } else {
        op(a, SUBS, wide, ZERO, right, ZERO);
        emit(a, 0x5a800000 | wide << 31 | ZERO << 16 | IF_NE << 12 | X2 << 5 | X2); // csinv: -1 by 0
    }
    if (!wide) sign_extend(a, X2, X2);
    put(a, o->rd, X2);
}

// memory

// x0 = where the data are, x1 = the TLB entry; `within` is x0's offset in its page
static void probe(assembly *a, unsigned rs1, int32_t offset, unsigned bytes, size_t tag, bool aligned) {
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

static void unscaled(assembly *a, uint32_t code, int reg, int base, int32_t at) {
    if (at > 255) { // in a group
        add_constant(a, X2, base, at);
        base = X2, at = 0;
    }
    run_site(a);
    emit(a, code | ((uint32_t)at & 0x1ff) << 12 | (uint32_t)base << 5 | (uint32_t)reg);
}

static void load_from(assembly *a, unsigned opcode, int to, int32_t at) {
    uint32_t code = opcode == OP_lb    ? 0x38800000
                    : opcode == OP_lbu ? 0x38400000
                    : opcode == OP_lh  ? 0x78800000
                    : opcode == OP_lhu ? 0x78400000
                    : opcode == OP_lw  ? 0xb8800000
                    : opcode == OP_lwu ? 0xb8400000
                                       : 0xf8400000;
    unscaled(a, code, to, X0, at);
}

static void store_to(assembly *a, unsigned bytes, int value, int base, int32_t at) {
    uint32_t code = bytes == 1 ? 0x38000000 : bytes == 2 ? 0x78000000 : bytes == 4 ? 0xb8000000 : 0xf8000000;
    unscaled(a, code, value, base, at);
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
            store_to(a, g->members[i].bytes, use(a, o->rs2, X1), X0, at);
        } else {
            int to = target(o->rd, X1);
            load_from(a, g->members[i].opcode, to, at);
            put(a, o->rd, to);
        }
        a->done++;
    }
    run_resume(a, a->access);
}

static void atomic_result(assembly *a, unsigned wide, unsigned rd, int from) {
    if (!wide) sign_extend(a, from, from);
    put(a, rd, from);
    run_resume(a, a->access);
}

static void atomic(assembly *a, unsigned opcode, const operation *o) {
    unsigned wide = opcode >= OP_lr_d;
    probe(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, write), true);
    int value = use(a, o->rs2, X1), stored = X3;
    unscaled(a, wide ? 0xf8400000 : 0xb8400000, X2, X0, 0);
    unsigned keeps = 16;
    switch (opcode) {
    case OP_amoadd_w:
    case OP_amoadd_d: op(a, ADD, wide, X3, X2, value); break;
    case OP_amoxor_w:
    case OP_amoxor_d: op(a, XOR, wide, X3, X2, value); break;
    case OP_amoand_w:
    case OP_amoand_d: op(a, AND, wide, X3, X2, value); break;
    case OP_amoor_w:
    case OP_amoor_d: op(a, OR, wide, X3, X2, value); break;
    case OP_amomin_w:
    case OP_amomin_d: keeps = IF_LT; break;
    case OP_amomax_w:
    case OP_amomax_d: keeps = IF_GT; break;
    case OP_amominu_w:
    case OP_amominu_d: keeps = IF_LO; break;
    case OP_amomaxu_w:
    case OP_amomaxu_d: keeps = IF_HI; break;
    default: stored = value; // swap
    }
    if (keeps != 16) {
        op(a, SUBS, wide, ZERO, X2, value);
        emit(a, 0x1a800000 | wide << 31 | (uint32_t)value << 16 | keeps << 12 | X2 << 5 | X3); // csel
    }
    emit(a, (wide ? 0xf8000000u : 0xb8000000u) | X0 << 5 | (uint32_t)stored);
    atomic_result(a, wide, o->rd, X2);
}

static void physical_address(assembly *a) { // x2: of the entry in x1 and the offset in x2
    emit(a, LOAD_X | offsetof(tlb_entry, page) / 8 << 10 | X1 << 5 | X3);
    emit(a, 0xaa000000 | X3 << 16 | PAGE_SHIFT << 10 | X2 << 5 | X2); // x2 |= x3 << 12
}

static void reserve(assembly *a, unsigned wide, const operation *o) {
    probe(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, read), true);
    physical_address(a);
    unscaled(a, wide ? 0xf8400000 : 0xb8400000, X1, X0, 0);
    field(a, STORE_X, X2, FIELD(s.reservation));
    atomic_result(a, wide, o->rd, X1);
}

static void conditional(assembly *a, unsigned wide, const operation *o) {
    probe(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, write), true);
    physical_address(a);
    field(a, LOAD_X, X3, FIELD(s.reservation));
    int value = use(a, o->rs2, X1);
    op(a, SUBS, X, ZERO, X2, X3);
    uint8_t *over = skip_if(a, IF_NE);
    store_to(a, wide ? 8 : 4, value, X0, 0);
    land(a, over);
    move_constant(a, X3, -1);
    field(a, STORE_X, X3, FIELD(s.reservation));
    set_if(a, IF_NE, o->rd);
    run_resume(a, a->access);
}

static void load(assembly *a, unsigned opcode, unsigned bytes, const operation *o) {
    int to = target(o->rd, X1);
    probe(a, o->rs1, o->imm, bytes, offsetof(tlb_entry, read), false);
    load_from(a, opcode, to, 0);
    put(a, o->rd, to);
    run_resume(a, a->access);
}

static void store(assembly *a, unsigned bytes, const operation *o) {
    probe(a, o->rs1, o->imm, bytes, offsetof(tlb_entry, write), false);
    store_to(a, bytes, use(a, o->rs2, X1), X0, 0);
    run_resume(a, a->access);
}

// the table

static bool memory_operation(assembly *a, unsigned opcode, const operation *o) {
    switch (opcode) {
    case OP_lb:
    case OP_lbu: load(a, opcode, 1, o); return true;
    case OP_lh:
    case OP_lhu: load(a, opcode, 2, o); return true;
    case OP_lw:
    case OP_lwu: load(a, opcode, 4, o); return true;
    case OP_ld: load(a, opcode, 8, o); return true;
    case OP_sb: store(a, 1, o); return true;
    case OP_sh: store(a, 2, o); return true;
    case OP_sw: store(a, 4, o); return true;
    case OP_sd: store(a, 8, o); return true;
    case OP_lr_w: reserve(a, W, o); return true;
    case OP_lr_d: reserve(a, X, o); return true;
    case OP_sc_w: conditional(a, W, o); return true;
    case OP_sc_d: conditional(a, X, o); return true;
    }
    if (opcode < OP_lr_w || opcode > OP_amomaxu_d) return false;
    atomic(a, opcode, o);
    return true;
}

static bool arithmetic_operation(assembly *a, unsigned opcode, const operation *o) {
    switch (opcode) {
    case OP_add: arithmetic(a, ADD, X, o); return true;
    case OP_sub: arithmetic(a, SUB, X, o); return true;
    case OP_xor: arithmetic(a, XOR, X, o); return true;
    case OP_or: arithmetic(a, OR, X, o); return true;
    case OP_and: arithmetic(a, AND, X, o); return true;
    case OP_sll: arithmetic(a, SHIFT_LEFT, X, o); return true;
    case OP_srl: arithmetic(a, SHIFT_RIGHT, X, o); return true;
    case OP_sra: arithmetic(a, SHIFT_ARITHMETIC, X, o); return true;
    case OP_addw: arithmetic(a, ADD, W, o); return true;
    case OP_subw: arithmetic(a, SUB, W, o); return true;
    case OP_sllw: arithmetic(a, SHIFT_LEFT, W, o); return true;
    case OP_srlw: arithmetic(a, SHIFT_RIGHT, W, o); return true;
    case OP_sraw: arithmetic(a, SHIFT_ARITHMETIC, W, o); return true;
    case OP_mul: arithmetic(a, MULTIPLY, X, o); return true;
    case OP_mulw: arithmetic(a, MULTIPLY, W, o); return true;
    case OP_mulh: arithmetic(a, HIGH_SIGNED, X, o); return true;
    case OP_mulhu: arithmetic(a, HIGH_UNSIGNED, X, o); return true;
    case OP_mulhsu: multiply_mixed(a, o); return true;
    case OP_div: divide(a, DIVIDE, X, false, o); return true;
    case OP_divu: divide(a, DIVIDE_UNSIGNED, X, false, o); return true;
    case OP_rem: divide(a, DIVIDE, X, true, o); return true;
    case OP_remu: divide(a, DIVIDE_UNSIGNED, X, true, o); return true;
    case OP_divw: divide(a, DIVIDE, W, false, o); return true;
    case OP_divuw: divide(a, DIVIDE_UNSIGNED, W, false, o); return true;
    case OP_remw: divide(a, DIVIDE, W, true, o); return true;
    case OP_remuw: divide(a, DIVIDE_UNSIGNED, W, true, o); return true;
    case OP_slt: set_less(a, IF_LT, false, o); return true;
    case OP_sltu: set_less(a, IF_LO, false, o); return true;
    }
    return false;
}

void host_operation(assembly *a, unsigned opcode, const operation *o) {
    if (instructions[opcode].ends_block) {
        jump_always(a, CALL_SYSTEM, a->slot);
        return;
    }
    if (memory_operation(a, opcode, o) || o->rd == 32 || arithmetic_operation(a, opcode, o)) return;
    int to = target(o->rd, X0);
    switch (opcode) {
    case OP_lui:
        move_constant(a, to, o->imm);
        put(a, o->rd, to);
        break;
    case OP_auipc:
        page_offset(a, to, (int64_t)a->slot * 2 + o->imm);
        put(a, o->rd, to);
        break;
    case OP_addi: add_immediate(a, X, o); break;
    case OP_addiw: add_immediate(a, W, o); break;
    case OP_xori: logical_immediate(a, XOR, o); break;
    case OP_ori: logical_immediate(a, OR, o); break;
    case OP_andi: logical_immediate(a, AND, o); break;
    case OP_slti: set_less(a, IF_LT, true, o); break;
    case OP_sltiu: set_less(a, IF_LO, true, o); break;
    case OP_slli:
    case OP_srli:
    case OP_srai:
    case OP_slliw:
    case OP_srliw:
    case OP_sraiw: shift_immediate(a, opcode, o); break;
    }
}

bool host_translates(unsigned opcode) { return translates_integers(opcode); }

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

// int enter(machine *, code, tlb): x0, x1, x2
static void way_in(assembly *a) {
    emit(a, 0xa9ba7bfd);             // stp x29, x30, [sp, -96]!
    for (unsigned i = 0; i < 5; i++) // stp x19, x20, [sp, 16] …
        emit(a, 0xa9000000 | (2 + 2 * i) << 15 | (20 + 2 * i) << 10 | SP << 5 | (19 + 2 * i));
    move(a, MACHINE, X0);
    move(a, TLB, X2);
    move(a, X16, X1);
    unspill(a);
    emit(a, 0xd61f0000 | X16 << 5); // br x16
}

static void way_out(assembly *a) { // w1 = why
    move(a, X0, X1);
    for (unsigned i = 0; i < 5; i++)
        emit(a, 0xa9400000 | (2 + 2 * i) << 15 | (20 + 2 * i) << 10 | SP << 5 | (19 + 2 * i));
    emit(a, 0xa8c67bfd); // ldp x29, x30, [sp], 96
    emit(a, 0xd65f03c0);
}

// A subroutine: w0 says where. Goes on, or out.
static void call_help(assembly *a, uint32_t pop) {
    spill(a);
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
}

void host_gather_flags(machine *m, uint32_t status) { (void)status, m->float_ready = false; }

#endif
