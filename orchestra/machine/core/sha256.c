/* sha256.c: SHA-256 (FIPS 180-4), by the host's instructions where it has them. */
#include "machine.h"

enum { BLOCK_BYTES = 64, BLOCK_WORDS = 16, ROUNDS = 64 };

static const uint32_t round_constants[ROUNDS] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#if defined(__x86_64__) && defined(__GNUC__)
#    include <cpuid.h>
#    include <immintrin.h>
#    define BY_INSTRUCTION __attribute__((target("sha,sse4.1")))

static bool have_instructions(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1 && __builtin_cpu_supports("sse4.1");
}

BY_INSTRUCTION static void by_instruction(uint32_t h[8], const uint8_t *data, uint64_t blocks) {
    const __m128i *constants = (const __m128i *)round_constants;
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i abef = _mm_set_epi32((int)h[0], (int)h[1], (int)h[4], (int)h[5]);
    __m128i cdgh = _mm_set_epi32((int)h[2], (int)h[3], (int)h[6], (int)h[7]);
    for (; blocks; blocks--, data += BLOCK_BYTES) {
        __m128i abef_before = abef, cdgh_before = cdgh, w[4];
#    pragma GCC unroll 16
        for (unsigned i = 0; i < ROUNDS / 4; i++) {
            __m128i *now = &w[i % 4], before = w[(i + 3) % 4];
            if (i < 4)
                *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)data + i), big_endian);
            else
                *now = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(i + 1) % 4]),
                                                          _mm_alignr_epi8(before, w[(i + 2) % 4], 4)),
                                            before);
            __m128i sum = _mm_add_epi32(*now, constants[i]);
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    uint32_t low[4], high[4];
    _mm_storeu_si128((__m128i *)low, abef);
    _mm_storeu_si128((__m128i *)high, cdgh);
    h[0] = low[3], h[1] = low[2], h[2] = high[3], h[3] = high[2];
    h[4] = low[1], h[5] = low[0], h[6] = high[1], h[7] = high[0];
}

#elif defined(__aarch64__) && defined(__linux__)
#    include <arm_neon.h>
#    include <sys/auxv.h>
#    define BY_INSTRUCTION __attribute__((target("+sha2")))

static bool have_instructions(void) { return getauxval(AT_HWCAP) >> 6 & 1; } // HWCAP_SHA2

BY_INSTRUCTION static void by_instruction(uint32_t h[8], const uint8_t *data, uint64_t blocks) {
    uint32x4_t abcd = vld1q_u32(h), efgh = vld1q_u32(h + 4);
    for (; blocks; blocks--, data += BLOCK_BYTES) {
        uint32x4_t abcd_before = abcd, efgh_before = efgh, w[4];
#    pragma GCC unroll 16
        for (unsigned i = 0; i < ROUNDS / 4; i++) {
            uint32x4_t *now = &w[i % 4];
            if (i < 4)
                *now = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
            else
                *now = vsha256su1q_u32(vsha256su0q_u32(*now, w[(i + 1) % 4]), w[(i + 2) % 4], w[(i + 3) % 4]);
            uint32x4_t sum = vaddq_u32(*now, vld1q_u32(round_constants + 4 * i)), old = abcd;
            abcd = vsha256hq_u32(abcd, efgh, sum);
            efgh = vsha256h2q_u32(efgh, old, sum);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(h, abcd);
    vst1q_u32(h + 4, efgh);
}
#endif

static uint32_t rotated(uint32_t x, unsigned by) { return x >> by | x << (32 - by); }

static void fill_schedule(uint32_t w[ROUNDS], const uint8_t *block) {
    for (unsigned i = 0; i < BLOCK_WORDS; i++) {
        memcpy(&w[i], block + 4 * i, 4);
        w[i] = __builtin_bswap32(w[i]);
    }
    for (unsigned i = BLOCK_WORDS; i < ROUNDS; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + w[i - 7] + (rotated(x, 7) ^ rotated(x, 18) ^ x >> 3) +
               (rotated(y, 17) ^ rotated(y, 19) ^ y >> 10);
    }
}

static void by_hand(uint32_t h[8], const uint8_t *data, uint64_t blocks) {
    for (; blocks; blocks--, data += BLOCK_BYTES) {
        uint32_t w[ROUNDS], v[8]; // v: a to h
        fill_schedule(w, data);
        memcpy(v, h, sizeof v);
        for (unsigned i = 0; i < ROUNDS; i++) {
            uint32_t a = v[0], e = v[4];
            uint32_t one = v[7] + (rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)) +
                           ((e & v[5]) ^ (~e & v[6])) + round_constants[i] + w[i];
            uint32_t two =
                (rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
            memmove(v + 1, v, 7 * sizeof *v);
            v[4] += one;
            v[0] = one + two;
        }
        for (unsigned i = 0; i < 8; i++) h[i] += v[i];
    }
}

// What hashes blocks fastest here; `plain` is for tests of what other processors do.
sha256_feed sha256_best(bool plain) {
#ifdef BY_INSTRUCTION
    if (!plain && have_instructions()) return by_instruction;
#endif
    (void)plain;
    return by_hand;
}

// Hash whole blocks of 64 bytes.
hash sha256(sha256_feed feed, const void *data, uint64_t length) {
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                     0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t end[BLOCK_BYTES] = {0x80};
    uint64_t bits = __builtin_bswap64(8 * length);
    memcpy(end + BLOCK_BYTES - sizeof bits, &bits, sizeof bits);
    feed(h, data, length / BLOCK_BYTES);
    feed(h, end, 1);
    hash result;
    for (unsigned i = 0; i < 8; i++) h[i] = __builtin_bswap32(h[i]);
    memcpy(result.bytes, h, sizeof result);
    return result;
}
