/* translate_aarch64.h: AArch64 instructions as words, and where the guest's registers are.
 *
 * x27 is the machine, x28 the TLB bank, w26 the budget; nineteen guest registers live in x4 to x15 and x19 to
 * x25, the others in the state. x0 to x3, x16 and x17 are free between instructions.
 */
#ifndef ORCHESTRA_TRANSLATE_AARCH64_H
#define ORCHESTRA_TRANSLATE_AARCH64_H

#include "machine.h"

enum { X0, X1, X2, X3, X16 = 16, X17, BUDGET = 26, MACHINE = 27, TLB = 28, LINK = 30, ZERO = 31, SP = 31 };
enum { IF_EQ, IF_NE, IF_HS, IF_LO, IF_MI, IF_VS = 6, IF_HI = 8, IF_LS, IF_GE, IF_LT, IF_GT, IF_LE };
enum { W = 0, X = 1 }; // 32 or 64 bits
enum { ADD = 0x0b000000, SUB = 0x4b000000, AND = 0x0a000000, OR = 0x2a000000, XOR = 0x4a000000 };
enum { SUBS = 0x6b000000, MULTIPLY = 0x1b007c00, MULTIPLY_SUBTRACT = 0x1b008000 };
enum { SHIFT_LEFT = 0x1ac02000, SHIFT_RIGHT = 0x1ac02400, SHIFT_ARITHMETIC = 0x1ac02800 };
enum { LOAD_X = 0xf9400000, STORE_X = 0xf9000000, LOAD_W = 0xb9400000, STORE_W = 0xb9000000 };

static const int8_t pinned[33] = {-1, 4,  5,  -1, -1, 6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 19, 20,
                                  21, 22, 23, 24, 25, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};

#define FIELD(name) ((unsigned)offsetof(machine, name))

// instructions

static inline void emit(assembly *a, uint32_t instruction) {
    memcpy(a->at, &instruction, 4);
    a->at += 4;
}

static inline uint32_t place_now(const assembly *a) { return (uint32_t)(a->at - a->cache->writable); }

static inline void op(assembly *a, uint32_t code, unsigned wide, int to, int left, int right) {
    emit(a, code | wide << 31 | (uint32_t)right << 16 | (uint32_t)left << 5 | (uint32_t)to);
}

static inline void move(assembly *a, int to, int from) {
    if (to != from) op(a, OR, X, to, ZERO, from);
}

static inline void move_constant(assembly *a, int to, int64_t value) {
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

static inline void add_constant(assembly *a, int to, int from, int64_t value) { // clobbers x3 when it is far
    uint64_t size = value < 0 ? (uint64_t)-value : (uint64_t)value;
    if (size < 4096) {
        emit(a, (value < 0 ? 0xd1000000u : 0x91000000u) | (uint32_t)size << 10 | (uint32_t)from << 5 |
                    (uint32_t)to);
    } else {
        move_constant(a, X3, value);
        op(a, ADD, X, to, from, X3);
    }
}

static inline void field(assembly *a, uint32_t code, int reg, unsigned offset) {
    emit(a, code | offset / (code >> 30 == 3 ? 8 : 4) << 10 | MACHINE << 5 | (uint32_t)reg);
}

static inline void bits(assembly *a, uint32_t code, unsigned wide, int to, int from, unsigned r, unsigned s) {
    emit(a, code | wide << 31 | wide << 22 | r << 16 | s << 10 | (uint32_t)from << 5 | (uint32_t)to);
}

static inline void sign_extend(assembly *a, int to, int from) { bits(a, 0x13000000, X, to, from, 0, 31); }

static inline void low_bits(assembly *a, int to, int from, unsigned first, unsigned count) {
    bits(a, 0x53000000, X, to, from, first, first + count - 1);
}

static inline void page_of(assembly *a, int to, int from,
                           unsigned kept) { // the address of its page, and `kept` low bits
    emit(a, 0x92400000 | 52 << 16 | (51 + kept) << 10 | (uint32_t)from << 5 | (uint32_t)to);
}

// guest registers

static inline int use(assembly *a, unsigned g, int scratch) {
    if (g == 0) return ZERO;
    if (pinned[g] >= 0) return pinned[g];
    field(a, LOAD_X, scratch, FIELD(s.x) + 8 * g);
    return scratch;
}

static inline int target(unsigned g, int scratch) { return pinned[g] >= 0 ? pinned[g] : scratch; }

static inline void put(assembly *a, unsigned g, int from) {
    if (pinned[g] >= 0)
        move(a, pinned[g], from);
    else if (g < 32)
        field(a, STORE_X, from, FIELD(s.x) + 8 * g);
}

// jumps

static inline void branch(assembly *a, uint32_t code, uint32_t to) { // b 14000000, bl 94000000
    int32_t distance = (int32_t)(to - place_now(a)) / 4;
    emit(a, code | ((uint32_t)distance & 0x3ffffff));
}

static inline uint8_t *skip_if(assembly *a, unsigned condition) {
    uint8_t *from = a->at;
    emit(a, 0x54000000 | condition);
    return from;
}

static inline void land(assembly *a, uint8_t *from) {
    uint32_t instruction;
    memcpy(&instruction, from, 4);
    instruction |= (uint32_t)((a->at - from) / 4) << 5;
    memcpy(from, &instruction, 4);
}

static inline void jump_always(assembly *a, unsigned kind, unsigned slot) {
    run_jump_to(a, kind, slot);
    a->at += 4; // host_aim writes the instruction
}

static inline void jump_if(assembly *a, unsigned condition, unsigned kind, unsigned slot) {
    uint8_t *over = skip_if(a, condition ^ 1);
    jump_always(a, kind, slot);
    land(a, over);
}

static inline void result(assembly *a, unsigned rd, int from, bool wide) {
    if (!wide) sign_extend(a, from, from);
    put(a, rd, from);
}

static inline void set_if(assembly *a, unsigned condition, unsigned rd) {
    int to = target(rd, X0);
    emit(a, 0x9a9f07e0 | (condition ^ 1) << 12 | (uint32_t)to);
    put(a, rd, to);
}

// translate_aarch64.c

void page_offset(assembly *a, int to, int64_t offset); // the page's virtual address + offset

// translate_aarch64_memory.c

void memory_operation(assembly *a, unsigned opcode, const operation *o);
void probe(assembly *a, unsigned rs1, int32_t offset, unsigned bytes, size_t tag,
           bool aligned); // x0 is where
void unscaled(assembly *a, uint32_t code, int reg, int base, int32_t at);

// translate_aarch64_float.c

void float_operation(assembly *a, unsigned opcode, const operation *o);
void float_way_in(assembly *a);
void float_way_out(assembly *a);
void float_tiny(assembly *a);
void host_unspill_floats(machine *m, const uint64_t *registers);

#endif
