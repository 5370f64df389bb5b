/* translate_x86_64_memory.c: the templates of loads, stores and atomics for x86-64. */
#include "translate_x86_64.h"

#ifdef __x86_64__

static void address_of(assembly *a, unsigned rs1, int32_t offset) { // in rax
    if (rs1 && pinned[rs1] >= 0) {
        if (offset)
            op_rm(a, 0x8d, true, RAX, pinned[rs1], offset);
        else
            move(a, RAX, pinned[rs1]);
    } else {
        get(a, RAX, rs1);
        if (offset) op_ri(a, ADD, true, RAX, offset);
    }
}

// rax = address; rcx = offset of its TLB entry in the bank. Leaves unless the entry's tag says that it may.
void probe_tlb(assembly *a, unsigned rs1, int32_t offset, unsigned bytes, size_t tag, bool aligned) {
    address_of(a, rs1, offset);
    op_rr(a, 0x8b, false, RCX, RAX);
    shift(a, SHIFT_RIGHT, false, RCX, PAGE_SHIFT - 5);
    if (aligned || bytes == 1)
        op_rr(a, 0x8b, true, RDX, RAX);
    else
        op_rm(a, 0x8d, true, RDX, RAX, (int32_t)bytes - 1); // the last byte must be in the page, too
    op_ri(a, AND, false, RCX, (TLB_ENTRIES - 1) << 5);
    op_ri(a, AND, true, RDX, -PAGE_BYTES | (aligned ? (int32_t)bytes - 1 : 0));
    op_indexed(a, CMP, RDX, TLB, RCX, (int)tag);
    a->access = a->jump_count;
    jump_if(a, IF_NE, CALL_ACCESS, a->slot);
}

void access_done(assembly *a) { run_resume(a, a->access); }

_Static_assert(sizeof(tlb_entry) == 32, "the probe computes its place by a shift");

void address_on_host(assembly *a) { // rax = where the data are
    op_indexed(a, ADD, RAX, TLB, RCX, offsetof(tlb_entry, addend));
}

static void load_from(assembly *a, unsigned bytes, bool is_signed, int to, int base, int32_t at) {
    run_site(a);
    if (bytes < 4)
        two_rm(a, (is_signed ? 0xbe : 0xb6) | (bytes == 2), is_signed, to, base, at); // movsx, movzx
    else if (bytes == 4 && is_signed)
        op_rm(a, 0x63, true, to, base, at); // movsxd
    else
        op_rm(a, 0x8b, bytes == 8, to, base, at);
}

static void load(assembly *a, const operation *o, unsigned bytes, bool is_signed) {
    probe_tlb(a, o->rs1, o->imm, bytes, offsetof(tlb_entry, read), false);
    address_on_host(a);
    int to = target(o->rd, RAX);
    load_from(a, bytes, is_signed, to, RAX, 0);
    put(a, o->rd, to);
    access_done(a);
}

static void store_to(assembly *a, unsigned bytes, int value, int base, int32_t at) {
    run_site(a);
    if (bytes == 2) byte(a, 0x66);
    op_rm(a, bytes == 1 ? 0x88 : 0x89, bytes == 8, value, base, at);
}

static void store(assembly *a, const operation *o, unsigned bytes) {
    probe_tlb(a, o->rs1, o->imm, bytes, offsetof(tlb_entry, write), false);
    address_on_host(a);
    int value = use(a, o->rs2, RCX);
    store_to(a, bytes, value, RAX, 0);
    access_done(a);
}

void host_group(assembly *a, const access_group *g) {
    a->slot = g->members[0].slot;
    probe_tlb(a, g->members[0].operation->rs1, g->low, (unsigned)(g->high - g->low),
              g->stores ? offsetof(tlb_entry, write) : offsetof(tlb_entry, read), false);
    a->jumps[a->access].count = (uint16_t)g->count;
    address_on_host(a);
    for (unsigned i = 0; i < g->count; i++) {
        const operation *o = g->members[i].operation;
        int32_t at = o->imm - g->low;
        run_step(a, g->members[i].slot, g->members[i].slots);
        if (g->stores) {
            store_to(a, g->members[i].bytes, use(a, o->rs2, RCX), RAX, at);
        } else {
            int to = target(o->rd, RCX);
            load_from(a, g->members[i].bytes, g->members[i].is_signed, to, RAX, at);
            put(a, o->rd, to);
        }
        a->done++;
    }
    access_done(a);
}

// atomics: only one hart, so it is enough that nothing comes between

static void atomic_result(assembly *a, bool wide, unsigned rd, int from) {
    int to = target(rd, from);
    if (rd == 32) return;
    if (wide)
        move(a, to, from);
    else
        sign_extend(a, to, from);
    put(a, rd, to);
}

static void old_value(assembly *a, const operation *o, bool wide) { // rdx; rax is where, rcx is rs2
    probe_tlb(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, write), true);
    address_on_host(a);
    get(a, RCX, o->rs2);
    run_site(a);
    op_rm(a, 0x8b, wide, RDX, RAX, 0);
}

static void new_value(assembly *a, const operation *o, bool wide) { // rcx
    op_rm(a, 0x89, wide, RCX, RAX, 0);
    atomic_result(a, wide, o->rd, RDX);
    access_done(a);
}

enum { SWAP };

static void atomic(assembly *a, const operation *o, unsigned op, bool wide) {
    old_value(a, o, wide);
    if (op != SWAP) op_rr(a, op, wide, RCX, RDX);
    new_value(a, o, wide);
}

static void atomic_choice(assembly *a, const operation *o, unsigned keeps, bool wide) {
    old_value(a, o, wide);
    op_rr(a, CMP, wide, RDX, RCX);
    two_rr(a, 0x40 | keeps, wide, RCX, RDX); // cmov
    new_value(a, o, wide);
}

// rcx = where the data are, rdx = the physical address
static void to_physical(assembly *a) {
    op_indexed(a, 0x8b, RDX, TLB, RCX, offsetof(tlb_entry, page));
    op_indexed(a, 0x8b, RCX, TLB, RCX, offsetof(tlb_entry, addend));
    op_rr(a, ADD, true, RCX, RAX);
    shift(a, SHIFT_LEFT, true, RDX, PAGE_SHIFT);
    op_ri(a, AND, false, RAX, PAGE_BYTES - 1);
    op_rr(a, OR, true, RDX, RAX);
}

static void reserve(assembly *a, const operation *o, bool wide) {
    probe_tlb(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, read), true);
    to_physical(a);
    run_site(a);
    op_rm(a, 0x8b, wide, RAX, RCX, 0);
    op_rm(a, 0x89, true, RDX, MACHINE, FIELD(s.reservation));
    atomic_result(a, wide, o->rd, RAX);
    access_done(a);
}

static void conditional(assembly *a, const operation *o, bool wide) {
    probe_tlb(a, o->rs1, 0, wide ? 8 : 4, offsetof(tlb_entry, write), true);
    to_physical(a);
    int value = use(a, o->rs2, RAX);
    op_rm(a, CMP, true, RDX, MACHINE, FIELD(s.reservation));
    uint8_t *over = short_jump(a, IF_NE);
    store_to(a, wide ? 8 : 4, value, RCX, 0);
    land(a, over);
    rex(a, true, 0, 0, MACHINE); // mov qword […], -1
    byte(a, 0xc7);
    at_displacement(a, 0, MACHINE, FIELD(s.reservation));
    word(a, ~0u);
    set_register_if(a, IF_NE, o->rd);
    access_done(a);
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
