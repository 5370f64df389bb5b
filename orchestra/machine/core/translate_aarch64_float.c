/* translate_aarch64_float.c: the templates of F and D for AArch64.
 *
 * The host's own instructions, rounding to nearest, with FPCR.DN: results and flags are RISC-V's to the last
 * bit, NaNs included, but for three things. Whoever would make a NaN an integer, or a minimum of one, leaves
 * it to the interpreter. And the host finds tininess before rounding: it may raise underflow where rounding
 * gives the smallest normal number. So FPSR.UFC is looked at when a result is no larger than that; if it is
 * set, it is cleared, and the interpreter does the instruction again. Other flags gather in FPSR.
 */
#include "translate_aarch64.h"

#ifdef __aarch64__

enum {
    V0,
    V1,
    V2,
    V_LEAST_D = 29,
    V_LEAST_S,
    V_BOX
}; // the smallest normal numbers, the upper half of a single
enum { F_ADD = 0x1e202800, F_SUB = 0x1e203800, F_MUL = 0x1e200800, F_DIV = 0x1e201800, F_SQRT = 0x1e21c000 };
enum { F_MAX = 0x1e206800, F_MIN = 0x1e207800, F_NEGATE = 0x1e214000, F_ABSOLUTE = 0x1e20c000 };
enum { F_MADD = 0x1f000000, F_NMSUB = 0x1f008000, F_NMADD = 0x1f200000, F_MSUB = 0x1f208000 };
enum { F_COMPARE = 0x1e202000, F_COMPARE_ORDERED = 0x1e202010, F_MOVE = 0x1e604000 };
enum { LOAD_D = 0xfd400000, STORE_D = 0xfd000000, SAVE_PAIR = 0x6d000000, LOAD_PAIR = 0x6d400000 };
enum { READ_FPCR = 0xd53b4400, WRITE_FPCR = 0xd51b4400, READ_FPSR = 0xd53b4420, WRITE_FPSR = 0xd51b4420 };
enum { DEFAULT_NAN = 1 << 25, UNDERFLOW_BIT = 3, RETURN = 0xd65f03c0 };

// twenty-six of the guest's registers live in v3 to v28, once a run has shown that it computes with them

enum { PINNED = 26, FIRST = 3 };

static int pinned_float(unsigned f) { return f < PINNED ? (int)f + FIRST : -1; }

static int use_float(assembly *a, unsigned f, int scratch) {
    if (pinned_float(f) >= 0) return pinned_float(f);
    field(a, LOAD_D, scratch, FIELD(s.f) + 8 * f);
    return scratch;
}

static void float_op(assembly *a, uint32_t code, bool single, int to, int left, int right) {
    op(a, code | (single ? 0 : 1u << 22), W, to, left, right);
}

static int target_float(unsigned f, int scratch) { return pinned_float(f) >= 0 ? pinned_float(f) : scratch; }

static void put_float(assembly *a, unsigned f, int from) {
    if (pinned_float(f) < 0)
        field(a, STORE_D, from, FIELD(s.f) + 8 * f);
    else if (pinned_float(f) != from)
        op(a, F_MOVE, W, pinned_float(f), from, 0);
}

static void put_result(assembly *a, bool single, unsigned f, int from) {
    int to = target_float(f, from);
    if (single) op(a, 0x0ea01c00, W, to, from, V_BOX); // orr
    put_float(a, f, single ? to : from);
}

// Before the first of a block: registers are loaded, FS is dirty already and frm is to nearest.
static void need_float(assembly *a) {
    if (a->float_ready) return;
    a->float_ready = true;
    field(a, LOAD_W, X0, FIELD(float_ready));
    op(a, SUBS, W, ZERO, X0, ZERO);
    jump_if(a, IF_EQ, CALL_FLOAT, a->slot);
}

static void need_single(assembly *a, unsigned f) { // boxed, or it counts as NaN
    if (pinned_float(f) >= 0)
        emit(a, 0x0e0c3c00 | (uint32_t)pinned_float(f) << 5 | X0); // umov w0, v.s[1]
    else
        field(a, LOAD_W, X0, FIELD(s.f) + 8 * f + 4);
    emit(a, 0x3100041f | X0 << 5); // cmn w0, 1
    jump_if(a, IF_NE, LEAVE_SIDE, a->slot);
}

// v0 may be tiny, and the host may have raised underflow
static void check_underflow(assembly *a, bool single) {
    float_op(a, F_ABSOLUTE, single, V1, V0, 0);
    float_op(a, F_COMPARE, single, 0, V1, single ? V_LEAST_S : V_LEAST_D);
    uint8_t *over = skip_if(a, IF_HI);
    branch(a, 0x94000000, a->cache->float_tiny);
    uint8_t *also_over = skip_if(a, IF_EQ);
    jump_always(a, LEAVE_SIDE, a->slot);
    land(a, over);
    land(a, also_over);
}

// A subroutine: "equal" unless FPSR.UFC is set; clears it.
void float_tiny(assembly *a) {
    emit(a, READ_FPSR | X0);
    low_bits(a, X1, X0, UNDERFLOW_BIT, 1);
    op(a, SUBS, W, ZERO, X1, ZERO);
    uint8_t *clear = skip_if(a, IF_EQ);
    bits(a, 0x33000000, X, X0, ZERO, 64 - UNDERFLOW_BIT, 0); // bfi x0, xzr, 3, 1
    emit(a, WRITE_FPSR | X0);
    land(a, clear);
    emit(a, RETURN);
}

// arithmetic

static void two_operands(assembly *a, const operation *o, bool single, uint32_t code) {
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    float_op(a, code, single, V0, use_float(a, o->rs1, V0), use_float(a, o->rs2, V1));
    if (code == F_MUL || code == F_DIV) check_underflow(a, single); // a tiny sum is exact
    put_result(a, single, o->rd, V0);
}

static void square_root(assembly *a, const operation *o, bool single) {
    if (single) need_single(a, o->rs1);
    float_op(a, F_SQRT, single, V0, use_float(a, o->rs1, V0), 0);
    put_result(a, single, o->rd, V0);
}

static void fused(assembly *a, const operation *o, bool single, uint32_t code) {
    unsigned f3 = (unsigned)o->imm >> 8;
    if (single) need_single(a, o->rs1), need_single(a, o->rs2), need_single(a, f3);
    int left = use_float(a, o->rs1, V0), right = use_float(a, o->rs2, V1), addend = use_float(a, f3, V2);
    float_op(a, code | (uint32_t)addend << 10, single, V0, left, right);
    check_underflow(a, single);
    put_result(a, single, o->rd, V0);
}

static void need_numbers(assembly *a, bool single, int left, int right) {
    float_op(a, F_COMPARE, single, 0, left, right);
    jump_if(a, IF_VS, LEAVE_SIDE, a->slot);
}

static void least(assembly *a, const operation *o, bool single, uint32_t code) {
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    int left = use_float(a, o->rs1, V0), right = use_float(a, o->rs2, V1);
    need_numbers(a, single, left, right);
    float_op(a, code, single, V0, left, right);
    put_result(a, single, o->rd, V0);
}

enum { F_EQUAL = IF_EQ, F_LESS = IF_MI, F_LESS_EQUAL = IF_LS };

static void compare(assembly *a, const operation *o, bool single, unsigned kind) {
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    int left = use_float(a, o->rs1, V0), right = use_float(a, o->rs2, V1);
    float_op(a, kind == F_EQUAL ? F_COMPARE : F_COMPARE_ORDERED, single, 0, left, right);
    set_if(a, kind, o->rd);
}

// conversions

static uint32_t between(bool single, bool wide) { // of a float and an integer
    return 0x1e200000 | (uint32_t)wide << 31 | (single ? 0 : 1u << 22);
}

static void from_integer(assembly *a, const operation *o, bool single, bool wide, bool is_signed) {
    int from = use(a, o->rs1, X0);
    op(a, between(single, wide) | (is_signed ? 2 : 3) << 16, W, V0, from, 0); // scvtf, ucvtf
    put_result(a, single, o->rd, V0);
}

static void to_integer(assembly *a, const operation *o, bool single, bool wide, bool is_signed) {
    static const uint8_t modes[] = {[FLOAT_RNE] = 0, [FLOAT_RTZ] = 3, [FLOAT_RDN] = 2, [FLOAT_RUP] = 1, 0};
    unsigned rm = rounds_to_nearest(o) ? FLOAT_RNE : (unsigned)o->imm & 7;
    if (rm > FLOAT_RMM) return jump_always(a, LEAVE_SIDE, a->slot);
    if (single) need_single(a, o->rs1);
    int from = use_float(a, o->rs1, V0), to = target(o->rd, X0);
    need_numbers(a, single, from, from);
    unsigned kind = (rm == FLOAT_RMM ? 4 : 0) + !is_signed;
    op(a, between(single, wide) | (uint32_t)modes[rm] << 19 | kind << 16, W, to, from, 0);
    if (!wide) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void convert(assembly *a, const operation *o, bool to_single) {
    if (!to_single) need_single(a, o->rs1);
    op(a, to_single ? 0x1e624000 : 0x1e22c000, W, V0, use_float(a, o->rs1, V0), 0);
    if (to_single) check_underflow(a, true);
    put_result(a, to_single, o->rd, V0);
}

// bits

static int float_in_register(assembly *a, unsigned f, int to) { // all 64 bits
    if (pinned_float(f) >= 0)
        op(a, 0x9e660000, W, to, pinned_float(f), 0); // fmov
    else
        field(a, LOAD_X, to, FIELD(s.f) + 8 * f);
    return to;
}

static void register_to_float(assembly *a, unsigned f, int from) {
    if (pinned_float(f) >= 0)
        op(a, 0x9e670000, W, pinned_float(f), from, 0); // fmov
    else
        field(a, STORE_X, from, FIELD(s.f) + 8 * f);
}

enum { SIGN_OF, SIGN_NOT = F_NEGATE, SIGN_XOR = F_ABSOLUTE };

static void sign_inject(assembly *a, const operation *o, bool single, uint32_t kind) {
    unsigned sign = single ? 31 : 63;
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    if (o->rs1 == o->rs2) {
        int from = use_float(a, o->rs1, V0);
        if (kind == SIGN_OF) return put_float(a, o->rd, from);
        float_op(a, kind, single, V0, from, 0);
        return put_result(a, single, o->rd, V0);
    }
    float_in_register(a, o->rs1, X0);
    float_in_register(a, o->rs2, X1);
    if (kind == SIGN_NOT) emit(a, 0xaa2003e0 | X1 << 16 | X1); // mvn
    if (kind == SIGN_XOR) op(a, XOR, X, X1, X1, X0);
    low_bits(a, X1, X1, sign, 1);
    bits(a, 0x33000000, X, X0, X1, 64 - sign, 0); // bfi x0, x1, sign, 1
    register_to_float(a, o->rd, X0);
}

static void move_to_integer(assembly *a, const operation *o, bool single) {
    int to = target(o->rd, X0);
    float_in_register(a, o->rs1, to);
    if (single) sign_extend(a, to, to);
    put(a, o->rd, to);
}

static void move_from_integer(assembly *a, const operation *o, bool single) {
    int from = use(a, o->rs1, X0);
    if (!single) return register_to_float(a, o->rd, from);
    op(a, 0x1e270000, W, V0, from, 0); // fmov
    put_result(a, true, o->rd, V0);
}

// memory

static void load_float(assembly *a, const operation *o, bool single) {
    probe(a, o->rs1, o->imm, single ? 4 : 8, offsetof(tlb_entry, read), false);
    int to = target_float(o->rd, V0);
    unscaled(a, single ? 0xbc400000 : 0xfc400000, to, X0, 0);
    put_result(a, single, o->rd, to);
    run_resume(a, a->access);
}

static void store_float(assembly *a, const operation *o, bool single) {
    probe(a, o->rs1, o->imm, single ? 4 : 8, offsetof(tlb_entry, write), false);
    int from = use_float(a, o->rs2, V0);
    unscaled(a, single ? 0xbc000000 : 0xfc000000, from, X0, 0);
    run_resume(a, a->access);
}

void float_operation(assembly *a, unsigned opcode, const operation *o) {
    need_float(a);
    switch (opcode) {
#    define FLOAT(name, template, ...)                                                                       \
    case OP_##name:                                                                                          \
        template(a, o, __VA_ARGS__);                                                                         \
        break;
#    define ROUNDED(name, template, ...)                                                                     \
    case OP_##name:                                                                                          \
        if (rounds_to_nearest(o))                                                                            \
            template(a, o, __VA_ARGS__);                                                                     \
        else                                                                                                 \
            jump_always(a, LEAVE_SIDE, a->slot);                                                             \
        break;
#    include "templates.def"
    }
}

// the ways in and out

static void all_pinned(assembly *a, uint32_t code) {
    for (unsigned f = 0; f < PINNED; f += 2) {
        unsigned place = (FIELD(s.f) + 8 * f) / 8;
        emit(a, code | place << 15 | (f + 1 + FIRST) << 10 | MACHINE << 5 | (f + FIRST));
    }
}

static void float_constant(assembly *a, int to, int64_t value) {
    move_constant(a, X0, value);
    op(a, 0x9e670000, W, to, X0, 0);
}

// A subroutine: load the guest's registers and set the flags to "equal", if floats may be computed with here.
void float_way_in(assembly *a) {
    field(a, LOAD_X, X0, FIELD(s.mstatus));
    move_constant(a, X1, (int64_t)MSTATUS_FS);
    op(a, AND, X, X0, X0, X1);
    op(a, SUBS, X, ZERO, X0, X1);
    uint8_t *clean = skip_if(a, IF_NE);
    field(a, LOAD_W, X0, FIELD(s.frm));
    op(a, SUBS, W, ZERO, X0, ZERO);
    uint8_t *otherwise = skip_if(a, IF_NE);
    emit(a, READ_FPCR | X0);
    field(a, STORE_W, X0, FIELD(host_float_control));
    move_constant(a, X0, DEFAULT_NAN);
    emit(a, WRITE_FPCR | X0);
    emit(a, WRITE_FPSR | ZERO);
    all_pinned(a, LOAD_PAIR);
    float_constant(a, V_LEAST_D, (int64_t)1 << 52);
    float_constant(a, V_BOX, (int64_t)0xffffffff00000000);
    float_constant(a, V_LEAST_S, 1 << 23);
    field(a, STORE_W, X0, FIELD(float_ready)); // not 0; the flags say "equal"
    land(a, clean);
    land(a, otherwise);
    emit(a, RETURN);
}

// Store them, if they were loaded; x0 and x1 stay.
void float_way_out(assembly *a) {
    field(a, LOAD_W, X2, FIELD(float_ready));
    op(a, SUBS, W, ZERO, X2, ZERO);
    uint8_t *over = skip_if(a, IF_EQ);
    emit(a, READ_FPSR | X2);
    field(a, STORE_W, X2, FIELD(float_status));
    field(a, LOAD_W, X2, FIELD(host_float_control));
    emit(a, WRITE_FPCR | X2);
    all_pinned(a, SAVE_PAIR);
    land(a, over);
}

// What float_way_out left, or the registers of a fault; underflow is the interpreter's.
void host_gather_flags(machine *m, uint32_t status) {
    static const uint8_t flags[5] = {FLOAT_NV, FLOAT_DZ, FLOAT_OF, 0, FLOAT_NX};
    for (unsigned bit = 0; bit < 5; bit++)
        if (status >> bit & 1) m->s.fflags |= flags[bit];
    m->float_ready = 0;
}

void host_unspill_floats(machine *m, const uint64_t *registers) {
    if (!m->float_ready) return;
    for (unsigned f = 0; f < PINNED; f++) m->s.f[f] = registers[HOST_FLOAT + FIRST + f];
    host_gather_flags(m, (uint32_t)registers[HOST_FLOAT_STATUS]);
    uint64_t control = m->host_float_control;
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
}

#endif
