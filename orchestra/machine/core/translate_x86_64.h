/* translate_x86_64.h: x86-64 instructions as bytes, and where the guest's registers are.
 *
 * rbp is the machine (plus 128, so that x0 to x31 are a byte away), rsi the TLB bank, edi the budget; nine
 * guest registers live in host registers, the others in the state. rax, rcx, rdx are free between
 * instructions.
 */
#ifndef ORCHESTRA_TRANSLATE_X86_64_H
#define ORCHESTRA_TRANSLATE_X86_64_H

#include "machine.h"

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum { MACHINE = RBP, TLB = RSI, BUDGET = RDI, BIAS = 128 };
enum {
    IF_O,
    IF_NO,
    IF_LO,
    IF_HS,
    IF_EQ,
    IF_NE,
    IF_LS,
    IF_HI,
    IF_S,
    IF_NS,
    IF_P,
    IF_NP,
    IF_LT,
    IF_GE,
    IF_LE,
    IF_GT
};
enum {
    ADD = 0x03,
    OR = 0x0b,
    AND = 0x23,
    SUB = 0x2b,
    XOR = 0x33,
    CMP = 0x3b
}; // register, register or memory
enum { SHIFT_LEFT = 4, SHIFT_RIGHT = 5, SHIFT_ARITHMETIC = 7 };

static const int8_t pinned[33] = {-1, -1, RBX, -1, -1, -1, -1, -1, R12, R13, R8, R9, R10, R11, R14, R15, -1,
                                  -1, -1, -1,  -1, -1, -1, -1, -1, -1,  -1,  -1, -1, -1,  -1,  -1,  -1};
static const uint8_t pinned_registers[] = {2, 8, 9, 10, 11, 12, 13, 14, 15};

#define FIELD(name) ((int32_t)offsetof(machine, name) - BIAS)

// float registers: thirteen of the guest's live in xmm3 to xmm15, once a run has shown that it computes with
// them; xmm1 then has the upper half of a boxed single, xmm0 and xmm2 are free

static const int8_t pinned_floats[32] = {13, 14, 15, -1, -1, -1, -1, -1, 11, 12, 3,  4,  5,  6,  7,  8,
                                         9,  10, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
enum { XMM0, XMM_BOX, XMM2 };

// bytes

static inline void byte(assembly *a, unsigned value) { *a->at++ = (uint8_t)value; }

static inline void word(assembly *a, uint32_t value) {
    memcpy(a->at, &value, 4);
    a->at += 4;
}

static inline void rex(assembly *a, bool wide, int reg, int index, int base) {
    unsigned value = 0x40 | (unsigned)wide << 3 | (reg & 8) >> 1 | (index & 8) >> 2 | (base & 8) >> 3;
    if (value != 0x40) byte(a, value);
}

static inline void modrm(assembly *a, unsigned mode, int reg, int rm) {
    byte(a, mode << 6 | (unsigned)(reg & 7) << 3 | (unsigned)(rm & 7));
}

static inline void at_displacement(assembly *a, int reg, int base, int32_t displacement) {
    bool zero = !displacement && (base & 7) != RBP, small = displacement == (int8_t)displacement;
    modrm(a, zero ? 0 : small ? 1 : 2, reg, base);
    if ((base & 7) == RSP) byte(a, 0x24);
    if (zero) return;
    if (small)
        byte(a, (unsigned)displacement);
    else
        word(a, (uint32_t)displacement);
}

// op reg, rm with rm a register
static inline void op_rr(assembly *a, unsigned op, bool wide, int reg, int rm) {
    rex(a, wide, reg, 0, rm);
    byte(a, op);
    modrm(a, 3, reg, rm);
}

// op reg, [base + displacement]
static inline void op_rm(assembly *a, unsigned op, bool wide, int reg, int base, int32_t displacement) {
    rex(a, wide, reg, 0, base);
    byte(a, op);
    at_displacement(a, reg, base, displacement);
}

// op reg, [base + index]
static inline void op_indexed(assembly *a, unsigned op, int reg, int base, int index, int displacement) {
    bool small = displacement || (base & 7) == RBP;
    rex(a, true, reg, index, base);
    byte(a, op);
    modrm(a, small ? 1 : 0, reg, RSP);
    modrm(a, 0, index, base);
    if (small) byte(a, (unsigned)displacement);
}

static inline void two_rr(assembly *a, unsigned op, bool wide, int reg, int rm) { // 0f op
    rex(a, wide, reg, 0, rm);
    byte(a, 0x0f);
    byte(a, op);
    modrm(a, 3, reg, rm);
}

static inline void two_rm(assembly *a, unsigned op, bool wide, int reg, int base, int32_t displacement) {
    rex(a, wide, reg, 0, base);
    byte(a, 0x0f);
    byte(a, op);
    at_displacement(a, reg, base, displacement);
}

// add, or, and, sub, xor, cmp with a constant
static inline void op_ri(assembly *a, unsigned op, bool wide, int rm, int32_t value) {
    bool small = value == (int8_t)value;
    rex(a, wide, 0, 0, rm);
    byte(a, small ? 0x83 : 0x81);
    modrm(a, 3, (int)(op >> 3), rm);
    if (small)
        byte(a, (unsigned)value);
    else
        word(a, (uint32_t)value);
}

static inline void op_mi(assembly *a, unsigned op, int32_t displacement, int32_t value) {
    bool small = value == (int8_t)value;
    rex(a, true, 0, 0, MACHINE);
    byte(a, small ? 0x83 : 0x81);
    at_displacement(a, (int)(op >> 3), MACHINE, displacement);
    if (small)
        byte(a, (unsigned)value);
    else
        word(a, (uint32_t)value);
}

static inline void move(assembly *a, int to, int from) {
    if (to != from) op_rr(a, 0x8b, true, to, from);
}

static inline void move_constant(assembly *a, int to, int64_t value) {
    if (value == 0) {
        op_rr(a, XOR, false, to, to);
    } else if (value == (int64_t)(uint32_t)value) {
        rex(a, false, 0, 0, to);
        byte(a, 0xb8 | (unsigned)(to & 7));
        word(a, (uint32_t)value);
    } else if (value == (int32_t)value) {
        rex(a, true, 0, 0, to);
        byte(a, 0xc7);
        modrm(a, 3, 0, to);
        word(a, (uint32_t)value);
    } else {
        rex(a, true, 0, 0, to);
        byte(a, 0xb8 | (unsigned)(to & 7));
        word(a, (uint32_t)value);
        word(a, (uint32_t)(value >> 32));
    }
}

static inline void shift(assembly *a, unsigned kind, bool wide, int rm, unsigned amount) {
    if (!amount) return;
    rex(a, wide, 0, 0, rm);
    byte(a, 0xc1);
    modrm(a, 3, (int)kind, rm);
    byte(a, amount);
}

static inline void sign_extend(assembly *a, int to, int from) { op_rr(a, 0x63, true, to, from); }

// guest registers

static inline int32_t place_of(unsigned g) { return (int32_t)(8 * g) - BIAS; }

static inline void get(assembly *a, int host, unsigned g) {
    if (g == 0)
        op_rr(a, XOR, false, host, host);
    else if (pinned[g] >= 0)
        move(a, host, pinned[g]);
    else
        op_rm(a, 0x8b, true, host, MACHINE, place_of(g));
}

static inline void put(assembly *a, unsigned g, int host) {
    if (pinned[g] >= 0)
        move(a, pinned[g], host);
    else if (g < 32)
        op_rm(a, 0x89, true, host, MACHINE, place_of(g));
}

static inline int use(assembly *a, unsigned g, int scratch) { // where it is, or where it was brought
    if (g && pinned[g] >= 0) return pinned[g];
    get(a, scratch, g);
    return scratch;
}

static inline int target(unsigned g, int scratch) { return pinned[g] >= 0 ? pinned[g] : scratch; }

static inline void with_guest(assembly *a, unsigned op, bool wide, int reg, unsigned g) { // op reg, x[g]
    if (pinned[g] >= 0)
        op_rr(a, op, wide, reg, pinned[g]);
    else
        op_rm(a, op, wide, reg, MACHINE, place_of(g));
}

// jumps

// A jump whose address can be changed while others run it: the address lies within a line of the cache.
static inline void stay_in_line(assembly *a, unsigned opcode_bytes) {
    while (((uintptr_t)(a->at - a->cache->writable) + opcode_bytes) % 64 > 60) byte(a, 0x90);
}

static inline void jump_if(assembly *a, unsigned condition, unsigned kind, unsigned slot) {
    if (kind == LEAVE_PLAIN) stay_in_line(a, 2);
    byte(a, 0x0f);
    byte(a, 0x80 | condition);
    run_jump_to(a, kind, slot);
    a->at += 4;
}

static inline void jump_always(assembly *a, unsigned kind, unsigned slot) {
    if (kind == LEAVE_PLAIN) stay_in_line(a, 1);
    byte(a, 0xe9);
    run_jump_to(a, kind, slot);
    a->at += 4;
}

static inline void side_if(assembly *a, unsigned condition) { jump_if(a, condition, LEAVE_SIDE, a->slot); }

static inline uint8_t *short_jump(assembly *a, unsigned condition) {
    byte(a, 0x70 | condition);
    return a->at++;
}

static inline void land(assembly *a, uint8_t *from) { *from = (uint8_t)(a->at - from - 1); }

// translate_x86_64.c

void page_offset(assembly *a, int to, int64_t offset); // the page's virtual address + offset

// translate_x86_64_integer.c

void set_register_if(assembly *a, unsigned condition, unsigned rd);

// translate_x86_64_memory.c

void memory_operation(assembly *a, unsigned opcode, const operation *o);
void probe_tlb(assembly *a, unsigned rs1, int32_t offset, unsigned bytes, size_t tag,
               bool aligned); // rax is the address
void access_done(assembly *a);
void address_on_host(assembly *a); // rax is where the data are

// translate_x86_64_float.c

void float_operation(assembly *a, unsigned opcode, const operation *o);
void float_way_in(assembly *a);
void float_way_out(assembly *a);
void host_unspill_floats(machine *m, const uint64_t *registers);

#endif
