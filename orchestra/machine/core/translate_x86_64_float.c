/* translate_x86_64_float.c: the templates of F and D for x86-64.
 *
 * The host's own instructions, rounding to nearest: they are IEEE-754's to the last bit, subnormals and flags
 * included, but for the payload of NaNs. So an instruction whose result is NaN goes to the interpreter, as
 * does everything in other rounding modes. Flags gather in mxcsr and reach fflags on the way out.
 */
#include "translate_x86_64.h"

#ifdef __x86_64__

enum { F_ADD = 0x58, F_MUL = 0x59, F_SUB = 0x5c, F_MIN = 0x5d, F_DIV = 0x5e, F_MAX = 0x5f, F_SQRT = 0x51 };
enum { F_MADD = 0xb9, F_MSUB = 0xbb, F_NMSUB = 0xbd, F_NMADD = 0xbf };

static int32_t float_place(unsigned f) { return (int32_t)(offsetof(machine, s.f) + 8 * f) - BIAS; }

// prefix 0f op xmm, xmm: scalar double f2, single f3, 66 and none for the others
static void sse_rr(assembly *a, unsigned prefix, unsigned op, bool wide, int reg, int rm) {
    if (prefix) byte(a, prefix);
    two_rr(a, op, wide, reg, rm);
}

static void sse_rm(assembly *a, unsigned prefix, unsigned op, int reg, int base, int32_t displacement) {
    if (prefix) byte(a, prefix);
    two_rm(a, op, false, reg, base, displacement);
}

static void copy(assembly *a, int to, int from) { // movaps
    if (to != from) sse_rr(a, 0, 0x28, false, to, from);
}

static int use_float(assembly *a, unsigned f, int scratch) {
    if (pinned_floats[f] >= 0) return pinned_floats[f];
    sse_rm(a, 0xf3, 0x7e, scratch, MACHINE, float_place(f)); // movq
    return scratch;
}

static void get_float(assembly *a, int to, unsigned f) { copy(a, to, use_float(a, f, to)); }

static void put_float(assembly *a, unsigned f, int from) {
    if (pinned_floats[f] >= 0)
        copy(a, pinned_floats[f], from);
    else
        sse_rm(a, 0x66, 0xd6, from, MACHINE, float_place(f)); // movq
}

static void float_to_integer_register(assembly *a, int to, unsigned f) { // all 64 bits
    if (pinned_floats[f] >= 0)
        sse_rr(a, 0x66, 0x7e, true, pinned_floats[f], to); // movq
    else
        op_rm(a, 0x8b, true, to, MACHINE, float_place(f));
}

static void integer_register_to_float(assembly *a, unsigned f, int from) {
    if (pinned_floats[f] >= 0)
        sse_rr(a, 0x66, 0x6e, true, pinned_floats[f], from); // movq
    else
        op_rm(a, 0x89, true, from, MACHINE, float_place(f));
}

// Before the first of a block: registers are loaded, FS is dirty already and frm is to nearest.
static void need_float(assembly *a) {
    if (a->float_ready) return;
    a->float_ready = true;
    rex(a, false, 0, 0, MACHINE); // cmp byte [float_ready], 0
    byte(a, 0x80);
    at_displacement(a, 7, MACHINE, FIELD(float_ready));
    byte(a, 0);
    jump_if(a, IF_EQ, CALL_FLOAT, a->slot);
}

static void need_single(assembly *a, unsigned f) { // boxed, or it counts as NaN
    if (pinned_floats[f] >= 0) {
        float_to_integer_register(a, RAX, f);
        shift(a, SHIFT_RIGHT, true, RAX, 32);
        op_ri(a, CMP, false, RAX, -1);
    } else {
        byte(a, 0x83); // cmp dword [upper half], -1
        at_displacement(a, 7, MACHINE, float_place(f) + 4);
        byte(a, 0xff);
    }
    side_if(a, IF_NE);
}

static void put_result(assembly *a, bool single, unsigned fd) { // xmm0, unless it is NaN
    sse_rr(a, single ? 0 : 0x66, 0x2e, false, XMM0, XMM0);      // ucomis
    side_if(a, IF_P);
    if (single) sse_rr(a, 0, 0x56, false, XMM0, XMM_BOX); // orps
    put_float(a, fd, XMM0);
}

static void two_operands(assembly *a, const operation *o, bool single, unsigned op) {
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    get_float(a, XMM0, o->rs1);
    sse_rr(a, single ? 0xf3 : 0xf2, op, false, XMM0, use_float(a, o->rs2, XMM2));
    put_result(a, single, o->rd);
}

static void square_root(assembly *a, const operation *o, bool single) {
    if (single) need_single(a, o->rs1);
    sse_rr(a, 0, 0x57, false, XMM0, XMM0); // xorps: no old value to wait for
    sse_rr(a, single ? 0xf3 : 0xf2, F_SQRT, false, XMM0, use_float(a, o->rs1, XMM2));
    put_result(a, single, o->rd);
}

// The host's minimum is the second of two zeros: of equal numbers, take either sign bit or both.
static void least(assembly *a, const operation *o, bool single, unsigned op) {
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    get_float(a, XMM0, o->rs1);
    int right = use_float(a, o->rs2, XMM2);
    sse_rr(a, single ? 0 : 0x66, 0x2e, false, XMM0, right); // ucomis
    side_if(a, IF_P);
    uint8_t *differ = short_jump(a, IF_NE);
    sse_rr(a, 0, op == F_MIN ? 0x56 : 0x54, false, XMM0, right); // orps, andps
    byte(a, 0xeb);
    uint8_t *over = a->at++;
    land(a, differ);
    sse_rr(a, single ? 0xf3 : 0xf2, op, false, XMM0, right);
    land(a, over);
    put_float(a, o->rd, XMM0);
}

static void fused(assembly *a, const operation *o, bool single, unsigned op) {
    unsigned f3 = (unsigned)o->imm >> 8;
    if (single) need_single(a, o->rs1), need_single(a, o->rs2), need_single(a, f3);
    get_float(a, XMM0, f3);
    int left = use_float(a, o->rs1, XMM2), right = pinned_floats[o->rs2];
    bool memory = right < 0;
    byte(a, 0xc4);
    byte(a, 0xe2 & ~(right & 8 && !memory ? 0x20u : 0u)); // xmm0 is the destination
    byte(a, (single ? 0u : 0x80u) | (unsigned)(~left & 15) << 3 | 1);
    byte(a, op);
    if (memory)
        at_displacement(a, XMM0, MACHINE, float_place(o->rs2));
    else
        modrm(a, 3, XMM0, right);
    put_result(a, single, o->rd);
}

enum { F_EQUAL, F_LESS = IF_HI, F_LESS_EQUAL = IF_HS };

static void compare(assembly *a, const operation *o, bool single, unsigned kind) {
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    int left = use_float(a, o->rs1, XMM0), right = use_float(a, o->rs2, XMM2);
    unsigned prefix = single ? 0 : 0x66;
    if (kind == F_EQUAL) {
        sse_rr(a, prefix, 0x2e, false, left, right); // ucomis: equal and not unordered
        byte(a, 0x0f);
        byte(a, 0x90 | IF_NP);
        modrm(a, 3, 0, RCX);
        byte(a, 0x0f);
        byte(a, 0x90 | IF_EQ);
        modrm(a, 3, 0, RAX);
        op_rr(a, AND, false, RAX, RCX);
        op_ri(a, AND, false, RAX, 1);
        put(a, o->rd, RAX);
        return;
    }
    sse_rr(a, prefix, 0x2f, false, right, left); // comis
    set_register_if(a, kind, o->rd);
}

static void from_integer(assembly *a, const operation *o, bool single, bool wide, bool is_signed) {
    int from = use(a, o->rs1, RAX);
    if (!is_signed && !wide) {
        op_rr(a, 0x8b, false, RAX, from); // zeros above
        from = RAX;
    } else if (!is_signed) {
        op_rr(a, 0x85, true, from, from);
        side_if(a, IF_S);
    }
    sse_rr(a, 0, 0x57, false, XMM0, XMM0);
    byte(a, single ? 0xf3 : 0xf2);
    two_rr(a, 0x2a, wide || !is_signed, XMM0, from); // cvtsi2s
    if (single) sse_rr(a, 0, 0x56, false, XMM0, XMM_BOX);
    put_float(a, o->rd, XMM0);
}

// Leave unless it is not negative and cannot become more than the largest unsigned integer.
static void need_unsigned(assembly *a, bool single, bool wide, unsigned f) {
    float_to_integer_register(a, RAX, f);
    if (single)
        move_constant(a, RCX, wide ? 0x5f000000 : 0x4f800000); // 2^63, 2^32: below are integers
    else
        move_constant(a, RCX, wide ? 0x43e0000000000000 : 0x41efffffffe00000); // 2^63, 2^32 - 1
    op_rr(a, CMP, !single, RAX, RCX);
    side_if(a, IF_HS);
}

static void to_integer(assembly *a, const operation *o, bool single, bool wide, bool is_signed) {
    unsigned rm = (unsigned)o->imm & 7;
    if (rm != FLOAT_RTZ && !rounds_to_nearest(o)) return jump_always(a, LEAVE_SIDE, a->slot);
    if (single) need_single(a, o->rs1);
    if (!is_signed) need_unsigned(a, single, wide, o->rs1);
    int from = use_float(a, o->rs1, XMM0);
    byte(a, single ? 0xf3 : 0xf2);
    two_rr(a, rm == FLOAT_RTZ ? 0x2c : 0x2d, wide || !is_signed, RAX, from); // cvt(t)s2si
    if (is_signed) { // out of range is the least integer
        move_constant(a, RCX, wide ? INT64_MIN : INT32_MIN);
        op_rr(a, CMP, wide, RAX, RCX);
        side_if(a, IF_EQ);
    }
    if (!wide) sign_extend(a, RAX, RAX);
    put(a, o->rd, RAX);
}

static void convert(assembly *a, const operation *o, bool to_single) {
    if (!to_single) need_single(a, o->rs1);
    int from = use_float(a, o->rs1, XMM2);
    sse_rr(a, 0, 0x57, false, XMM0, XMM0);
    sse_rr(a, to_single ? 0xf2 : 0xf3, 0x5a, false, XMM0, from);
    put_result(a, to_single, o->rd);
}

// fsgnj, fsgnjn, fsgnjx: rax = the first, rcx = the second's sign
enum { SIGN_OF, SIGN_NOT, SIGN_XOR };

static void sign_inject(assembly *a, const operation *o, bool single, unsigned kind) {
    unsigned sign = single ? 31 : 63;
    if (single) need_single(a, o->rs1), need_single(a, o->rs2);
    if (kind == SIGN_OF && o->rs1 == o->rs2) {
        put_float(a, o->rd, use_float(a, o->rs1, XMM0));
        return;
    }
    float_to_integer_register(a, RAX, o->rs1);
    float_to_integer_register(a, RCX, o->rs2);
    if (kind == SIGN_NOT) op_rr(a, 0xf7, true, 2, RCX); // not
    shift(a, SHIFT_RIGHT, !single, RCX, sign);
    shift(a, SHIFT_LEFT, true, RCX, sign); // only the sign is left
    if (kind != SIGN_XOR) {
        rex(a, true, 0, 0, RAX); // btr rax, sign
        byte(a, 0x0f);
        byte(a, 0xba);
        modrm(a, 3, 6, RAX);
        byte(a, sign);
    }
    op_rr(a, XOR, true, RAX, RCX);
    integer_register_to_float(a, o->rd, RAX);
}

static void move_to_integer(assembly *a, const operation *o, bool single) {
    float_to_integer_register(a, RAX, o->rs1);
    if (single) sign_extend(a, RAX, RAX);
    put(a, o->rd, RAX);
}

static void box(assembly *a, int reg) { // its upper half is 0
    move_constant(a, RDX, (int64_t)0xffffffff00000000);
    op_rr(a, OR, true, reg, RDX);
}

static void move_from_integer(assembly *a, const operation *o, bool single) {
    if (!single) {
        integer_register_to_float(a, o->rd, use(a, o->rs1, RAX));
        return;
    }
    int from = use(a, o->rs1, RAX);
    op_rr(a, 0x8b, false, RAX, from);
    box(a, RAX);
    integer_register_to_float(a, o->rd, RAX);
}

static void load_float(assembly *a, const operation *o, bool single) {
    probe_tlb(a, o->rs1, o->imm, single ? 4 : 8, offsetof(tlb_entry, read), false);
    address_on_host(a);
    run_site(a);
    if (!single && pinned_floats[o->rd] >= 0) {
        sse_rm(a, 0xf3, 0x7e, pinned_floats[o->rd], RAX, 0);
    } else {
        op_rm(a, 0x8b, !single, RCX, RAX, 0);
        if (single) box(a, RCX);
        integer_register_to_float(a, o->rd, RCX);
    }
    access_done(a);
}

static void store_float(assembly *a, const operation *o, bool single) {
    probe_tlb(a, o->rs1, o->imm, single ? 4 : 8, offsetof(tlb_entry, write), false);
    address_on_host(a);
    bool direct = !single && pinned_floats[o->rs2] >= 0;
    if (!direct) float_to_integer_register(a, RCX, o->rs2);
    run_site(a);
    if (direct)
        sse_rm(a, 0x66, 0xd6, pinned_floats[o->rs2], RAX, 0);
    else
        op_rm(a, 0x89, !single, RCX, RAX, 0);
    access_done(a);
}

// the table

bool host_translates(unsigned opcode) {
    switch (opcode) {
    case OP_fmadd_s:
    case OP_fmadd_d:
    case OP_fmsub_s:
    case OP_fmsub_d:
    case OP_fnmsub_s:
    case OP_fnmsub_d:
    case OP_fnmadd_s:
    case OP_fnmadd_d: return __builtin_cpu_supports("fma");
    }
    return has_template(opcode);
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

// A subroutine: load the guest's registers and set the flags to "equal", if floats may be computed with here.
void float_way_in(assembly *a) {
    uint8_t *out[2];
    op_rm(a, 0x8b, false, RAX, MACHINE, FIELD(s.mstatus));
    op_ri(a, AND, false, RAX, (int32_t)MSTATUS_FS);
    op_ri(a, CMP, false, RAX, (int32_t)MSTATUS_FS);
    out[0] = short_jump(a, IF_NE);
    byte(a, 0x83); // cmp dword [frm], 0
    at_displacement(a, 7, MACHINE, FIELD(s.frm));
    byte(a, 0);
    uint8_t *rounds = short_jump(a, IF_EQ);
    land(a, out[0]);
    byte(a, 0xc3);
    land(a, rounds);
    two_rm(a, 0xae, false, 3, MACHINE, FIELD(host_float_control)); // stmxcsr
    two_rm(a, 0xae, false, 2, MACHINE, FIELD(float_control));      // ldmxcsr
    move_constant(a, RAX, (int64_t)0xffffffff00000000);
    sse_rr(a, 0x66, 0x6e, true, XMM_BOX, RAX);
    for (unsigned f = 0; f < 32; f++)
        if (pinned_floats[f] >= 0) sse_rm(a, 0xf3, 0x7e, pinned_floats[f], MACHINE, float_place(f));
    byte(a, 0xc6); // mov byte [float_ready], 1
    at_displacement(a, 0, MACHINE, FIELD(float_ready));
    byte(a, 1);
    op_rr(a, CMP, false, RAX, RAX);
    byte(a, 0xc3);
}

// Store them, if they were loaded; rax and rdx stay.
void float_way_out(assembly *a) {
    byte(a, 0x80); // cmp byte [float_ready], 0
    at_displacement(a, 7, MACHINE, FIELD(float_ready));
    byte(a, 0);
    byte(a, 0x0f);
    byte(a, 0x80 | IF_EQ);
    uint8_t *over = a->at;
    a->at += 4;
    two_rm(a, 0xae, false, 3, MACHINE, FIELD(float_status));
    two_rm(a, 0xae, false, 2, MACHINE, FIELD(host_float_control));
    for (unsigned f = 0; f < 32; f++)
        if (pinned_floats[f] >= 0) sse_rm(a, 0x66, 0xd6, pinned_floats[f], MACHINE, float_place(f));
    uint32_t distance = (uint32_t)(a->at - over - 4);
    memcpy(over, &distance, 4);
}

// What float_way_out left, or the registers of a fault.
void host_gather_flags(machine *m, uint32_t status) {
    static const uint8_t flags[6] = {FLOAT_NV, 0, FLOAT_DZ, FLOAT_OF, FLOAT_UF, FLOAT_NX};
    for (unsigned bit = 0; bit < 6; bit++)
        if (status >> bit & 1) m->s.fflags |= flags[bit];
    m->float_ready = false;
}

void host_unspill_floats(machine *m, const uint64_t *registers) {
    if (!m->float_ready) return;
    for (unsigned f = 0; f < 32; f++)
        if (pinned_floats[f] >= 0) m->s.f[f] = registers[HOST_FLOAT + (unsigned)pinned_floats[f]];
    host_gather_flags(m, (uint32_t)registers[HOST_FLOAT_STATUS]);
    __asm__ volatile("ldmxcsr %0" : : "m"(m->host_float_control));
}

#endif
