/* translate_x86_64_integer.c: the templates of integer arithmetic for x86-64. */
#include "translate_x86_64.h"

#ifdef __x86_64__

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
#    define MEMORY(name, ...)                                                                                \
    case OP_##name:                                                                                          \
        memory_operation(a, opcode, o);                                                                      \
        break;
#    define SYSTEM(name)                                                                                     \
    case OP_##name:                                                                                          \
        jump_always(a, CALL_SYSTEM, a->slot);                                                                \
        break;
#    define FLOAT(name, ...)                                                                                 \
    case OP_##name:                                                                                          \
        float_operation(a, opcode, o);                                                                       \
        break;
#    define ROUNDED(name, ...) FLOAT(name)
#    include "templates.def"
    }
}

#endif
