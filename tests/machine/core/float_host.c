/* Compare float.c with the host's floating-point unit, flags included: float_host CASES SEED. */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#    include <immintrin.h>
#endif

#include "float.h"
#include "float_cases.h"

/* Prints one line for each of the first mismatches and exits with 1 if there was any. The host has no RMM:
   binary32 gets it from a binary64 result with sticky last bit, binary64 only from the Python oracle. NaN
   payloads and UF where the host finds tininess before rounding differ from RISC-V by design and are mapped
   or left out here. */

/* ---- the host ---- */

#ifdef __x86_64__ /* MXCSR directly: fenv.h also visits the x87 unit, ten times slower */
static void host_begin(unsigned rm) {
    static const unsigned control[] = {0x0000, 0x6000, 0x2000, 0x4000};
    _mm_setcsr(0x1f80 | control[rm]);
}

static uint32_t host_flags(void) {
    unsigned csr = _mm_getcsr();
    return (csr >> 5 & 1) | (csr >> 3 & 2) | (csr >> 1 & 4) | (csr << 1 & 8) | (csr << 4 & 16);
}
#else
static void host_begin(unsigned rm) {
    static const int mode[] = {FE_TONEAREST, FE_TOWARDZERO, FE_DOWNWARD, FE_UPWARD};
    fesetround(mode[rm]);
    feclearexcept(FE_ALL_EXCEPT);
}

static uint32_t host_flags(void) {
    return (fetestexcept(FE_INEXACT) ? FLOAT_NX : 0) | (fetestexcept(FE_UNDERFLOW) ? FLOAT_UF : 0) |
           (fetestexcept(FE_OVERFLOW) ? FLOAT_OF : 0) | (fetestexcept(FE_DIVBYZERO) ? FLOAT_DZ : 0) |
           (fetestexcept(FE_INVALID) ? FLOAT_NV : 0);
}
#endif
#if defined(__x86_64__) || defined(__riscv)
static const uint32_t COMPARED = 31;
#else
static const uint32_t COMPARED = 31 & ~FLOAT_UF;
#endif

/* ---- comparing ---- */

static long failures;

static void check(const char *operation, Case x, uint64_t ours, uint32_t our_flags, uint64_t theirs,
                  uint32_t their_flags) {
    if (ours == theirs && !((our_flags ^ their_flags) & COMPARED)) return;
    if (failures++ < 20)
        printf("%s rm=%u %#llx %#llx %#llx: %#llx flags %u, host %#llx flags %u\n", operation, x.rm,
               (unsigned long long)x.a, (unsigned long long)x.b, (unsigned long long)x.c,
               (unsigned long long)ours, our_flags, (unsigned long long)theirs, their_flags);
}

#define FORMAT         "f32"
#define REAL           float
#define PATTERN        uint32_t
#define NAME(name)     f32_##name
#define EXPONENT_WIDTH 8
#define FRACTION_WIDTH 23
#include "float_host_format.h"

#define FORMAT         "f64"
#define REAL           double
#define PATTERN        uint64_t
#define NAME(name)     f64_##name
#define EXPONENT_WIDTH 11
#define FRACTION_WIDTH 52
#include "float_host_format.h"

/* `exact` is a binary32 operation's result in binary64, rounded towards zero with `flags`. Its last bit made
   sticky, it has the 2 spare bits that rounding again needs; half a unit is added and the rest cut. */
static void check_half_away(const char *operation, Case x, double exact, uint32_t flags, uint32_t ours,
                            uint32_t our_flags) {
    if (!(fabs(exact) >= 0x1p-126 && fabs(exact) <= 0x1.fffffep127))
        return; /* other edges have other tests */
    uint64_t bits = f64_bits(exact) | (flags & FLOAT_NX), half = UINT64_C(1) << 28;
    double rounded = f64_real((bits + half) & ~(2 * half - 1));
    uint32_t inexact = bits & (2 * half - 1) ? FLOAT_NX : 0;
    check(operation, x, ours, our_flags, f32_bits((float)rounded), inexact);
}

static void check_formats(Case x) {
    uint32_t flags = 0, their_flags;
    volatile double wide = f64_real(x.a);
    host_begin(x.rm);
    volatile float narrow = (float)wide;
    their_flags = host_flags();
    uint32_t ours = f32_from_f64(x.a, x.rm, &flags);
    check("f32_from_f64", x, ours, flags, f32_bits(narrow), their_flags);
    flags = 0;
    ours = f32_from_f64(x.a, FLOAT_RMM, &flags);
    check_half_away("f32_from_f64", x, f64_real(x.a), 0, ours, flags);

    x.a >>= 32; /* any pattern is a case for widening */
    flags = 0;
    narrow = f32_real((uint32_t)x.a);
    host_begin(x.rm);
    wide = (double)narrow;
    their_flags = host_flags();
    uint64_t widened = f64_from_f32((uint32_t)x.a, &flags);
    check("f64_from_f32", x, widened, flags, f64_bits(wide), their_flags);
}

static void check_rmm(Case x) {
    uint32_t a = (uint32_t)x.a, b = (uint32_t)x.b, c = (uint32_t)x.c, ours, flags, theirs;
    volatile double u = f32_real(a), v = f32_real(b), w = f32_real(c), value;
    x.rm = FLOAT_RMM;
#define CHECK(name, expression, call)                                                                        \
    host_begin(FLOAT_RTZ), value = (expression), theirs = host_flags(), host_begin(FLOAT_RNE);               \
    flags = 0, ours = (call);                                                                                \
    check_half_away(name, x, value, theirs, ours, flags)
    CHECK("f32 add", u + v, f32_add(a, b, FLOAT_RMM, &flags));
    CHECK("f32 sub", u - v, f32_sub(a, b, FLOAT_RMM, &flags));
    CHECK("f32 mul", u * v, f32_mul(a, b, FLOAT_RMM, &flags));
    CHECK("f32 div", u / v, f32_div(a, b, FLOAT_RMM, &flags));
    CHECK("f32 sqrt", sqrt(u), f32_sqrt(a, FLOAT_RMM, &flags));
    CHECK("f32 fma", fma(u, v, w), f32_fma(a, b, c, FLOAT_RMM, &flags));
#undef CHECK
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    long cases = atol(argv[1]);
    random_state = strtoull(argv[2], NULL, 0) | 1;
    for (long i = 0; i < cases; i++) {
        Case x = random_case(8, 23);
        f32_check(x);
        check_rmm(x);
        f64_check(random_case(11, 52));
        f32_check_integer((uint64_t)random_integer());
        f64_check_integer((uint64_t)random_integer());
        check_formats(random_case(11, 52));
    }
    printf("%ld cases of every operation, %ld mismatches\n", cases, failures);
    return failures != 0;
}
