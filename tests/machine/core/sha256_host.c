/* sha256_host.c: SHA-256 by this host's instructions against the plain one; prints whether it has any. */
#include "machine.h"

#include <stdio.h>

static uint64_t next(uint64_t *random) {
    return *random = *random * 6364136223846793005ull + 1442695040888963407ull;
}

int main(void) {
    static uint8_t data[PAGE_BYTES + 8];
    sha256_feed best = sha256_best(false), plain = sha256_best(true);
    uint64_t random = 1, mismatches = 0;
    for (unsigned round = 0; round < 2000; round++) {
        for (unsigned i = 0; i < sizeof data; i++) data[i] = (uint8_t)(next(&random) >> 56);
        const uint8_t *start = data + next(&random) % 8;
        uint64_t length = (next(&random) >> 40) % (PAGE_BYTES / 64 + 1) * 64;
        hash one = sha256(best, start, length), other = sha256(plain, start, length);
        mismatches += memcmp(&one, &other, sizeof one) != 0;
    }
    printf("%s, %d mismatches\n", best == plain ? "plain" : "by instruction", (int)mismatches);
    return mismatches != 0;
}
