/* main.c: page tables for all of RAM, and the choice of a kernel. */
#include "kernels.h"

enum { RAM_START = 0x80000000u, RAM_BYTES = 32 << 20, PAGE = 4096, ENTRIES = 512 };
enum { PTE_V = 1, PTE_RWX = 14, PTE_AD = 0xc0 };

static uint64_t entry(uint64_t address, uint64_t bits) { return address >> 12 << 10 | bits | PTE_V; }

/* Identity-map RAM in pages of 4 KiB; returns the satp that uses the tables. */
uint64_t map_memory(uint64_t *tables) {
    uint64_t *middle = tables + ENTRIES, *low = middle + ENTRIES;
    tables[RAM_START >> 30] = entry((uintptr_t)middle, 0);
    for (uint64_t i = 0; i < RAM_BYTES / PAGE; i++) {
        if (i % ENTRIES == 0) middle[i / ENTRIES] = entry((uintptr_t)&low[i], 0);
        low[i] = entry(RAM_START + i * PAGE, PTE_RWX | PTE_AD);
    }
    return 8ull << 60 | (uintptr_t)tables >> 12;
}

/* Code that the host has put there: generated functions, see orchestra/bench/big.py. */
static uint64_t kernel_big(uint64_t rounds) {
    uint64_t (*code)(uint64_t) = (uint64_t(*)(uint64_t))(uintptr_t)(RAM_START + (16u << 20));
    uint64_t result = 0;
    while (rounds--) result = code(result);
    return result;
}

uint64_t run_kernel(uint64_t which, uint64_t rounds) {
    switch (which) {
    case 1: return kernel_fib(rounds);
    case 2: return kernel_sieve(rounds);
    case 3: return kernel_copy(rounds);
    case 4: return kernel_matmul(rounds);
    case 5: return kernel_matmul_exact(rounds);
    case 6: return kernel_mix(rounds);
    case 7: return kernel_records(rounds);
    case 8: return kernel_big(rounds);
    }
    return 0;
}
