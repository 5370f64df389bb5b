/* Time float.c: nanoseconds per call of every operation, on operands of ordinary size. */
#include <stdio.h>
#include <time.h>

#include "float.h"

/* Build: gcc -O2 -I orchestra/machine/core tests/machine/core/float_bench.c orchestra/machine/core/float.c
   The best of many rounds. Flags accrue from call to call, as in an interpreter; operands are independent. */

enum { OPERANDS = 16384, ROUNDS = 500 };

static uint64_t operands[OPERANDS + 2];
static uint32_t accrued;

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Random signs and fractions, exponents within 2^-8 and 2^7. */
static void fill(int width, int fraction, int bias) {
    uint64_t state = 88172645463325252;
    for (int i = 0; i < OPERANDS + 2; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        uint64_t exponent = (uint64_t)bias - 8 + (state >> 8 & 15);
        operands[i] = (state & 1) << (width - 1) | exponent << fraction | state >> (64 - fraction);
    }
}

#define TIME(call)                                                                                           \
    do {                                                                                                     \
        uint64_t sum = 0;                                                                                    \
        double best = 1;                                                                                     \
        for (int round = 0; round < ROUNDS; round++) {                                                       \
            double start = seconds();                                                                        \
            for (int i = 0; i < OPERANDS; i++) {                                                             \
                uint64_t a = operands[i], b = operands[i + 1], c = operands[i + 2];                          \
                (void)b, (void)c;                                                                            \
                sum += (uint64_t)(call);                                                                     \
            }                                                                                                \
            double elapsed = seconds() - start;                                                              \
            if (elapsed < best) best = elapsed;                                                              \
        }                                                                                                    \
        printf("%5.1f ns  %-40s %016llx\n", best * 1e9 / OPERANDS, #call, (unsigned long long)sum);          \
    } while (0)

#define TIME_FORMAT(name, pattern)                                                                           \
    TIME(name##_add((pattern)a, (pattern)b, 0, &accrued));                                                   \
    TIME(name##_mul((pattern)a, (pattern)b, 0, &accrued));                                                   \
    TIME(name##_div((pattern)a, (pattern)b, 0, &accrued));                                                   \
    TIME(name##_sqrt((pattern)(a & ((pattern)-1 >> 1)), 0, &accrued));                                       \
    TIME(name##_fma((pattern)a, (pattern)b, (pattern)c, 0, &accrued));                                       \
    TIME(name##_lt((pattern)a, (pattern)b, &accrued));                                                       \
    TIME(name##_min((pattern)a, (pattern)b, &accrued));                                                      \
    TIME(name##_to_i32((pattern)a, 1, &accrued));                                                            \
    TIME(name##_from_i64((int64_t)a, 0, &accrued))

int main(void) {
    fill(32, 23, 127);
    TIME_FORMAT(f32, uint32_t);
    TIME(f64_from_f32((uint32_t)a, &accrued));
    fill(64, 52, 1023);
    TIME_FORMAT(f64, uint64_t);
    TIME(f32_from_f64(a, 0, &accrued));
    return 0;
}
