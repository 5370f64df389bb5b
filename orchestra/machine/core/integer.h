/* integer.h: the M extension's corner cases, in one place. */
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

#endif
