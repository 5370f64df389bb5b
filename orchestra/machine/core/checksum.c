/* checksum.c: CRC-32C (Castagnoli, RFC 3720 appendix B.4), and where a state's zeros begin. */
#include "machine.h"

#if defined(__x86_64__) && defined(__GNUC__)
#    define BY_INSTRUCTION __attribute__((target("sse4.2,crc32"))) // clang has made two of them
static bool have_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#    define FEED(sum, word) __builtin_ia32_crc32di(sum, word)
#elif defined(__ARM_FEATURE_CRC32)
#    include <arm_acle.h>
#    define BY_INSTRUCTION
static bool have_instruction(void) { return true; }
#    define FEED(sum, word) __crc32cd((uint32_t)(sum), word)
#endif

enum { POLYNOMIAL = (int)0x82f63b78u }; // reflected

static uint32_t feed_byte(uint32_t sum, uint8_t byte) {
    sum ^= byte;
    for (int bit = 0; bit < 8; bit++) sum = sum >> 1 ^ (sum & 1 ? (uint32_t)POLYNOMIAL : 0);
    return sum;
}

static uint32_t by_table(const uint8_t *bytes, uint64_t length) {
    uint32_t table[256], sum = ~0u;
    for (uint32_t i = 0; i < 256; i++) table[i] = feed_byte(0, (uint8_t)i);
    for (uint64_t i = 0; i < length; i++) sum = table[(sum ^ bytes[i]) & 255] ^ sum >> 8;
    return ~sum;
}

#ifdef BY_INSTRUCTION
static uint64_t word_at(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

BY_INSTRUCTION static uint32_t by_instruction(const uint8_t *bytes, uint64_t length) {
    uint64_t sum = ~0u, i = 0;
    for (; i + 8 <= length; i += 8) sum = FEED(sum, word_at(bytes + i));
    for (; i < length; i++) sum = feed_byte((uint32_t)sum, bytes[i]);
    return ~(uint32_t)sum;
}

// Three pages at once: the instruction takes three cycles, and one may begin in each.
BY_INSTRUCTION static void three_by_instruction(const uint8_t *page, uint32_t *sums) {
    uint64_t a = ~0u, b = ~0u, c = ~0u;
    for (uint64_t i = 0; i < PAGE_BYTES; i += 8) {
        a = FEED(a, word_at(page + i));
        b = FEED(b, word_at(page + PAGE_BYTES + i));
        c = FEED(c, word_at(page + 2 * PAGE_BYTES + i));
    }
    sums[0] = ~(uint32_t)a, sums[1] = ~(uint32_t)b, sums[2] = ~(uint32_t)c;
}
#endif

// The checksum of some bytes.
uint32_t checksum(const uint8_t *bytes, uint64_t length) {
#ifdef BY_INSTRUCTION
    if (have_instruction()) return by_instruction(bytes, length);
#endif
    return by_table(bytes, length);
}

// The checksum of each of these pages; `by_hand` is for tests of what other processors do.
void page_checksums(const uint8_t *pages, uint64_t count, uint32_t *sums, bool by_hand) {
#ifdef BY_INSTRUCTION
    if (!by_hand && have_instruction()) {
        uint64_t i = 0;
        for (; i + 3 <= count; i += 3) three_by_instruction(pages + i * PAGE_BYTES, sums + i);
        for (; i < count; i++) sums[i] = by_instruction(pages + i * PAGE_BYTES, PAGE_BYTES);
        return;
    }
#endif
    (void)by_hand;
    for (uint64_t i = 0; i < count; i++) sums[i] = by_table(pages + i * PAGE_BYTES, PAGE_BYTES);
}

// How many bytes a state has before the zeros at its end.
uint32_t state_used(const state *s) {
    const uint64_t *words = (const uint64_t *)s;
    uint32_t used = sizeof *s / sizeof *words;
    while (used && !words[used - 1]) used--;
    return used * (uint32_t)sizeof *words;
}
