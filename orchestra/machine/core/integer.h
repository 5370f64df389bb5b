/* integer.h: the corner cases of the M and B extensions, in one place. */
#ifndef ORCHESTRA_INTEGER_H
#define ORCHESTRA_INTEGER_H

#include <stdint.h>

static inline uint64_t integer_mulh(int64_t a, int64_t b) { return (uint64_t)(((__int128)a * b) >> 64); }

static inline uint64_t integer_mulhsu(int64_t a, uint64_t b) {
    return (uint64_t)(((__int128)a * (__int128)b) >> 64);
}

static inline uint64_t integer_mulhu(uint64_t a, uint64_t b) {
    return (uint64_t)(((unsigned __int128)a * b) >> 64);
}

static inline uint64_t integer_div(int64_t a, int64_t b) {
    if (b == 0) return ~0ull;
    return b == -1 ? 0 - (uint64_t)a : (uint64_t)(a / b);
}

static inline uint64_t integer_rem(int64_t a, int64_t b) {
    if (b == 0) return (uint64_t)a;
    return b == -1 ? 0 : (uint64_t)(a % b);
}

static inline uint64_t integer_ror(uint64_t a, uint64_t by) { return a >> (by & 63) | a << (-by & 63); }

static inline uint64_t integer_rorw(uint64_t a, uint64_t by) {
    uint32_t word = (uint32_t)a;
    return (uint64_t)(int64_t)(int32_t)(word >> (by & 31) | word << (-by & 31));
}

// Every byte that is not zero becomes all ones.
static inline uint64_t integer_orc_b(uint64_t a) {
    const uint64_t low = 0x0101010101010101ull;
    a |= a >> 4 & low * 15; // each shift keeps to its byte
    a |= a >> 2 & low * 3;
    return ((a | a >> 1) & low) * 255;
}

#endif
