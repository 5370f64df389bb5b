/* One format's part of float_host.c, included with FORMAT, REAL, PATTERN, NAME and the two widths defined. */

static REAL NAME(real)(PATTERN a) {
    REAL value;
    memcpy(&value, &a, sizeof value);
    return value;
}

static PATTERN NAME(bits)(REAL value) { /* every NaN made canonical */
    PATTERN bits;
    memcpy(&bits, &value, sizeof value);
    if (value != value) bits = (PATTERN)((2 << EXPONENT_WIDTH) - 1) << (FRACTION_WIDTH - 1);
    return bits;
}

/* Round to an integer with the host, then saturate by RISC-V's table; `above` is the first value too large.
 */
static uint64_t NAME(saturate)(Case x, double lowest, double above, uint64_t smallest, uint64_t largest,
                               uint32_t *flags) {
    REAL a = NAME(real)((PATTERN)x.a);
    volatile double operand = a;
    host_begin(x.rm);
    volatile double whole = rint(operand);
    host_begin(FLOAT_RNE);
    *flags = FLOAT_NV;
    if (a != a || whole >= above) return largest;
    if (whole < lowest) return smallest;
    *flags = whole != a ? FLOAT_NX : 0;
    return whole < 0 ? (uint64_t)(int64_t)whole : (uint64_t)whole;
}

/* Compute with the host from the volatile u, v, w, which pin it between setting the mode and reading flags.
 */
#define HOST(expression)                                                                                     \
    (host_begin(x.rm), value = (expression), theirs = host_flags(), host_begin(FLOAT_RNE), NAME(bits)(value))

static void NAME(check)(Case x) {
    PATTERN a = (PATTERN)x.a, b = (PATTERN)x.b, c = (PATTERN)x.c;
    const PATTERN quiet = (PATTERN)1 << (FRACTION_WIDTH - 1);
    volatile REAL u = NAME(real)(a), v = NAME(real)(b), w = NAME(real)(c), value;
    bool nan_a = u != u, nan_b = v != v;
    uint32_t signaling = (nan_a && !(a & quiet)) || (nan_b && !(b & quiet)) ? FLOAT_NV : 0;
    uint32_t ours, theirs;
    uint64_t want, got;

#define CHECK(name, expected, actual)                                                                        \
    ours = 0, want = (uint64_t)(expected), got = (uint64_t)(actual);                                         \
    check(FORMAT " " #name, x, got, ours, want, theirs)

    CHECK(add, HOST(u + v), NAME(add)(a, b, x.rm, &ours));
    CHECK(sub, HOST(u - v), NAME(sub)(a, b, x.rm, &ours));
    CHECK(mul, HOST(u * v), NAME(mul)(a, b, x.rm, &ours));
    CHECK(div, HOST(u / v), NAME(div)(a, b, x.rm, &ours));
    CHECK(sqrt, HOST(sizeof u == 4 ? (REAL)sqrtf((float)u) : (REAL)sqrt(u)), NAME(sqrt)(a, x.rm, &ours));

    uint32_t product = (HOST(u * v), theirs & FLOAT_NV); /* 0 * infinity + quiet NaN: NV on RISC-V */
    want = HOST(sizeof u == 4 ? (REAL)fmaf((float)u, (float)v, (float)w) : (REAL)fma(u, v, w));
    theirs |= product;
    CHECK(fma, want, NAME(fma)(a, b, c, x.rm, &ours));

    theirs = signaling;
    CHECK(eq, u == v, NAME(eq)(a, b, &ours));
    bool a_first = !nan_a && (nan_b || u < v || (u == v && signbit(u)));
    PATTERN lower = a_first ? a : b, higher = a_first && !nan_b ? b : nan_a ? b : a;
    if (nan_a && nan_b) lower = higher = NAME(bits)(u);
    CHECK(min, lower, NAME(min)(a, b, &ours));
    CHECK(max, higher, NAME(max)(a, b, &ours));
    theirs = nan_a || nan_b ? FLOAT_NV : 0;
    CHECK(lt, u < v, NAME(lt)(a, b, &ours));
    CHECK(le, u <= v, NAME(le)(a, b, &ours));

    theirs = 0;
    int rank = fpclassify(u) == FP_INFINITE ? 3 : fpclassify(u) == FP_NORMAL ? 2 : u != 0;
    CHECK(class, nan_a ? (a & quiet ? 512 : 256) : 1 << (signbit(u) ? 3 - rank : 4 + rank), NAME(class)(a));

    CHECK(to_i32, NAME(saturate)(x, -0x1p31, 0x1p31, (uint64_t)INT32_MIN, INT32_MAX, &theirs),
          NAME(to_i32)(a, x.rm, &ours));
    CHECK(to_u32, NAME(saturate)(x, 0, 0x1p32, 0, UINT32_MAX, &theirs), NAME(to_u32)(a, x.rm, &ours));
    CHECK(to_i64, NAME(saturate)(x, -0x1p63, 0x1p63, (uint64_t)INT64_MIN, INT64_MAX, &theirs),
          NAME(to_i64)(a, x.rm, &ours));
    CHECK(to_u64, NAME(saturate)(x, 0, 0x1p64, 0, UINT64_MAX, &theirs), NAME(to_u64)(a, x.rm, &ours));
}

static void NAME(check_integer)(uint64_t n) {
    Case x = {n, 0, 0, (unsigned)(random_bits() >> 62)};
    volatile int32_t i32 = (int32_t)n;
    volatile uint32_t u32 = (uint32_t)n;
    volatile int64_t i64 = (int64_t)n;
    volatile uint64_t u64 = n;
    volatile REAL value;
    uint32_t ours, theirs;
    uint64_t want, got;
    CHECK(from_i32, HOST((REAL)i32), NAME(from_i32)(i32, x.rm, &ours));
    CHECK(from_u32, HOST((REAL)u32), NAME(from_u32)(u32, x.rm, &ours));
    CHECK(from_i64, HOST((REAL)i64), NAME(from_i64)(i64, x.rm, &ours));
    CHECK(from_u64, HOST((REAL)u64), NAME(from_u64)(u64, x.rm, &ours));
}

#undef CHECK
#undef HOST
#undef FORMAT
#undef REAL
#undef PATTERN
#undef NAME
#undef EXPONENT_WIDTH
#undef FRACTION_WIDTH
