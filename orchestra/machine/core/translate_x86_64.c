/* translate_x86_64.c: jumps, blocks, and the ways into and out of translated code for x86-64. */
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
void page_offset(assembly *a, int to, int64_t offset) {
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
    op_rm(a, 0x8b, true, TLB, MACHINE, FIELD(bank));
}

// int enter(machine *, code): the arguments are in rdi, rsi
static void way_in(assembly *a) {
    for (unsigned i = 0; i < sizeof saved; i++) stack(a, 0x50, saved[i]);
    op_rm(a, 0x8d, true, MACHINE, RDI, BIAS);
    move(a, RAX, RSI);
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
    op_ri(a, CMP, false, RDX, HELP_JUMPS);
    jump_away(a, IF_NE, pop);
    unspill(a);
    op_rm(a, 0x8b, true, RAX, MACHINE, FIELD(s.pc));
    jump_to_rax(a);
    land(a, stays);
    unspill(a);
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
    c->find_page = here(&a);
    find_page(&a);
    c->help = here(&a);
    call_help(&a, pop);
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
