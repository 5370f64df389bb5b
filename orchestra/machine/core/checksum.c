/* checksum.c: CRC-32C (Castagnoli, RFC 3720 appendix B.4) of pages, and where a state's zeros begin. */
#include "machine.h"

#if defined(__x86_64__) && defined(__GNUC__)
#    define BY_INSTRUCTION __attribute__((target("sse4.2")))
static bool have_instruction(void) { return __builtin_cpu_supports("sse4.2"); }
#    define FEED(sum, word) __builtin_ia32_crc32di(sum, word)
#elif defined(__ARM_FEATURE_CRC32)
#    include <arm_acle.h>
#    define BY_INSTRUCTION
static bool have_instruction(void) { return true; }
#    define FEED(sum, word) __crc32cd((uint32_t)(sum), word)
#endif

enum { POLYNOMIAL = (int)0x82f63b78u }; // reflected

static uint32_t by_table(const uint8_t *bytes, uint64_t length) {
    uint32_t table[256], sum = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? (uint32_t)POLYNOMIAL : 0);
        table[i] = value;
    }
    for (uint64_t i = 0; i < length; i++) sum = table[(sum ^ bytes[i]) & 255] ^ sum >> 8;
    return ~sum;
}

#ifdef BY_INSTRUCTION
BY_INSTRUCTION static uint32_t by_instruction(const uint8_t *bytes, uint64_t length) {
    uint64_t sum = ~0u, word;
    for (uint64_t i = 0; i < length; i += sizeof word) {
        memcpy(&word, bytes + i, sizeof word);
        sum = FEED(sum, word);
    }
    return ~(uint32_t)sum;
}
#endif

// The checksum of each of these pages; `by_hand` is for tests of what other processors do.
void page_checksums(const uint8_t *pages, uint64_t count, uint32_t *sums, bool by_hand) {
#ifdef BY_INSTRUCTION
    if (!by_hand && have_instruction()) {
        for (uint64_t i = 0; i < count; i++) sums[i] = by_instruction(pages + i * PAGE_BYTES, PAGE_BYTES);
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
