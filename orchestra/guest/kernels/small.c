/* small.c: kernels of one loop each: calls, bytes and bits, memory, floating point. */
#include "kernels.h"

/* calls */

static __attribute__((noinline)) uint64_t fib(uint64_t n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

uint64_t kernel_fib(uint64_t rounds) {
    uint64_t result = 0;
    while (rounds--) result = fold(result, fib(24));
    return result;
}

/* a sieve of bytes, and the CRC-32 of it */

enum { SIEVE = 1 << 16 };
static uint8_t composite[SIEVE];
static uint32_t crc_table[256];

static void fill_crc_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        crc_table[i] = crc;
    }
}

static uint32_t crc32_of(const uint8_t *data, size_t length) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < length; i++) crc = crc >> 8 ^ crc_table[(crc ^ data[i]) & 255];
    return ~crc;
}

uint64_t kernel_sieve(uint64_t rounds) {
    uint64_t result = 0;
    fill_crc_table();
    while (rounds--) {
        for (int i = 0; i < SIEVE; i++) composite[i] = i < 2;
        for (int i = 2; i * i < SIEVE; i++)
            if (!composite[i])
                for (int j = i * i; j < SIEVE; j += i) composite[j] = 1;
        result = fold(result, crc32_of(composite, SIEVE));
    }
    return result;
}

/* copying memory, as a C library does: words where source and target are aligned alike, else bytes */

enum { COPY = 1 << 15 };
static uint8_t source[COPY + 16], target[COPY + 16];

static __attribute__((noinline)) void copy(uint8_t *to, const uint8_t *from, size_t length) {
    if ((((uintptr_t)to ^ (uintptr_t)from) & 7) == 0) {
        for (; ((uintptr_t)to & 7) && length; length--) *to++ = *from++;
        uint64_t *wide = (uint64_t *)to;
        const uint64_t *words = (const uint64_t *)from;
        for (; length >= 64; length -= 64, wide += 8, words += 8) {
            uint64_t a = words[0], b = words[1], c = words[2], d = words[3];
            uint64_t e = words[4], f = words[5], g = words[6], h = words[7];
            wide[0] = a, wide[1] = b, wide[2] = c, wide[3] = d;
            wide[4] = e, wide[5] = f, wide[6] = g, wide[7] = h;
        }
        for (; length >= 8; length -= 8) *wide++ = *words++;
        to = (uint8_t *)wide;
        from = (const uint8_t *)words;
    }
    while (length--) *to++ = *from++;
}

uint64_t kernel_copy(uint64_t rounds) {
    uint64_t result = 0;
    uint32_t random = 1;
    for (int i = 0; i < COPY; i++) source[i] = (uint8_t)(next_random(&random) >> 24);
    while (rounds--) {
        for (unsigned turn = 0; turn < 64; turn++) {
            unsigned from = turn * 5 & 7, to = turn % 8 ? from : 3; /* one copy of eight goes by bytes */
            copy(target + to, source + from, COPY - turn * 8);
        }
        for (int i = 0; i < COPY; i += 512) result = fold(result, target[i]);
    }
    return result;
}

/* products of matrices of doubles: with rounding, and with small integers, where nothing rounds */

enum { ORDER = 48 };
static double left[ORDER][ORDER], right[ORDER][ORDER], product[ORDER][ORDER];

static __attribute__((noinline)) void multiply(void) {
    for (int i = 0; i < ORDER; i++)
        for (int j = 0; j < ORDER; j++) {
            double sum = 0;
            for (int k = 0; k < ORDER; k++) sum += left[i][k] * right[k][j];
            product[i][j] = sum;
        }
}

static uint64_t matmul(uint64_t rounds, double unit) {
    uint64_t result = 0;
    uint32_t random = 1;
    for (int i = 0; i < ORDER; i++)
        for (int j = 0; j < ORDER; j++) {
            left[i][j] = (double)(next_random(&random) >> 26) * unit;
            right[i][j] = ((double)(next_random(&random) >> 26) - 32) * unit;
        }
    while (rounds--) {
        multiply();
        for (int i = 0; i < ORDER; i++) {
            union {
                double real;
                uint64_t bits;
            } value = {product[i][(i * 7) % ORDER]};
            result = fold(result, value.bits);
        }
    }
    return result;
}

uint64_t kernel_matmul(uint64_t rounds) { return matmul(rounds, 0.1); }

uint64_t kernel_matmul_exact(uint64_t rounds) { return matmul(rounds, 1); }
