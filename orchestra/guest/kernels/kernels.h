/* kernels.h: what the kernels of `orchestra bench cpu` share. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Each does the same work in every round, and folds what it found into the result. */
uint64_t kernel_fib(uint64_t rounds);
uint64_t kernel_sieve(uint64_t rounds);
uint64_t kernel_copy(uint64_t rounds);
uint64_t kernel_matmul(uint64_t rounds);
uint64_t kernel_matmul_exact(uint64_t rounds);
uint64_t kernel_mix(uint64_t rounds);
uint64_t kernel_records(uint64_t rounds);

static inline uint64_t fold(uint64_t result, uint64_t value) {
    result = (result ^ value) * 0x9e3779b97f4a7c15u;
    return result ^ result >> 29;
}

static inline uint32_t next_random(uint32_t *state) { return *state = *state * 1664525 + 1013904223; }

#endif
