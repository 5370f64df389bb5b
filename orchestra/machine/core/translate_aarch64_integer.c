/* translate_aarch64_integer.c: the templates of integer arithmetic for AArch64. */
#include "translate_aarch64.h"

#ifdef __aarch64__

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

bool host_translates(unsigned opcode) { return has_template(opcode); }

#endif
