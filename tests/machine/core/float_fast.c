/* Compare float_fast.h with float.c, flags included: float_fast CASES SEED. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "float_cases.h"
#include "float_fast.h"

/* Prints one line for each of the first mismatches and exits with 1 if there was any; says how often the
   host was asked. Half of the operands are like a program's, which is what the fast paths are for. */

static long failures;

/* Of middling size, or zero; of few bits in one case of two, so that results are exact often. */
static uint64_t ordinary(int exponent_width, int fraction_width) {
    uint64_t choice = random_bits() >> 32, bias = (UINT64_C(1) << (exponent_width - 1)) - 1;
    uint64_t fraction = random_bits() >> (64 - fraction_width);
    if ((choice & 15) == 0) return (choice >> 4 & 1) << (exponent_width + fraction_width);
    if (choice >> 5 & 1) {
        int few = (int)(choice >> 6 & 15);
        fraction = fraction >> (fraction_width - few) << (fraction_width - few);
    }
    uint64_t spread = choice >> 10 & 1 ? 15 : 127, exponent = bias - spread / 2 + (choice >> 11 & spread);
    return ((choice >> 4 & 1) << exponent_width | exponent) << fraction_width | fraction;
}

static Case next_case(int exponent_width, int fraction_width) {
    Case x = random_case(exponent_width, fraction_width);
    uint64_t choice = random_bits() >> 32;
    if (choice & 1) {
        x.a = ordinary(exponent_width, fraction_width);
        x.b = ordinary(exponent_width, fraction_width);
        x.c = ordinary(exponent_width, fraction_width);
    }
    x.rm = choice & 14 ? FLOAT_RNE : (unsigned)(choice >> 4) % 5;
    return x;
}

static void check(const char *operation, Case x, uint32_t before, uint64_t fast, uint32_t fast_flags,
                  uint64_t slow, uint32_t slow_flags) {
    if (fast == slow && fast_flags == slow_flags) return;
    if (failures++ < 20)
        printf("%s rm=%u %#llx %#llx %#llx flags %u: fast %#llx flags %u, float.c %#llx flags %u\n",
               operation, x.rm, (unsigned long long)x.a, (unsigned long long)x.b, (unsigned long long)x.c,
               before, (unsigned long long)fast, fast_flags, (unsigned long long)slow, slow_flags);
}

#define CHECK(name, ...)                                                                                     \
    do {                                                                                                     \
        uint32_t flags = before;                                                                             \
        uint64_t fast = (uint64_t)fast_##name(__VA_ARGS__);                                                  \
        uint32_t fast_flags = flags;                                                                         \
        flags = before;                                                                                      \
        uint64_t slow = (uint64_t)name(__VA_ARGS__);                                                         \
        check(#name, x, before, fast, fast_flags, slow, flags);                                              \
    } while (0)

static void check_double(Case x, uint32_t before) {
    CHECK(f64_add, x.a, x.b, x.rm, &flags);
    CHECK(f64_sub, x.a, x.b, x.rm, &flags);
    CHECK(f64_mul, x.a, x.b, x.rm, &flags);
    CHECK(f64_div, x.a, x.b, x.rm, &flags);
    CHECK(f64_sqrt, x.a, x.rm, &flags);
    CHECK(f64_fma, x.a, x.b, x.c, x.rm, &flags);
    uint32_t ignored = 0;
    uint64_t product = f64_mul(x.a, x.b, FLOAT_RNE, &ignored);
    x.c = product ^ UINT64_C(1) << 63; /* what is left is what rounding took, and then next to that */
    CHECK(f64_fma, x.a, x.b, x.c, x.rm, &flags);
    CHECK(f64_add, x.a, x.a ^ UINT64_C(1) << 63, x.rm, &flags);
    CHECK(f64_sqrt, product, x.rm, &flags);
    CHECK(f64_div, product, x.b, x.rm, &flags);
    CHECK(f32_from_f64, x.a, x.rm, &flags);
    CHECK(f64_to_i32, x.a, x.rm, &flags);
    CHECK(f64_to_i64, x.a, x.rm, &flags);
    unsigned mode = x.rm;
    x.rm = FLOAT_RTZ;
    CHECK(f64_to_i32, x.a, x.rm, &flags);
    CHECK(f64_to_i64, x.a, x.rm, &flags);
    x.rm = mode;
    x.a = (uint64_t)random_integer();
    CHECK(f64_from_i64, (int64_t)x.a, x.rm, &flags);
}

static void check_single(Case x, uint32_t before) {
    uint32_t a = (uint32_t)x.a, b = (uint32_t)x.b, c = (uint32_t)x.c, ignored = 0;
    CHECK(f32_add, a, b, x.rm, &flags);
    CHECK(f32_sub, a, b, x.rm, &flags);
    CHECK(f32_mul, a, b, x.rm, &flags);
    CHECK(f32_div, a, b, x.rm, &flags);
    CHECK(f32_sqrt, a, x.rm, &flags);
    CHECK(f32_fma, a, b, c, x.rm, &flags);
    uint32_t product = f32_mul(a, b, FLOAT_RNE, &ignored);
    c = product ^ UINT32_C(1) << 31;
    x.c = c;
    CHECK(f32_fma, a, b, c, x.rm, &flags);
    c ^= (uint32_t)(random_bits() >> 63);
    x.c = c;
    CHECK(f32_fma, a, b, c, x.rm, &flags);
    CHECK(f32_sqrt, product, x.rm, &flags);
    CHECK(f32_div, product, b, x.rm, &flags);
    CHECK(f64_from_f32, a, &flags);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long cases = atol(argv[1]);
    random_state = strtoull(argv[2], NULL, 0) | 1;
    for (long i = 0; i < cases; i++) {
        uint32_t before = random_bits() >> 63 ? FLOAT_NX : (uint32_t)(random_bits() >> 59);
        check_double(next_case(11, 52), before);
        check_single(next_case(8, 23), before);
    }
    printf("%ld cases of every operation, %ld mismatches\n", cases, failures);
    return failures != 0;
}
