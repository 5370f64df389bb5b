/* Operands for tests of floating point: random patterns that crowd the edges. */
#include <stdint.h>

static uint64_t random_state;

static uint64_t random_bits(void) { /* xorshift64* */
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * UINT64_C(0x2545f4914f6cdd1d);
}

static uint64_t random_fraction(int width) {
    uint64_t bits = random_bits() >> (64 - width), choice = random_bits() >> 32;
    int shift = (int)(choice >> 8) % width;
    uint64_t mask = (UINT64_C(1) << width) - 1;
    switch (choice & 15) {
    case 0: return bits >> shift;                           /* small */
    case 1: return bits << shift & mask;                    /* few significant bits */
    case 2: return ~(bits >> shift) & mask;                 /* close to the next power of two */
    case 3: return UINT64_C(1) << shift;                    /* one bit */
    case 4: return (UINT64_C(1) << shift) - 1 + (bits & 1); /* a run of ones */
    case 5: return 0;
    case 6: return mask / 2 + (bits & 1); /* the last signaling NaN, the first quiet one */
    default: return bits;
    }
}

/* A pattern whose exponent is likely to meet `other` (the previous operand's) at an edge. */
static uint64_t random_pattern(int exponent_width, int fraction_width, uint64_t other) {
    int largest = (1 << exponent_width) - 1, bias = largest / 2, near = (int)(random_bits() >> 59) - 16;
    uint64_t choice = random_bits() >> 32;
    int previous = (int)(other >> fraction_width) & largest, exponent;
    switch (choice & 15) {
    case 0: exponent = near & 3; break;
    case 1: exponent = largest - (near & 3); break;
    case 2:
    case 3: exponent = bias + near * 4; break;
    case 4:
    case 5: exponent = previous + near / 8; break;
    case 6:
    case 7: exponent = previous + near * 4; break;
    case 8: exponent = bias - previous + near; break; /* product at the subnormal edge */
    case 9: exponent = bias - previous - fraction_width + near; break;
    case 10: exponent = largest + bias - previous + near / 4; break;  /* product at the overflow edge */
    case 11: exponent = previous + bias + near / 4; break;            /* quotient at the subnormal edge */
    case 12: exponent = previous - bias + near / 4; break;            /* quotient at the overflow edge */
    case 13: exponent = bias + (near & 1 ? 126 : -126) + near; break; /* the edges of binary32 */
    default: exponent = (int)(choice >> 8) & largest;
    }
    if ((choice >> 28 & 15) == 0) exponent = choice >> 27 & 1 ? largest : 0;
    if (exponent < 0 || exponent > largest) exponent = (int)(choice >> 8) & largest;
    uint64_t fraction = random_fraction(fraction_width);
    return ((choice >> 4 & 1) << exponent_width | (uint64_t)exponent) << fraction_width | fraction;
}

typedef struct {
    uint64_t a, b, c;
    unsigned rm;
} Case;

static Case random_case(int exponent_width, int fraction_width) {
    Case x;
    x.a = random_pattern(exponent_width, fraction_width, random_bits());
    x.b = random_pattern(exponent_width, fraction_width, x.a);
    /* The addend of an fma meets the product's exponent. */
    uint64_t bias = ((UINT64_C(1) << (exponent_width - 1)) - 1) << fraction_width;
    x.c = random_pattern(exponent_width, fraction_width, x.a + x.b - bias);
    if ((random_bits() & 63) == 0) x.b = x.a ^ (random_bits() >> 63) << (exponent_width + fraction_width);
    x.rm = random_bits() >> 62;
    return x;
}

static int64_t random_integer(void) {
    int64_t value = (int64_t)random_fraction(63) >> (random_bits() >> 58);
    switch (random_bits() >> 62) {
    case 0: return -value;
    case 1: return (int64_t)((uint64_t)value << (random_bits() >> 58));
    case 2: return (int64_t)(UINT64_MAX - (uint64_t)value);
    default: return value;
    }
}
