/* expand.c: compressed instructions as the 32-bit ones that they stand for (The RISC-V Instruction Set
 * Manual, volume I, chapters "C" and "Zc"). */
#include "machine.h"

static uint32_t bits(uint32_t word, unsigned high, unsigned low, unsigned to) {
    return ((word >> low) & ((1u << (high - low + 1)) - 1)) << to;
}

static uint32_t type_r(uint32_t match, uint32_t rd, uint32_t rs1, uint32_t rs2) {
    return match | rd << 7 | rs1 << 15 | rs2 << 20;
}

static uint32_t type_i(uint32_t match, uint32_t rd, uint32_t rs1, uint32_t imm) {
    return match | rd << 7 | rs1 << 15 | imm << 20;
}

static uint32_t type_s(uint32_t match, uint32_t rs1, uint32_t rs2, uint32_t imm) {
    return match | rs1 << 15 | rs2 << 20 | (imm & 31) << 7 | (imm >> 5) << 25;
}

static uint32_t type_b(uint32_t match, uint32_t rs1, uint32_t imm) {
    return match | rs1 << 15 | bits(imm, 4, 1, 8) | bits(imm, 11, 11, 7) | bits(imm, 10, 5, 25) |
           bits(imm, 12, 12, 31);
}

static uint32_t type_j(uint32_t match, uint32_t imm) {
    return match | bits(imm, 19, 12, 12) | bits(imm, 11, 11, 20) | bits(imm, 10, 1, 21) |
           bits(imm, 20, 20, 31);
}

// Zcb, where the sixteen-bit code space was free
static uint32_t expand_zcb(uint32_t w, uint32_t high, uint32_t low) {
    enum {
        LBU = 0x4003,
        LHU = 0x5003,
        LH = 0x1003,
        SB = 0x23,
        SH = 0x1023,
        MUL = 0x02000033,
        ANDI = 0x7013,
        XORI = 0x4013,
        SEXT_B = 0x60401013,
        SEXT_H = 0x60501013,
        ZEXT_H = 0x0800403b,
        ADD_UW = 0x0800003b
    };
    uint32_t byte = bits(w, 6, 6, 0) | bits(w, 5, 5, 1), half = bits(w, 5, 5, 1);
    if ((w & 3) == 0) {
        switch (bits(w, 12, 10, 1) | bits(w, 6, 6, 0)) {
        case 0:
        case 1: return type_i(LBU, low, high, byte);
        case 2: return type_i(LHU, low, high, half);
        case 3: return type_i(LH, low, high, half);
        case 4:
        case 5: return type_s(SB, high, low, byte);
        case 6: return type_s(SH, high, low, half);
        }
        return 0;
    }
    if (bits(w, 6, 5, 0) == 2) return type_r(MUL, high, high, low);
    switch (bits(w, 4, 2, 0)) {
    case 0: return type_i(ANDI, high, high, 255);
    case 1: return type_r(SEXT_B, high, high, 0);
    case 2: return type_r(ZEXT_H, high, high, 0);
    case 3: return type_r(SEXT_H, high, high, 0);
    case 4: return type_r(ADD_UW, high, high, 0);
    case 5: return type_i(XORI, high, high, 0xfff);
    }
    return 0;
}

uint32_t decode_expand(const board *b, uint16_t half) {
    enum {
        ADDI = 0x13,
        ADDIW = 0x1b,
        LUI = 0x37,
        LW = 0x2003,
        LD = 0x3003,
        FLD = 0x3007,
        SW = 0x2023,
        SD = 0x3023,
        FSD = 0x3027,
        JAL = 0x6f,
        JALR = 0x67,
        BEQ = 0x63,
        BNE = 0x1063,
        SLLI = 0x1013,
        SRLI = 0x5013,
        SRAI = 0x40005013,
        ANDI = 0x7013,
        ADD = 0x33,
        SUB = 0x40000033,
        XOR = 0x4033,
        OR = 0x6033,
        AND = 0x7033,
        ADDW = 0x3b,
        SUBW = 0x4000003b,
        EBREAK = 0x100073
    };
    uint32_t w = half;
    uint32_t rd = bits(w, 11, 7, 0), rs2 = bits(w, 6, 2, 0);          // full register fields
    uint32_t low = bits(w, 4, 2, 0) + 8, high = bits(w, 9, 7, 0) + 8; // the three-bit ones
    bool zcb = b->decoder->extensions & EXTENSION_zcb;
    uint32_t sign = 0u - (w >> 12 & 1);
    uint32_t imm6 = bits(w, 6, 2, 0) | (sign << 5), shamt = bits(w, 6, 2, 0) | bits(w, 12, 12, 5);
    uint32_t word4 = bits(w, 12, 10, 3) | bits(w, 6, 6, 2) | bits(w, 5, 5, 6);  // c.lw, c.sw
    uint32_t word8 = bits(w, 12, 10, 3) | bits(w, 6, 5, 6);                     // c.ld, c.sd, c.fld, c.fsd
    uint32_t stack4 = bits(w, 12, 12, 5) | bits(w, 6, 4, 2) | bits(w, 3, 2, 6); // c.lwsp
    uint32_t stack8 = bits(w, 12, 12, 5) | bits(w, 6, 5, 3) | bits(w, 4, 2, 6); // c.ldsp, c.fldsp
    switch ((w & 3) << 3 | w >> 13) {
    case 000: {
        uint32_t imm = bits(w, 12, 11, 4) | bits(w, 10, 7, 6) | bits(w, 6, 6, 2) | bits(w, 5, 5, 3);
        return imm ? type_i(ADDI, low, 2, imm) : 0;
    }
    case 001: return type_i(FLD, low, high, word8);
    case 002: return type_i(LW, low, high, word4);
    case 003: return type_i(LD, low, high, word8);
    case 004: return zcb ? expand_zcb(w, high, low) : 0;
    case 005: return type_s(FSD, high, low, word8);
    case 006: return type_s(SW, high, low, word4);
    case 007: return type_s(SD, high, low, word8);
    case 010: return type_i(ADDI, rd, rd, imm6);
    case 011: return rd ? type_i(ADDIW, rd, rd, imm6) : 0;
    case 012: return type_i(ADDI, rd, 0, imm6);
    case 013:
        if (!(imm6 & 63)) return 0;
        if (rd != 2) return LUI | rd << 7 | imm6 << 12;
        return type_i(ADDI, 2, 2,
                      bits(w, 6, 6, 4) | bits(w, 2, 2, 5) | bits(w, 5, 5, 6) | bits(w, 4, 3, 7) |
                          (sign << 9));
    case 014:
        switch (bits(w, 11, 10, 0)) {
        case 0: return type_i(SRLI, high, high, shamt);
        case 1: return type_i(SRAI, high, high, shamt);
        case 2: return type_i(ANDI, high, high, imm6);
        }
        switch (bits(w, 12, 12, 2) | bits(w, 6, 5, 0)) {
        case 0: return type_r(SUB, high, high, low);
        case 1: return type_r(XOR, high, high, low);
        case 2: return type_r(OR, high, high, low);
        case 3: return type_r(AND, high, high, low);
        case 4: return type_r(SUBW, high, high, low);
        case 5: return type_r(ADDW, high, high, low);
        }
        return zcb ? expand_zcb(w, high, low) : 0;
    case 015:
        return type_j(JAL, bits(w, 11, 11, 4) | bits(w, 10, 9, 8) | bits(w, 8, 8, 10) | bits(w, 7, 7, 6) |
                               bits(w, 6, 6, 7) | bits(w, 5, 3, 1) | bits(w, 2, 2, 5) | (sign << 11));
    case 016:
    case 017:
        return type_b(w >> 13 & 1 ? BNE : BEQ, high,
                      bits(w, 11, 10, 3) | bits(w, 6, 5, 6) | bits(w, 4, 3, 1) | bits(w, 2, 2, 5) |
                          (sign << 8));
    case 020: return type_i(SLLI, rd, rd, shamt);
    case 021: return type_i(FLD, rd, 2, stack8);
    case 022: return rd ? type_i(LW, rd, 2, stack4) : 0;
    case 023: return rd ? type_i(LD, rd, 2, stack8) : 0;
    case 024:
        if (!(w >> 12 & 1)) return rs2 ? type_r(ADD, rd, 0, rs2) : rd ? type_i(JALR, 0, rd, 0) : 0;
        if (rs2) return type_r(ADD, rd, rd, rs2);
        return rd ? type_i(JALR, 1, rd, 0) : EBREAK;
    case 025: return type_s(FSD, 2, rs2, bits(w, 12, 10, 3) | bits(w, 9, 7, 6));
    case 026: return type_s(SW, 2, rs2, bits(w, 12, 9, 2) | bits(w, 8, 7, 6));
    case 027: return type_s(SD, 2, rs2, bits(w, 12, 10, 3) | bits(w, 9, 7, 6));
    }
    return 0;
}
