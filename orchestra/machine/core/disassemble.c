/* disassemble.c: instruction words as text, from the operands column of isa.def; no stdio. */
#include "machine.h"

static const char *const x_names[32] = {"zero", "ra", "sp", "gp", "tp",  "t0",  "t1", "t2", "s0", "s1", "a0",
                                        "a1",   "a2", "a3", "a4", "a5",  "a6",  "a7", "s2", "s3", "s4", "s5",
                                        "s6",   "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"};
static const char *const f_names[32] = {"ft0", "ft1", "ft2",  "ft3",  "ft4", "ft5", "ft6",  "ft7",
                                        "fs0", "fs1", "fa0",  "fa1",  "fa2", "fa3", "fa4",  "fa5",
                                        "fa6", "fa7", "fs2",  "fs3",  "fs4", "fs5", "fs6",  "fs7",
                                        "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11"};
static const char *const orders[4] = {"", ".rl", ".aq", ".aqrl"};
static const char *const rounding[8] = {"rne", "rtz", "rdn", "rup", "rmm", "?", "?", "?"};

enum { AMO = 0x2f, DYNAMIC = 7 };

typedef struct {
    char *to;
    unsigned left;
} text;

static void put(text *t, const char *string) {
    while (*string && t->left > 1) *t->to++ = *string++, t->left--;
    *t->to = 0;
}

static void put_number(text *t, uint64_t value, unsigned base) {
    char digits[24];
    unsigned i = sizeof digits;
    digits[--i] = 0;
    do digits[--i] = "0123456789abcdef"[value % base];
    while ((value /= base) && i);
    if (base == 16) put(t, "0x");
    put(t, digits + i);
}

static void put_signed(text *t, int64_t value) {
    if (value < 0) put(t, "-");
    put_number(t, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
}

static bool operand(text *t, const char *name, size_t length, uint32_t word, int32_t imm, uint64_t pc) {
    unsigned rd = word >> 7 & 31, rs1 = word >> 15 & 31, rs2 = word >> 20 & 31;
#define IS(literal) (length == sizeof(literal) - 1 && !strncmp(name, literal, length))
    if (IS("rd"))
        put(t, x_names[rd]);
    else if (IS("rs1"))
        put(t, x_names[rs1]);
    else if (IS("rs2"))
        put(t, x_names[rs2]);
    else if (IS("fd"))
        put(t, f_names[rd]);
    else if (IS("fs1"))
        put(t, f_names[rs1]);
    else if (IS("fs2"))
        put(t, f_names[rs2]);
    else if (IS("fs3"))
        put(t, f_names[word >> 27]);
    else if (IS("rm"))
        put(t, rounding[word >> 12 & 7]);
    else if (IS("imm") || IS("shamt"))
        put_signed(t, imm);
    else if (IS("u20"))
        put_number(t, (uint32_t)imm >> 12, 16);
    else if (IS("zimm"))
        put_number(t, rs1, 10);
    else if (IS("target"))
        put_number(t, pc + (uint64_t)(int64_t)imm, 16);
    else if (IS("csr"))
        csr_name((unsigned)imm) ? put(t, csr_name((unsigned)imm)) : put_number(t, (unsigned)imm, 16);
    else
        return false;
#undef IS
    return true;
}

// Writes at most `capacity` bytes with the closing zero; returns the instruction's length in bytes.
unsigned disassemble(board *b, uint32_t raw, uint64_t pc, char *out, unsigned capacity) {
    text t = {out, capacity};
    bool wide = (raw & 3) == 3;
    uint32_t word = wide ? raw : decode_expand(b, (uint16_t)raw);
    unsigned op = word ? decode_opcode(b, word) : OP_illegal;
    operation o;
    decode_operation(b, raw, 0, true, &o);
    for (const char *c = instructions[op].name; *c; c++) {
        char letter[2] = {*c == '_' ? '.' : *c, 0};
        put(&t, letter);
    }
    if ((word & 0x7f) == AMO) put(&t, orders[word >> 25 & 3]);
    const char *c = instructions[op].operands;
    if (*c) put(&t, " ");
    while (*c) {
        size_t length = strcspn(c, ",()");
        if (length && !operand(&t, c, length, word, o.imm, pc)) put(&t, "?");
        c += length;
        if (!strcmp(c, ",rm") && (word >> 12 & 7) == DYNAMIC) break;
        if (*c) {
            char letter[2] = {*c++, 0};
            put(&t, letter);
        }
    }
    return wide ? 4 : 2;
}

const char *instruction_name(unsigned op) { return op < OP_COUNT ? instructions[op].name : NULL; }

const char *instruction_operands(unsigned op) { return instructions[op].operands; }

uint32_t instruction_match(unsigned op) { return instructions[op].match; }

uint32_t instruction_mask(unsigned op) { return instructions[op].mask; }

uint32_t instruction_extension(unsigned op) { return instructions[op].extension; }
