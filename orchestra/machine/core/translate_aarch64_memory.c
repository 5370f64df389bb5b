/* translate_aarch64_memory.c: the templates of loads, stores and atomics for AArch64. */
#include "translate_aarch64.h"

#ifdef __aarch64__

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

// the table

void memory_operation(assembly *a, unsigned opcode, const operation *o) {
    switch (opcode) {
#    define MEMORY(name, template, ...)                                                                      \
    case OP_##name:                                                                                          \
        template(a, o, __VA_ARGS__);                                                                         \
        break;
#    include "templates.def"
    }
}

#endif
