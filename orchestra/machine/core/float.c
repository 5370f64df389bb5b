/* IEEE-754 binary32 and binary64 in integers only: the reference every faster path must agree with. */
#include "float.h"

/* One implementation serves both formats: every helper is inlined with a constant Format, so that
   shifts and masks fold. Patterns of both formats travel as uint64_t. No host floating point here. */
#define INLINE      static inline __attribute__((always_inline))
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

__extension__ typedef unsigned __int128 u128;

/* ---- formats and patterns ---- */

typedef struct {
    int width;    /* bits of a pattern */
    int fraction; /* stored bits of the significand */
    int bias;     /* also the largest exponent of a finite number */
} Format;

static const Format BINARY32 = {32, 23, 127};
static const Format BINARY64 = {64, 52, 1023};

INLINE uint64_t sign_bit(Format f) { return UINT64_C(1) << (f.width - 1); }
INLINE uint64_t infinity(Format f) { return (uint64_t)(2 * f.bias + 1) << f.fraction; }
INLINE uint64_t quiet_bit(Format f) { return UINT64_C(1) << (f.fraction - 1); }
INLINE uint64_t canonical_nan(Format f) { return infinity(f) | quiet_bit(f); }

INLINE bool is_negative(Format f, uint64_t a) { return a >> (f.width - 1) != 0; }
INLINE uint64_t magnitude(Format f, uint64_t a) { return a & (sign_bit(f) - 1); }
INLINE uint64_t with_sign(Format f, bool sign, uint64_t a) { return (uint64_t)sign << (f.width - 1) | a; }
INLINE bool is_infinite(Format f, uint64_t a) { return magnitude(f, a) == infinity(f); }
INLINE bool is_nan(Format f, uint64_t a) { return magnitude(f, a) > infinity(f); }
INLINE bool is_signaling(Format f, uint64_t a) { return is_nan(f, a) && !(a & quiet_bit(f)); }
INLINE bool is_special(Format f, uint64_t a) { return magnitude(f, a) >= infinity(f); }

INLINE uint64_t invalid(Format f, uint32_t *flags) {
    *flags |= FLOAT_NV;
    return canonical_nan(f);
}

/* The result of an operation that has a NaN among its operands (pass one twice if there are fewer). */
INLINE uint64_t nan_result(Format f, uint64_t a, uint64_t b, uint32_t *flags) {
    if (is_signaling(f, a) || is_signaling(f, b)) *flags |= FLOAT_NV;
    return canonical_nan(f);
}

/* ---- finite numbers, unpacked ---- */

/* The value is +-significand * 2^(exponent - 62): a normalised significand has bit 62 as its leading one.
   Zero has significand 0 and an exponent far below every other, so that sums need no case for it. */
typedef struct {
    uint64_t significand;
    int exponent;
    bool sign;
} Number;

enum { LEADING = 62, ZERO_EXPONENT = -10000 };

INLINE Number unpack(Format f, uint64_t a) {
    const uint64_t hidden = UINT64_C(1) << f.fraction;
    uint64_t fraction = a & (hidden - 1);
    int biased = (int)(magnitude(f, a) >> f.fraction);
    bool sign = is_negative(f, a);

    if (biased != 0) return (Number){(hidden | fraction) << (LEADING - f.fraction), biased - f.bias, sign};
    if (fraction == 0) return (Number){0, ZERO_EXPONENT, sign};
    int zeros = __builtin_clzll(fraction) - (63 - LEADING);
    return (Number){fraction << zeros, 1 - f.bias + (LEADING - f.fraction) - zeros, sign};
}

/* Shift right by n >= 0; bits shifted out leave a sticky one in bit 0, so that rounding stays correct. */
INLINE uint64_t shift_sticky(uint64_t value, int n) {
    if (n > 63) return value != 0;
    return value >> n | ((value & ((UINT64_C(1) << n) - 1)) != 0);
}

INLINE u128 shift_sticky_128(u128 value, int n) {
    if (n > 127) return value != 0;
    return value >> n | ((value & (((u128)1 << n) - 1)) != 0);
}

/* What to add below the last kept bit (whose half is `half`) so that truncating then rounds by `rm`. */
INLINE uint64_t increment(unsigned rm, bool sign, bool odd, uint64_t half) {
    if (rm == FLOAT_RNE) return half - 1 + odd;
    if (rm == FLOAT_RMM) return half;
    return rm == (sign ? FLOAT_RDN : FLOAT_RUP) ? 2 * half - 1 : 0;
}

/* Round a nonzero number of any alignment to the format. Bit 0 may be sticky if the leading one is at
   bit fraction + 2 or above. */
INLINE uint64_t pack(Format f, Number x, unsigned rm, uint32_t *flags) {
    const int spare = 63 - f.fraction; /* bits below the last kept one, when the leading one is bit 63 */
    const uint64_t half = UINT64_C(1) << (spare - 1), below = 2 * half - 1;
    const int zeros = __builtin_clzll(x.significand);
    uint64_t significand = x.significand << zeros;
    uint64_t up = increment(rm, x.sign, significand >> spare & 1, half);
    int biased = x.exponent + f.bias + (63 - LEADING) - zeros;
    uint32_t inexact = FLOAT_NX;

    if (UNLIKELY(biased < 1)) {
        /* Tiny unless rounding with an unbounded exponent would carry it up to the smallest normal. */
        if (biased < 0 || significand <= UINT64_MAX - up) inexact = FLOAT_NX | FLOAT_UF;
        significand = shift_sticky(significand, 1 - biased);
        up = increment(rm, x.sign, significand >> spare & 1, half);
        biased = 1;
    }
    /* The leading one, where there is one, adds itself to the exponent field; so does a carry. */
    uint64_t result = ((uint64_t)(biased - 1) << f.fraction) + (significand >> spare);
    result += ((significand & below) + up) >> spare;
    if (UNLIKELY(result >= infinity(f))) {
        *flags |= FLOAT_OF | FLOAT_NX;
        return with_sign(f, x.sign, infinity(f) - (up == 0)); /* up is 0 only when rounding towards zero */
    }
    if (significand & below) *flags |= inexact;
    return with_sign(f, x.sign, result);
}

/* ---- arithmetic ---- */

/* The sign of a sum that is zero: that of both addends if they agree, else + except when rounding down. */
INLINE uint64_t zero_sum(Format f, bool a, bool b, unsigned rm) {
    return with_sign(f, a == b ? a : rm == FLOAT_RDN, 0);
}

INLINE uint64_t add_special(Format f, uint64_t a, uint64_t b, uint32_t *flags) {
    if (is_nan(f, a) || is_nan(f, b)) return nan_result(f, a, b, flags);
    if (!is_infinite(f, a)) return b;
    if (is_infinite(f, b) && a != b) return invalid(f, flags);
    return a;
}

INLINE uint64_t add(Format f, uint64_t a, uint64_t b, unsigned rm, uint32_t *flags) {
    if (UNLIKELY(is_special(f, a) || is_special(f, b))) return add_special(f, a, b, flags);
    Number x = unpack(f, a), y = unpack(f, b);
    if (x.exponent < y.exponent) {
        Number swap = x;
        x = y;
        y = swap;
    }
    y.significand = shift_sticky(y.significand, x.exponent - y.exponent);
    if (x.sign == y.sign) {
        x.significand += y.significand;
    } else if (x.significand >= y.significand) {
        x.significand -= y.significand;
    } else {
        y.significand -= x.significand;
        x.significand = y.significand;
        x.sign = y.sign;
    }
    if (x.significand == 0) return zero_sum(f, x.sign, y.sign, rm);
    return pack(f, x, rm, flags);
}

INLINE uint64_t mul(Format f, uint64_t a, uint64_t b, unsigned rm, uint32_t *flags) {
    bool sign = is_negative(f, a ^ b);
    if (UNLIKELY(is_special(f, a) || is_special(f, b))) {
        if (is_nan(f, a) || is_nan(f, b)) return nan_result(f, a, b, flags);
        if (magnitude(f, a) == 0 || magnitude(f, b) == 0) return invalid(f, flags);
        return with_sign(f, sign, infinity(f));
    }
    Number x = unpack(f, a), y = unpack(f, b);
    u128 product = (u128)(x.significand << 1) * (y.significand << 1);
    uint64_t significand = (uint64_t)(product >> 64) | ((uint64_t)product != 0);
    if (significand == 0) return with_sign(f, sign, 0);
    return pack(f, (Number){significand, x.exponent + y.exponent, sign}, rm, flags);
}

/* The quotient of two normalised significands, in units of 2^-62. */
INLINE uint64_t quotient(Format f, uint64_t x, uint64_t y) {
    if (f.width == 32) {
        uint64_t divisor = y >> (LEADING - 23);
        return x / divisor << 23 | (x % divisor != 0);
    }
    u128 dividend = (u128)x << LEADING;
    uint64_t whole = (uint64_t)(dividend / y);
    return whole | ((uint64_t)dividend != whole * y); /* the remainder is below 2^64 */
}

INLINE uint64_t divide(Format f, uint64_t a, uint64_t b, unsigned rm, uint32_t *flags) {
    bool sign = is_negative(f, a ^ b);
    if (UNLIKELY(is_special(f, a) || is_special(f, b))) {
        if (is_nan(f, a) || is_nan(f, b)) return nan_result(f, a, b, flags);
        if (is_infinite(f, b)) return is_infinite(f, a) ? invalid(f, flags) : with_sign(f, sign, 0);
        return with_sign(f, sign, infinity(f));
    }
    Number x = unpack(f, a), y = unpack(f, b);
    if (UNLIKELY(y.significand == 0)) {
        if (x.significand == 0) return invalid(f, flags);
        *flags |= FLOAT_DZ;
        return with_sign(f, sign, infinity(f));
    }
    if (x.significand == 0) return with_sign(f, sign, 0);
    uint64_t significand = quotient(f, x.significand, y.significand);
    return pack(f, (Number){significand, x.exponent - y.exponent, sign}, rm, flags);
}

/* floor(sqrt(m) * 2^54), for m in [1, 4) given in units of 2^-62; *exact says whether nothing was cut.
   1/sqrt(m) comes from a quadratic (2^-8.3 relative) and two Newton steps (2^-16, 2^-30); the root it gives
   is corrected once (2^-57) and then settled by its exact remainder. */
INLINE uint64_t significand_root(uint64_t m, bool odd, bool *exact) {
    const uint64_t seed = m >> (32 + odd); /* in [1, 2), units of 2^-30 */
    uint64_t r = 3392249124 - (seed * (1568767568 - (seed * 317156676 >> 30)) >> 30); /* units of 2^-31 */
    if (odd) r = r * 3037000500 >> 32;                                                /* / sqrt(2) */
    for (int step = 0; step < 2; step++) {
        uint64_t three_minus = (UINT64_C(3) << 62) - (m >> 32) * (r * r >> 30);
        r = r * (three_minus >> 32) >> 31;
    }
    uint64_t root = (m >> 32) * r >> 30;                 /* units of 2^-31 */
    int64_t rest = (int64_t)(m - root * root);           /* units of 2^-62; small, so wrapping is harmless */
    int64_t correction = (rest >> 6) * (int64_t)r >> 32; /* rest / (2 * root), units of 2^-56 */
    root = ((root << 25) + (uint64_t)correction + 2) >> 2; /* the floor or one above it, units of 2^-54 */
    rest = (int64_t)((m << 46) - root * root);             /* units of 2^-108, modulo 2^64: it fits */
    *exact = rest == 0;
    return root - (rest < 0);
}

INLINE uint64_t square_root(Format f, uint64_t a, unsigned rm, uint32_t *flags) {
    if (UNLIKELY(is_nan(f, a))) return nan_result(f, a, a, flags);
    if (magnitude(f, a) == 0) return a;
    if (UNLIKELY(is_negative(f, a))) return invalid(f, flags);
    if (UNLIKELY(is_infinite(f, a))) return a;
    Number x = unpack(f, a);
    bool odd = x.exponent & 1, exact;
    uint64_t significand = significand_root(x.significand << odd, odd, &exact) << (LEADING - 54);
    return pack(f, (Number){significand | !exact, (x.exponent - odd) / 2, false}, rm, flags);
}

INLINE uint64_t fma_special(Format f, uint64_t a, uint64_t b, uint64_t c, uint32_t *flags) {
    bool sign = is_negative(f, a ^ b);
    bool of_zero = magnitude(f, a) == 0 || magnitude(f, b) == 0;
    bool of_infinity = is_infinite(f, a) || is_infinite(f, b);

    if (of_zero && of_infinity) return invalid(f, flags); /* even when c is a quiet NaN */
    if (is_nan(f, c) || is_nan(f, a) || is_nan(f, b)) {
        if (is_signaling(f, c)) *flags |= FLOAT_NV;
        return nan_result(f, a, b, flags);
    }
    if (!of_infinity) return c;
    return add_special(f, with_sign(f, sign, infinity(f)), c, flags);
}

/* a * b + c, rounded once: the product is exact in 106 bits, the sum is formed in 128. */
INLINE uint64_t multiply_add(Format f, uint64_t a, uint64_t b, uint64_t c, unsigned rm, uint32_t *flags) {
    if (UNLIKELY(is_special(f, a) || is_special(f, b) || is_special(f, c)))
        return fma_special(f, a, b, c, flags);
    Number x = unpack(f, a), y = unpack(f, b), z = unpack(f, c);
    bool sign = x.sign != y.sign;
    u128 sum = (u128)x.significand * y.significand; /* leading one at bit 124 or 125, or no bit at all */
    u128 addend = (u128)z.significand << LEADING;
    int exponent = x.exponent + y.exponent; /* of bit 124 */
    int distance = exponent - z.exponent;

    if (distance >= 0) {
        addend = shift_sticky_128(addend, distance);
    } else {
        sum = shift_sticky_128(sum, -distance);
        exponent = z.exponent;
    }
    if (sign == z.sign) {
        sum += addend;
    } else if (sum >= addend) {
        sum -= addend;
    } else {
        sum = addend - sum;
        sign = z.sign;
    }
    if (sum == 0) return zero_sum(f, sign, z.sign, rm);

    uint64_t high = (uint64_t)(sum >> 64);
    if (high == 0) return pack(f, (Number){(uint64_t)sum, exponent - LEADING, sign}, rm, flags);
    int zeros = __builtin_clzll(high);
    sum <<= zeros;
    high = (uint64_t)(sum >> 64) | ((uint64_t)sum != 0);
    return pack(f, (Number){high, exponent + 2 - zeros, sign}, rm, flags);
}

/* ---- comparisons ---- */

/* An integer that orders as the number does; both zeros give 0. Not for NaNs. */
INLINE int64_t ordinal(Format f, uint64_t a) {
    int64_t size = (int64_t)magnitude(f, a);
    return is_negative(f, a) ? -size : size;
}

INLINE bool equal(Format f, uint64_t a, uint64_t b, uint32_t *flags) {
    if (is_signaling(f, a) || is_signaling(f, b)) *flags |= FLOAT_NV;
    return !is_nan(f, a) && !is_nan(f, b) && ordinal(f, a) == ordinal(f, b);
}

/* a < b, or a <= b with or_equal. */
INLINE bool less(Format f, uint64_t a, uint64_t b, bool or_equal, uint32_t *flags) {
    if (UNLIKELY(is_nan(f, a) || is_nan(f, b))) {
        *flags |= FLOAT_NV;
        return false;
    }
    return ordinal(f, a) < ordinal(f, b) + or_equal;
}

/* minimumNumber of IEEE 754-2019, or maximumNumber: a NaN loses to a number, -0 is below +0. */
INLINE uint64_t extreme(Format f, uint64_t a, uint64_t b, bool maximum, uint32_t *flags) {
    if (is_signaling(f, a) || is_signaling(f, b)) *flags |= FLOAT_NV;
    if (UNLIKELY(is_nan(f, a))) return is_nan(f, b) ? canonical_nan(f) : b;
    if (UNLIKELY(is_nan(f, b))) return a;
    if (ordinal(f, a) == ordinal(f, b)) return maximum ? a & b : a | b; /* equal, or zeros of two signs */
    return (ordinal(f, a) < ordinal(f, b)) != maximum ? a : b;
}

/* minimum or maximum of IEEE 754-2019: a NaN wins. */
INLINE uint64_t extreme_or_nan(Format f, uint64_t a, uint64_t b, bool maximum, uint32_t *flags) {
    if (is_nan(f, a) || is_nan(f, b)) return nan_result(f, a, b, flags);
    return extreme(f, a, b, maximum, flags);
}

/* less, but only a signaling NaN is invalid. */
INLINE bool less_quietly(Format f, uint64_t a, uint64_t b, bool or_equal, uint32_t *flags) {
    if (is_nan(f, a) || is_nan(f, b)) return nan_result(f, a, b, flags), false;
    return less(f, a, b, or_equal, flags);
}

/* FCLASS: bits 0..7 run from -infinity to +infinity, then signaling NaN, quiet NaN. */
INLINE uint32_t classify(Format f, uint64_t a) {
    if (is_nan(f, a)) return is_signaling(f, a) ? 1 << 8 : 1 << 9;
    uint64_t size = magnitude(f, a);
    int rank = (size > 0) + (size >> f.fraction > 0) + (size == infinity(f));
    return UINT32_C(1) << (is_negative(f, a) ? 3 - rank : 4 + rank);
}

/* ---- conversions ---- */

/* To an integer of `width` bits, returned as its low bits; out of range saturates and is only NV. */
INLINE uint64_t to_integer(Format f, uint64_t a, int width, bool is_signed, unsigned rm, uint32_t *flags) {
    const uint64_t largest = UINT64_MAX >> (64 - width + is_signed);
    const uint64_t most_negative = is_signed ? largest + 1 : 0; /* its magnitude */
    bool sign = is_negative(f, a) && !is_nan(f, a), inexact = false, fits = false;
    uint64_t whole = 0;

    if (!is_special(f, a)) {
        Number x = unpack(f, a);
        fits = x.exponent < 64;
        if (x.exponent < LEADING - 2) {
            uint64_t quarters = shift_sticky(x.significand, LEADING - 2 - x.exponent);
            whole = (quarters + increment(rm, sign, quarters >> 2 & 1, 2)) >> 2;
            inexact = quarters & 3;
        } else if (fits) {
            whole = x.exponent > LEADING ? x.significand << 1 : x.significand >> (LEADING - x.exponent);
        }
    }
    if (UNLIKELY(!fits || whole > (sign ? most_negative : largest))) {
        *flags |= FLOAT_NV;
        whole = sign ? most_negative : largest;
    } else if (inexact) {
        *flags |= FLOAT_NX;
    }
    return sign ? 0 - whole : whole;
}

/* To 32 bits towards zero, modulo 2^32; the flags are those of a conversion that saturates. */
INLINE int32_t to_integer_modulo(Format f, uint64_t a, uint32_t *flags) {
    (void)to_integer(f, a, 32, true, FLOAT_RTZ, flags);
    if (is_special(f, a)) return 0;
    Number x = unpack(f, a);
    uint64_t whole = 0;
    if (x.exponent >= 0 && x.exponent <= LEADING) whole = x.significand >> (LEADING - x.exponent);
    if (x.exponent > LEADING && x.exponent < 2 * LEADING) whole = x.significand << (x.exponent - LEADING);
    return (int32_t)(x.sign ? 0 - whole : whole);
}

/* To an integer in the same format. */
INLINE uint64_t to_integral(Format f, uint64_t a, unsigned rm, bool *inexact, uint32_t *flags) {
    const uint64_t one = (uint64_t)f.bias << f.fraction, half = one - (UINT64_C(1) << f.fraction);
    uint64_t size = magnitude(f, a);
    bool sign = is_negative(f, a);
    *inexact = false;
    if (is_nan(f, a)) return nan_result(f, a, a, flags);
    if (size == 0 || size >= one + ((uint64_t)f.fraction << f.fraction)) return a;
    if (size < one) {
        bool up = rm == FLOAT_RNE   ? size > half
                  : rm == FLOAT_RMM ? size >= half
                                    : rm == (sign ? FLOAT_RDN : FLOAT_RUP);
        *inexact = true;
        return with_sign(f, sign, up ? one : 0);
    }
    const int below = f.fraction - ((int)(size >> f.fraction) - f.bias); /* bits below the point */
    const uint64_t unit = UINT64_C(1) << below;
    *inexact = size & (unit - 1);
    size += increment(rm, sign, size >> below & 1, unit >> 1); /* a carry adds to the exponent */
    return with_sign(f, sign, size & ~(unit - 1));
}

INLINE uint64_t round_to_integral(Format f, uint64_t a, unsigned rm, bool flagged, uint32_t *flags) {
    bool inexact;
    uint64_t result = to_integral(f, a, rm, &inexact, flags);
    if (inexact && flagged) *flags |= FLOAT_NX;
    return result;
}

INLINE uint64_t from_integer(Format f, bool sign, uint64_t size, unsigned rm, uint32_t *flags) {
    return size == 0 ? 0 : pack(f, (Number){size, LEADING, sign}, rm, flags);
}

INLINE uint64_t from_signed(Format f, int64_t a, unsigned rm, uint32_t *flags) {
    return from_integer(f, a < 0, a < 0 ? 0 - (uint64_t)a : (uint64_t)a, rm, flags);
}

INLINE uint64_t from_format(Format f, Format from, uint64_t a, unsigned rm, uint32_t *flags) {
    if (UNLIKELY(is_nan(from, a))) return (void)nan_result(from, a, a, flags), canonical_nan(f);
    if (UNLIKELY(is_infinite(from, a))) return with_sign(f, is_negative(from, a), infinity(f));
    if (magnitude(from, a) == 0) return with_sign(f, is_negative(from, a), 0);
    return pack(f, unpack(from, a), rm, flags);
}

/* ---- the public functions, once per format ---- */

#define ARITHMETIC(name, bits, f)                                                                            \
    bits name##_add(bits a, bits b, unsigned rm, uint32_t *flags) { return (bits)add(f, a, b, rm, flags); }  \
    bits name##_sub(bits a, bits b, unsigned rm, uint32_t *flags) {                                          \
        return name##_add(a, b ^ (bits)sign_bit(f), rm, flags);                                              \
    }                                                                                                        \
    bits name##_mul(bits a, bits b, unsigned rm, uint32_t *flags) { return (bits)mul(f, a, b, rm, flags); }  \
    bits name##_div(bits a, bits b, unsigned rm, uint32_t *flags) {                                          \
        return (bits)divide(f, a, b, rm, flags);                                                             \
    }                                                                                                        \
    bits name##_sqrt(bits a, unsigned rm, uint32_t *flags) { return (bits)square_root(f, a, rm, flags); }    \
    bits name##_fma(bits a, bits b, bits c, unsigned rm, uint32_t *flags) {                                  \
        return (bits)multiply_add(f, a, b, c, rm, flags);                                                    \
    }

#define COMPARISONS(name, bits, f)                                                                           \
    bits name##_min(bits a, bits b, uint32_t *flags) { return (bits)extreme(f, a, b, false, flags); }        \
    bits name##_max(bits a, bits b, uint32_t *flags) { return (bits)extreme(f, a, b, true, flags); }         \
    bool name##_eq(bits a, bits b, uint32_t *flags) { return equal(f, a, b, flags); }                        \
    bool name##_lt(bits a, bits b, uint32_t *flags) { return less(f, a, b, false, flags); }                  \
    bool name##_le(bits a, bits b, uint32_t *flags) { return less(f, a, b, true, flags); }                   \
    uint32_t name##_class(bits a) { return classify(f, a); }

/* Zfa */
#define ADDITIONS(name, bits, f)                                                                             \
    bits name##_minm(bits a, bits b, uint32_t *flags) {                                                      \
        return (bits)extreme_or_nan(f, a, b, false, flags);                                                  \
    }                                                                                                        \
    bits name##_maxm(bits a, bits b, uint32_t *flags) { return (bits)extreme_or_nan(f, a, b, true, flags); } \
    bool name##_ltq(bits a, bits b, uint32_t *flags) { return less_quietly(f, a, b, false, flags); }         \
    bool name##_leq(bits a, bits b, uint32_t *flags) { return less_quietly(f, a, b, true, flags); }          \
    bits name##_round(bits a, unsigned rm, uint32_t *flags) {                                                \
        return (bits)round_to_integral(f, a, rm, false, flags);                                              \
    }                                                                                                        \
    bits name##_roundnx(bits a, unsigned rm, uint32_t *flags) {                                              \
        return (bits)round_to_integral(f, a, rm, true, flags);                                               \
    }

#define INTEGERS(name, bits, f)                                                                              \
    int32_t name##_to_i32(bits a, unsigned rm, uint32_t *flags) {                                            \
        return (int32_t)to_integer(f, a, 32, true, rm, flags);                                               \
    }                                                                                                        \
    uint32_t name##_to_u32(bits a, unsigned rm, uint32_t *flags) {                                           \
        return (uint32_t)to_integer(f, a, 32, false, rm, flags);                                             \
    }                                                                                                        \
    int64_t name##_to_i64(bits a, unsigned rm, uint32_t *flags) {                                            \
        return (int64_t)to_integer(f, a, 64, true, rm, flags);                                               \
    }                                                                                                        \
    uint64_t name##_to_u64(bits a, unsigned rm, uint32_t *flags) {                                           \
        return to_integer(f, a, 64, false, rm, flags);                                                       \
    }                                                                                                        \
    bits name##_from_i32(int32_t a, unsigned rm, uint32_t *flags) {                                          \
        return (bits)from_signed(f, a, rm, flags);                                                           \
    }                                                                                                        \
    bits name##_from_u32(uint32_t a, unsigned rm, uint32_t *flags) {                                         \
        return (bits)from_integer(f, false, a, rm, flags);                                                   \
    }                                                                                                        \
    bits name##_from_i64(int64_t a, unsigned rm, uint32_t *flags) {                                          \
        return (bits)from_signed(f, a, rm, flags);                                                           \
    }                                                                                                        \
    bits name##_from_u64(uint64_t a, unsigned rm, uint32_t *flags) {                                         \
        return (bits)from_integer(f, false, a, rm, flags);                                                   \
    }

ARITHMETIC(f32, uint32_t, BINARY32)
ARITHMETIC(f64, uint64_t, BINARY64)
COMPARISONS(f32, uint32_t, BINARY32)
COMPARISONS(f64, uint64_t, BINARY64)
ADDITIONS(f32, uint32_t, BINARY32)
ADDITIONS(f64, uint64_t, BINARY64)
INTEGERS(f32, uint32_t, BINARY32)
INTEGERS(f64, uint64_t, BINARY64)

uint32_t f32_from_f64(uint64_t a, unsigned rm, uint32_t *flags) {
    return (uint32_t)from_format(BINARY32, BINARY64, a, rm, flags);
}

uint64_t f64_from_f32(uint32_t a, uint32_t *flags) {
    return from_format(BINARY64, BINARY32, a, FLOAT_RNE, flags);
}

int32_t f64_to_i32_modulo(uint64_t a, uint32_t *flags) { return to_integer_modulo(BINARY64, a, flags); }

/* FLI: upper halves of binary32 patterns; the second is the smallest normal number of either format. */
static const uint16_t constants[32] = {0xbf80, 0x0080, 0x3780, 0x3800, 0x3b80, 0x3c00, 0x3d80, 0x3e00,
                                       0x3e80, 0x3ea0, 0x3ec0, 0x3ee0, 0x3f00, 0x3f20, 0x3f40, 0x3f60,
                                       0x3f80, 0x3fa0, 0x3fc0, 0x3fe0, 0x4000, 0x4020, 0x4040, 0x4080,
                                       0x4100, 0x4180, 0x4300, 0x4380, 0x4700, 0x4780, 0x7f80, 0x7fc0};

uint32_t f32_constant(unsigned index) { return (uint32_t)constants[index] << 16; }

uint64_t f64_constant(unsigned index) {
    uint32_t none = 0;
    return index == 1 ? UINT64_C(1) << 52 : f64_from_f32(f32_constant(index), &none);
}
