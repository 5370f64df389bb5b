/* translate_x86_64.c: the templates of integer arithmetic, memory and jumps for x86-64. */
#include "translate_x86_64.h"

#ifdef __x86_64__

// jumps

void host_jump(assembly *a, unsigned slot) { jump_always(a, LEAVE_PLAIN, slot); }

static void jump_away(assembly *a, int condition, uint32_t place) { // condition -1: always
    if (condition >= 0) byte(a, 0x0f);
    byte(a, condition >= 0 ? 0x80u | (unsigned)condition : 0xe9);
    word(a, place - (uint32_t)(a->at + 4 - a->cache->writable));
}

// A subroutine: rax is a guest address; rcx becomes where its translation is, by way of the pages that this
// machine has fetched from.
static void find_page(assembly *a) {
    op_rr(a, 0x8b, false, RCX, RAX);
    shift(a, SHIFT_RIGHT, false, RCX, PAGE_SHIFT - 4);
    op_ri(a, AND, false, RCX, (FETCH_ENTRIES - 1) << 4);
    op_rr(a, 0x8b, true, RDX, RAX);
    op_ri(a, AND, true, RDX, -PAGE_BYTES);
    op_rm(a, ADD, true, RCX, MACHINE, FIELD(fetch));
    op_rm(a, CMP, true, RDX, RCX, offsetof(fetch_entry, tag));
    uint8_t *unknown = short_jump(a, IF_NE);
    op_rm(a, 0x8b, true, RCX, RCX, offsetof(fetch_entry, operations));
    op_rm(a, 0x89, true, RDX, MACHINE, FIELD(page));
    op_ri(a, AND, false, RAX, PAGE_BYTES - 2);
    rex(a, false, RCX, RAX, RCX); // mov ecx, [rcx + rax * 2 + …]
    byte(a, 0x8b);
    modrm(a, 2, RCX, RSP);
    byte(a, 1 << 6 | RAX << 3 | RCX);
    word(a, sizeof(code_page) - offsetof(code_page, operations) + offsetof(hot_page, entries));
    op_rm(a, ADD, true, RCX, MACHINE, FIELD(code));
    byte(a, 0xc3);
    land(a, unknown);
    op_ri(a, ADD, true, RSP, 8);
    jump_away(a, -1, a->cache->leave_address);
}

// The jump itself is at its own place, for the host to learn where it goes.
static void jump_to_rax(assembly *a) {
    byte(a, 0xe8);
    word(a, a->cache->find_page - (uint32_t)(a->at + 4 - a->cache->writable));
    byte(a, 0xff); // jmp rcx
    modrm(a, 3, 4, RCX);
}

// rax = the page's virtual address + offset
static void page_offset(assembly *a, int to, int64_t offset) {
    op_rm(a, 0x8b, true, to, MACHINE, FIELD(page));
    if (offset == (int32_t)offset) {
        if (offset) op_ri(a, ADD, true, to, (int32_t)offset);
    } else {
        move_constant(a, RCX, offset);
        op_rr(a, ADD, true, to, RCX);
    }
}

void host_jump_far(assembly *a, int64_t offset) {
    page_offset(a, RAX, offset);
    jump_to_rax(a);
}

void host_link(assembly *a, const operation *o) {
    if (o->rd == 32) return;
    int to = target(o->rd, RAX);
    page_offset(a, to, 2 * (int64_t)(a->slot + a->slots));
    put(a, o->rd, to);
}

void host_jump_register(assembly *a, const operation *o) {
    int base = use(a, o->rs1, RAX);
    if (base != RAX || o->imm) op_rm(a, 0x8d, true, RAX, base, o->imm);
    op_ri(a, AND, true, RAX, -2);
    if (o->rd != 32) {
        int to = target(o->rd, RDX);
        page_offset(a, to, 2 * (int64_t)(a->slot + a->slots));
        put(a, o->rd, to);
    }
    jump_to_rax(a);
}

static void compare_and_branch(assembly *a, const operation *o, unsigned condition, bool far) {
    if (o->rs2 == 0 && o->rs1 && pinned[o->rs1] < 0) {
        op_mi(a, CMP, place_of(o->rs1), 0);
    } else {
        int left = use(a, o->rs1, RAX);
        if (o->rs2 == 0)
            op_rr(a, 0x85, true, left, left);
        else
            with_guest(a, CMP, true, left, o->rs2);
    }
    if (!far) {
        jump_if(a, condition, LEAVE_PLAIN, (unsigned)((int)a->slot + o->imm / 16));
        return;
    }
    uint8_t *over = short_jump(a, condition ^ 1);
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
    byte(a, 0x83); // sub edi, …
    modrm(a, 3, 5, BUDGET);
    byte(a, 0);
    byte(a, 0x0f);
    byte(a, 0x80 | IF_LT);
}

void host_charge(assembly *a, uint32_t entry, unsigned instructions) {
    a->cache->writable[entry + 2] = (uint8_t)instructions;
}

uint32_t host_stub(codecache *c, unsigned kind, unsigned slot, unsigned back, uint32_t resume) {
    bool helps = kind == CALL_ACCESS || kind == CALL_SYSTEM;
    c->cold -= kind == CALL_FLOAT ? 21 : helps ? 15 : 10;
    assembly a;
    a.cache = c, a.at = c->writable + c->cold;
    if (kind == CALL_FLOAT) { // call enter_float; je resume
        byte(&a, 0xe8);
        word(&a, c->enter_float - (c->cold + 5));
        jump_away(&a, IF_EQ, resume);
    }
    byte(&a, 0xb8); // mov eax, …
    word(&a, slot | back << 16 | (kind == CALL_SYSTEM ? HELP_SYSTEM : 0));
    if (helps) { // call help; jmp resume
        byte(&a, 0xe8);
        word(&a, c->help - (uint32_t)(a.at + 4 - c->writable));
    }
    jump_away(&a, -1, helps ? resume : c->leave[kind == CALL_FLOAT ? LEAVE_SIDE : kind]);
    return c->cold;
}

void host_aim(codecache *c, uint32_t place, uint32_t target) {
    uint32_t distance = target - (place + 4);
    memcpy(c->writable + place, &distance, 4);
}

// arithmetic

static void arithmetic(assembly *a, const operation *o, unsigned op, bool wide) {
    bool commutes = op != SUB;
    unsigned left = o->rs1, right = o->rs2;
    if (commutes && (o->rd == right || left == 0)) left = o->rs2, right = o->rs1;
    int to = target(o->rd, RAX);
    if (right && o->rd == right && o->rd != left) to = RAX;
    if (wide && op == ADD && left && right && pinned[left] >= 0 && pinned[right] >= 0 && to != pinned[left]) {
        op_indexed(a, 0x8d, to, pinned[left], pinned[right], 0);
        put(a, o->rd, to);
        return;
    }
    get(a, to, left);
    if (right || op == AND) with_guest(a, op, wide, to, right);
    if (!wide) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void add_word(assembly *a, const operation *o) {
    int to = target(o->rd, RAX);
    if (o->rs1 == 0) {
        move_constant(a, to, o->imm);
    } else if (!o->imm) {
        with_guest(a, 0x63, true, to, o->rs1);
    } else if (pinned[o->rs1] >= 0) {
        op_rm(a, 0x8d, false, to, pinned[o->rs1], o->imm);
        sign_extend(a, to, to);
    } else {
        op_rm(a, 0x8b, false, to, MACHINE, place_of(o->rs1));
        op_ri(a, ADD, false, to, o->imm);
        sign_extend(a, to, to);
    }
    put(a, o->rd, to);
}

static void arithmetic_constant(assembly *a, const operation *o, unsigned op, bool wide) {
    if (!wide) return add_word(a, o);
    int to = target(o->rd, RAX);
    if (o->rs1 == 0) {
        move_constant(a, to, op == AND ? 0 : o->imm);
    } else if (o->rd == o->rs1 && pinned[o->rd] < 0) {
        op_mi(a, op, place_of(o->rd), o->imm);
        return;
    } else if (op == ADD && pinned[o->rs1] >= 0 && to != pinned[o->rs1] && o->imm) {
        op_rm(a, 0x8d, true, to, pinned[o->rs1], o->imm);
    } else {
        get(a, to, o->rs1);
        if (o->imm || op == AND) op_ri(a, op, true, to, o->imm);
    }
    put(a, o->rd, to);
}

static void shift_constant(assembly *a, const operation *o, unsigned kind, bool wide) {
    int to = target(o->rd, RAX);
    get(a, to, o->rs1);
    shift(a, kind, wide, to, (unsigned)o->imm);
    if (!wide) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void shift_variable(assembly *a, const operation *o, unsigned kind, bool wide) {
    get(a, RCX, o->rs2);
    get(a, RAX, o->rs1);
    rex(a, wide, 0, 0, RAX);
    byte(a, 0xd3);
    modrm(a, 3, (int)kind, RAX);
    if (!wide) sign_extend(a, RAX, RAX);
    put(a, o->rd, RAX);
}

void set_register_if(assembly *a, unsigned condition, unsigned rd) {
    byte(a, 0x0f); // setcc al
    byte(a, 0x90 | condition);
    modrm(a, 3, 0, RAX);
    int to = target(rd, RAX);
    two_rr(a, 0xb6, false, to, RAX);
    put(a, rd, to);
}

static void set_less(assembly *a, const operation *o, unsigned condition) {
    int left = use(a, o->rs1, RAX);
    with_guest(a, CMP, true, left, o->rs2);
    set_register_if(a, condition, o->rd);
}

static void set_less_constant(assembly *a, const operation *o, unsigned condition) {
    int left = use(a, o->rs1, RAX);
    op_ri(a, CMP, true, left, o->imm);
    set_register_if(a, condition, o->rd);
}

static void multiply(assembly *a, const operation *o, bool wide) {
    int to = target(o->rd, RAX);
    unsigned left = o->rs1, right = o->rs2;
    if (o->rd == right) left = o->rs2, right = o->rs1;
    get(a, to, left);
    if (pinned[right] >= 0)
        two_rr(a, 0xaf, wide, to, pinned[right]);
    else
        two_rm(a, 0xaf, wide, to, MACHINE, place_of(right));
    if (!wide) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void unary(assembly *a, unsigned extension, bool wide, int rm) { // neg 3, mul 4, imul 5, div 6, idiv 7
    rex(a, wide, 0, 0, rm);
    byte(a, 0xf7);
    modrm(a, 3, (int)extension, rm);
}

enum { HIGH_UNSIGNED = 4, HIGH_SIGNED = 5, HIGH_MIXED };

static void multiply_high(assembly *a, const operation *o, unsigned kind) {
    get(a, RAX, o->rs1);
    get(a, RCX, o->rs2);
    unary(a, kind == HIGH_SIGNED ? HIGH_SIGNED : HIGH_UNSIGNED, true, RCX);
    if (kind == HIGH_MIXED) {
        get(a, RAX, o->rs1);
        shift(a, SHIFT_ARITHMETIC, true, RAX, 63);
        op_rr(a, AND, true, RAX, RCX);
        op_rr(a, SUB, true, RDX, RAX);
    }
    put(a, o->rd, RDX);
}

static void divide(assembly *a, const operation *o, bool is_signed, bool wide, bool remainder) {
    get(a, RCX, o->rs2);
    get(a, RAX, o->rs1);
    if (is_signed) {
        op_rm(a, 0x8d, wide, RDX, RCX, 1);
        op_ri(a, CMP, wide, RDX, 1); // neither 0 nor -1?
    } else {
        op_rr(a, 0x85, wide, RCX, RCX);
    }
    uint8_t *usual = short_jump(a, is_signed ? IF_HI : IF_NE), *negated = NULL;
    op_rr(a, 0x8b, true, RDX, RAX);
    if (is_signed) {
        unary(a, 3, wide, RAX); // neg
        op_rr(a, 0x85, wide, RCX, RCX);
        uint8_t *zero = short_jump(a, IF_EQ);
        op_rr(a, XOR, false, RDX, RDX);
        byte(a, 0xeb); // jmp
        negated = a->at++;
        land(a, zero);
    }
    op_ri(a, OR, true, RAX, -1);
    byte(a, 0xeb);
    uint8_t *by_zero = a->at++;
    land(a, usual);
    if (is_signed) {
        rex(a, wide, 0, 0, 0); // cqo, cdq
        byte(a, 0x99);
    } else {
        op_rr(a, XOR, false, RDX, RDX);
    }
    unary(a, is_signed ? 7 : 6, wide, RCX);
    land(a, by_zero);
    if (negated) land(a, negated);
    int result = remainder ? RDX : RAX;
    if (!wide) sign_extend(a, result, result);
    put(a, o->rd, result);
}

// memory

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

static void upper(assembly *a, const operation *o) {
    int to = target(o->rd, RAX);
    move_constant(a, to, o->imm);
    put(a, o->rd, to);
}

static void upper_from_here(assembly *a, const operation *o) {
    int to = target(o->rd, RAX);
    page_offset(a, to, (int64_t)a->slot * 2 + o->imm);
    put(a, o->rd, to);
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

// Caches of data and of code agree.
void host_publish(codecache *c, uint32_t from, uint32_t to) { (void)c, (void)from, (void)to; }

// the ways in and out

static const uint8_t saved[] = {RBX, RBP, R12, R13, R14, R15};

static void stack(assembly *a, unsigned op, int reg) { // push 50, pop 58
    rex(a, false, 0, 0, reg);
    byte(a, op | (unsigned)(reg & 7));
}

static void spill(assembly *a) {
    sign_extend(a, BUDGET, BUDGET);
    op_rm(a, 0x89, true, BUDGET, MACHINE, FIELD(budget));
    for (unsigned i = 0; i < sizeof pinned_registers; i++)
        op_rm(a, 0x89, true, pinned[pinned_registers[i]], MACHINE, place_of(pinned_registers[i]));
}

static void unspill(assembly *a) {
    for (unsigned i = 0; i < sizeof pinned_registers; i++)
        op_rm(a, 0x8b, true, pinned[pinned_registers[i]], MACHINE, place_of(pinned_registers[i]));
    op_rm(a, 0x8b, false, BUDGET, MACHINE, FIELD(budget));
}

// int enter(machine *, code, tlb): the arguments are in rdi, rsi, rdx
static void way_in(assembly *a) {
    for (unsigned i = 0; i < sizeof saved; i++) stack(a, 0x50, saved[i]);
    op_rm(a, 0x8d, true, MACHINE, RDI, BIAS);
    move(a, RAX, RSI);
    move(a, TLB, RDX);
    unspill(a);
    byte(a, 0xff); // jmp rax
    modrm(a, 3, 4, RAX);
}

static void way_out(assembly *a) { // edx = why
    op_rr(a, 0x8b, false, RAX, RDX);
    for (unsigned i = sizeof saved; i-- > 0;) stack(a, 0x58, saved[i]);
    byte(a, 0xc3);
}

// A subroutine, with the stack as a call wants it: eax says where. Goes on, or out.
static void call_help(assembly *a, uint32_t pop) {
    spill(a);
    float_way_out(a);
    op_rm(a, 0x8d, true, RDI, MACHINE, -BIAS);
    op_rr(a, 0x8b, false, RSI, RAX);
    byte(a, 0xff); // call [help]
    at_displacement(a, 2, MACHINE, FIELD(help));
    op_rr(a, 0x85, false, RAX, RAX);
    uint8_t *stays = short_jump(a, IF_EQ);
    op_rr(a, 0x8b, false, RDX, RAX);
    op_ri(a, ADD, true, RSP, 8);
    jump_away(a, -1, pop);
    land(a, stays);
    unspill(a);
    op_rm(a, 0x8b, true, TLB, MACHINE, FIELD(bank));
    byte(a, 0x80); // cmp byte [float_again], 0
    at_displacement(a, 7, MACHINE, FIELD(float_again));
    byte(a, 0);
    jump_away(a, IF_NE, a->cache->enter_float);
    byte(a, 0xc3);
}

static uint32_t here(const assembly *a) { return (uint32_t)(a->at - a->cache->writable); }

bool host_start(codecache *c) {
    assembly a;
    a.cache = c, a.at = c->writable;
    // place 0 is where pages say they have no translation: rax is the offset in the page
    op_rm(&a, ADD, true, RAX, MACHINE, FIELD(page));
    c->leave_address = here(&a);
    move_constant(&a, RDX, LEAVE_PLAIN);
    uint32_t out = here(&a);
    spill(&a);
    op_rm(&a, 0x89, true, RAX, MACHINE, FIELD(s.pc));
    float_way_out(&a);
    uint32_t pop = here(&a);
    way_out(&a);
    for (unsigned kind = 0; kind < LEAVE_NOW; kind++) { // eax is slot and what to give back
        c->leave[kind] = here(&a);
        op_rr(&a, 0x8b, false, RCX, RAX);
        shift(&a, SHIFT_RIGHT, false, RCX, 16);
        op_rr(&a, ADD, false, BUDGET, RCX);
        two_rr(&a, 0xb7, false, RAX, RAX);
        op_rr(&a, ADD, false, RAX, RAX);
        op_rm(&a, ADD, true, RAX, MACHINE, FIELD(page));
        move_constant(&a, RDX, kind);
        jump_away(&a, -1, out);
    }
    c->enter = here(&a);
    way_in(&a);
    c->enter_float = here(&a);
    float_way_in(&a);
    c->help = here(&a);
    call_help(&a, pop);
    c->find_page = here(&a);
    find_page(&a);
    c->first = (here(&a) + 63) & ~63u;
    return true;
}

void host_unspill(machine *m, const uint64_t *registers) {
    for (unsigned i = 0; i < sizeof pinned_registers; i++)
        m->s.x[pinned_registers[i]] = registers[pinned[pinned_registers[i]]];
    m->budget = (int32_t)registers[BUDGET];
    host_unspill_floats(m, registers);
}

#endif
