/* float_fast.h: float.h's operations on the host's floating-point unit, where that is exactly the same. */
#ifndef ORCHESTRA_FLOAT_FAST_H
#define ORCHESTRA_FLOAT_FAST_H

#include <float.h>
#include <string.h>

#include "float.h"

/* Each fast_NAME returns what NAME of float.c returns and raises the flags that NAME raises, bit for bit:
   tests/machine/core/float_fast.c compares them. The host is asked only

   - when the rounding mode is RNE, which the host is in while a machine runs (fast_begin);
   - when operands are zero or of middling size, and so is the result: then nothing overflows or becomes
     subnormal, neither the result nor the errors computed below, and flush-to-zero does not matter;
   - and what is left to know is whether the result is exact. The host's flags are never read, which would
     take longer than computing in integers. Instead: the error of a sum is a sum of differences (Knuth's
     TwoSum, exact here); a product is exact when the bits below the result's are zero; a quotient or root
     is exact when multiplying gives the operand back.

   *flags holds the flags accrued so far, so that exactness is looked into only while NX is not set. */

#define FAST static inline __attribute__((always_inline))

/* On hosts that compute in wider registers (x87) everything is left to float.c. */
#if FLT_EVAL_METHOD == 0
#    define FAST_HOST true
#else
#    define FAST_HOST false
#endif

/* The host's modes: other code of this process may have set its own. */
#if defined(__SSE2__)
typedef unsigned fast_modes;
FAST fast_modes fast_begin(void) {
    fast_modes before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(0x1f80); /* to nearest, no traps */
    return before;
}
FAST void fast_end(fast_modes before) { __builtin_ia32_ldmxcsr(before); }
#elif defined(__aarch64__)
typedef struct {
    uint64_t control, status;
} fast_modes;
FAST fast_modes fast_begin(void) {
    fast_modes before;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(before.control), "=r"(before.status));
    __asm__ volatile("msr fpcr, xzr" : : : "memory");
    return before;
}
FAST void fast_end(fast_modes before) {
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(before.control), "r"(before.status) : "memory");
}
#else
#    include <fenv.h>
typedef fenv_t fast_modes;
FAST fast_modes fast_begin(void) {
    fast_modes before;
    fegetenv(&before);
    fesetenv(FE_DFL_ENV);
    return before;
}
FAST void fast_end(fast_modes before) { fesetenv(&before); }
#endif

FAST double fast_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FAST uint64_t fast_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

FAST float fast_single(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

FAST uint32_t fast_bits32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Middling: a last bit that is far above the smallest number, and far below the largest. */
FAST bool fast_middling64(uint64_t a) { return (a >> 52 & 0x7ff) - 128 < 2047 - 256; }
FAST bool fast_middling32(uint32_t a) { return (a >> 23 & 0xff) - 32 < 255 - 64; }
FAST bool fast_zero64(uint64_t a) { return a << 1 == 0; }
FAST bool fast_zero32(uint32_t a) { return a << 1 == 0; }
FAST bool fast_fits64(uint64_t a) { return fast_middling64(a) || fast_zero64(a); }
FAST bool fast_fits32(uint32_t a) { return fast_middling32(a) || fast_zero32(a); }

/* ---- binary64 ---- */

/* What rounding took from the sum of a and b. */
FAST double fast_sum_error(double a, double b, double sum) {
    double of_b = sum - a;
    return (a - (sum - of_b)) + (b - of_b);
}

/* Has the product of two middling numbers more bits than fit? */
FAST bool fast_product_rounds(uint64_t a, uint64_t b) {
    const uint64_t hidden = UINT64_C(1) << 52;
    __extension__ unsigned __int128 product =
        (unsigned __int128)((a & (hidden - 1)) | hidden) * ((b & (hidden - 1)) | hidden);
    return (uint64_t)product << (product >> 105 ? 11 : 12); /* 53 or 52 bits are below the last kept one */
}

FAST uint64_t fast_f64_add(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_fits64(a) && fast_fits64(b))) return f64_add(a, b, rm, flags);
    double x = fast_double(a), y = fast_double(b), sum = x + y;
    if (!(*flags & FLOAT_NX) && fast_sum_error(x, y, sum) != 0) *flags |= FLOAT_NX;
    return fast_bits(sum);
}

FAST uint64_t fast_f64_sub(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags) {
    return fast_f64_add(a, b ^ UINT64_C(1) << 63, rm, flags);
}

FAST uint64_t fast_f64_mul(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_fits64(a) && fast_fits64(b))) return f64_mul(a, b, rm, flags);
    uint64_t product = fast_bits(fast_double(a) * fast_double(b));
    if (fast_middling64(product)) {
        if (!(*flags & FLOAT_NX) && fast_product_rounds(a, b)) *flags |= FLOAT_NX;
        return product;
    }
    return fast_zero64(a) || fast_zero64(b) ? product : f64_mul(a, b, rm, flags);
}

FAST uint64_t fast_f64_div(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_middling64(a) && fast_middling64(b)))
        return f64_div(a, b, rm, flags);
    double quotient = fast_double(a) / fast_double(b);
    uint64_t bits = fast_bits(quotient);
    if (!fast_middling64(bits)) return f64_div(a, b, rm, flags);
    if (!(*flags & FLOAT_NX) && (fast_product_rounds(bits, b) || quotient * fast_double(b) != fast_double(a)))
        *flags |= FLOAT_NX;
    return bits;
}

FAST uint64_t fast_f64_sqrt(uint64_t a, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_middling64(a) && !(a >> 63))) return f64_sqrt(a, rm, flags);
    double root = __builtin_sqrt(fast_double(a));
    uint64_t bits = fast_bits(root);
    if (!(*flags & FLOAT_NX) && (fast_product_rounds(bits, bits) || root * root != fast_double(a)))
        *flags |= FLOAT_NX;
    return bits;
}

#if defined(__FP_FAST_FMA)
FAST bool fast_has_fma(void) { return true; }
FAST double fast_fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
#elif defined(__x86_64__) && defined(__GNUC__)
FAST bool fast_has_fma(void) { return __builtin_cpu_supports("fma"); }
static __attribute__((noinline, unused, target("fma"))) double fast_fused(double a, double b, double c) {
    return __builtin_fma(a, b, c);
}
#else
FAST bool fast_has_fma(void) { return false; }
FAST double fast_fused(double a, double b, double c) { return a * b + c; }
#endif

FAST uint64_t fast_f64_fma(uint64_t a, uint64_t b, uint64_t c, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_fits64(a) && fast_fits64(b) && fast_fits64(c)))
        return f64_fma(a, b, c, rm, flags);
    if ((*flags & FLOAT_NX) && fast_has_fma()) { /* whatever the product's size, only the result is rounded */
        uint64_t bits = fast_bits(fast_fused(fast_double(a), fast_double(b), fast_double(c)));
        return fast_middling64(bits) ? bits : f64_fma(a, b, c, rm, flags);
    }
    double product = fast_double(a) * fast_double(b); /* exact products are added like any number */
    bool zero = fast_zero64(a) || fast_zero64(b);
    if (!zero && (!fast_middling64(fast_bits(product)) || fast_product_rounds(a, b)))
        return f64_fma(a, b, c, rm, flags);
    return fast_f64_add(fast_bits(product), c, rm, flags);
}

/* ---- binary32: products are exact in binary64 ---- */

FAST uint32_t fast_round32(double exact, uint32_t *flags, bool *fits) {
    float rounded = (float)exact;
    *fits = fast_fits32(fast_bits32(rounded)) && (rounded != 0 || exact == 0);
    if (*fits && (double)rounded != exact) *flags |= FLOAT_NX;
    return fast_bits32(rounded);
}

FAST uint32_t fast_f32_add(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_fits32(a) && fast_fits32(b))) return f32_add(a, b, rm, flags);
    float x = fast_single(a), y = fast_single(b), sum = x + y;
    if (!(*flags & FLOAT_NX)) {
        float of_y = sum - x;
        if ((x - (sum - of_y)) + (y - of_y) != 0) *flags |= FLOAT_NX;
    }
    return fast_bits32(sum);
}

FAST uint32_t fast_f32_sub(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags) {
    return fast_f32_add(a, b ^ UINT32_C(1) << 31, rm, flags);
}

FAST uint32_t fast_f32_mul(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags) {
    bool fits = FAST_HOST && rm == FLOAT_RNE && fast_fits32(a) && fast_fits32(b);
    if (!fits) return f32_mul(a, b, rm, flags);
    uint32_t bits = fast_round32((double)fast_single(a) * (double)fast_single(b), flags, &fits);
    return fits ? bits : f32_mul(a, b, rm, flags);
}

FAST uint32_t fast_f32_div(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_middling32(a) && fast_middling32(b)))
        return f32_div(a, b, rm, flags);
    float quotient = fast_single(a) / fast_single(b);
    if (!fast_middling32(fast_bits32(quotient))) return f32_div(a, b, rm, flags);
    if ((double)quotient * (double)fast_single(b) != (double)fast_single(a)) *flags |= FLOAT_NX;
    return fast_bits32(quotient);
}

FAST uint32_t fast_f32_sqrt(uint32_t a, unsigned rm, uint32_t *flags) {
    if (!(FAST_HOST && rm == FLOAT_RNE && fast_middling32(a) && !(a >> 31))) return f32_sqrt(a, rm, flags);
    float root = __builtin_sqrtf(fast_single(a));
    if ((double)root * (double)root != (double)fast_single(a)) *flags |= FLOAT_NX;
    return fast_bits32(root);
}

FAST uint32_t fast_f32_fma(uint32_t a, uint32_t b, uint32_t c, unsigned rm, uint32_t *flags) {
    bool fits = FAST_HOST && rm == FLOAT_RNE && fast_fits32(a) && fast_fits32(b) && fast_fits32(c);
    if (!fits) return f32_fma(a, b, c, rm, flags);
    double product = (double)fast_single(a) * (double)fast_single(b), addend = (double)fast_single(c);
    double sum = product + addend, error = fast_sum_error(product, addend, sum);
    if (error != 0) { /* round to odd first: rounding again then cannot tell it from the exact sum */
        uint64_t odd = fast_bits(sum);
        odd -= (error < 0) != (sum < 0);
        sum = fast_double(odd | 1);
    }
    uint32_t bits = fast_round32(sum, flags, &fits);
    return fits ? bits : f32_fma(a, b, c, rm, flags);
}

/* ---- conversions ---- */

FAST uint64_t fast_f64_from_i64(int64_t a, unsigned rm, uint32_t *flags) {
    const int64_t limit = INT64_C(1) << 53;
    return a > -limit && a < limit ? fast_bits((double)a) : f64_from_i64(a, rm, flags);
}

FAST uint64_t fast_f64_from_f32(uint32_t a, uint32_t *flags) {
    return fast_fits32(a) ? fast_bits((double)fast_single(a)) : f64_from_f32(a, flags);
}

FAST uint32_t fast_f32_from_f64(uint64_t a, unsigned rm, uint32_t *flags) {
    bool fits = FAST_HOST && rm == FLOAT_RNE && fast_fits64(a);
    if (!fits) return f32_from_f64(a, rm, flags);
    uint32_t bits = fast_round32(fast_double(a), flags, &fits);
    return fits ? bits : f32_from_f64(a, rm, flags);
}

/* Towards zero, as C does: where the whole part fits into `type` with room to spare. */
#define FAST_TO_INTEGER(type, name, largest)                                                                 \
    FAST type fast_f64_to_##name(uint64_t a, unsigned rm, uint32_t *flags) {                                 \
        double value = fast_double(a);                                                                       \
        if (!(rm == FLOAT_RTZ && value > -(largest) && value < (largest) && fast_fits64(a)))                 \
            return f64_to_##name(a, rm, flags);                                                              \
        type whole = (type)value;                                                                            \
        if ((double)whole != value) *flags |= FLOAT_NX;                                                      \
        return whole;                                                                                        \
    }
FAST_TO_INTEGER(int32_t, i32, 2147483647.0)
FAST_TO_INTEGER(int64_t, i64, 4503599627370496.0)
#undef FAST_TO_INTEGER

#endif
