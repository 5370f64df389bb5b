/* IEEE-754 binary32 and binary64 arithmetic as RISC-V F and D define it, in integers only. */
#ifndef ORCHESTRA_FLOAT_H
#define ORCHESTRA_FLOAT_H

#include <stdbool.h>
#include <stdint.h>

/* Operands and results are bit patterns. The functions keep no state: accrued flags are OR-ed into
   *flags, and `rm` is a resolved rounding mode (0..4; the caller deals with DYN and reserved values).
   Every NaN result is the canonical one. Tininess is detected after rounding. */

/* Rounding modes, numbered as in the rm field and in frm. */
enum { FLOAT_RNE = 0, FLOAT_RTZ = 1, FLOAT_RDN = 2, FLOAT_RUP = 3, FLOAT_RMM = 4 };

/* Exception flags, as in fflags: inexact, underflow, overflow, division by zero, invalid. */
enum { FLOAT_NX = 1, FLOAT_UF = 2, FLOAT_OF = 4, FLOAT_DZ = 8, FLOAT_NV = 16 };

uint32_t f32_add(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags);
uint32_t f32_sub(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags);
uint32_t f32_mul(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags);
uint32_t f32_div(uint32_t a, uint32_t b, unsigned rm, uint32_t *flags);
uint32_t f32_sqrt(uint32_t a, unsigned rm, uint32_t *flags);
uint32_t f32_fma(uint32_t a, uint32_t b, uint32_t c, unsigned rm, uint32_t *flags); /* a * b + c */
uint32_t f32_min(uint32_t a, uint32_t b, uint32_t *flags);
uint32_t f32_max(uint32_t a, uint32_t b, uint32_t *flags);
bool f32_eq(uint32_t a, uint32_t b, uint32_t *flags); /* quiet: only a signaling NaN is invalid */
bool f32_lt(uint32_t a, uint32_t b, uint32_t *flags); /* signaling: every NaN is invalid */
bool f32_le(uint32_t a, uint32_t b, uint32_t *flags);
uint32_t f32_class(uint32_t a); /* the ten-bit mask of FCLASS */
int32_t f32_to_i32(uint32_t a, unsigned rm, uint32_t *flags);
uint32_t f32_to_u32(uint32_t a, unsigned rm, uint32_t *flags);
int64_t f32_to_i64(uint32_t a, unsigned rm, uint32_t *flags);
uint64_t f32_to_u64(uint32_t a, unsigned rm, uint32_t *flags);
uint32_t f32_from_i32(int32_t a, unsigned rm, uint32_t *flags);
uint32_t f32_from_u32(uint32_t a, unsigned rm, uint32_t *flags);
uint32_t f32_from_i64(int64_t a, unsigned rm, uint32_t *flags);
uint32_t f32_from_u64(uint64_t a, unsigned rm, uint32_t *flags);
uint32_t f32_from_f64(uint64_t a, unsigned rm, uint32_t *flags);

uint64_t f64_add(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags);
uint64_t f64_sub(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags);
uint64_t f64_mul(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags);
uint64_t f64_div(uint64_t a, uint64_t b, unsigned rm, uint32_t *flags);
uint64_t f64_sqrt(uint64_t a, unsigned rm, uint32_t *flags);
uint64_t f64_fma(uint64_t a, uint64_t b, uint64_t c, unsigned rm, uint32_t *flags);
uint64_t f64_min(uint64_t a, uint64_t b, uint32_t *flags);
uint64_t f64_max(uint64_t a, uint64_t b, uint32_t *flags);
bool f64_eq(uint64_t a, uint64_t b, uint32_t *flags);
bool f64_lt(uint64_t a, uint64_t b, uint32_t *flags);
bool f64_le(uint64_t a, uint64_t b, uint32_t *flags);
uint32_t f64_class(uint64_t a);
int32_t f64_to_i32(uint64_t a, unsigned rm, uint32_t *flags);
uint32_t f64_to_u32(uint64_t a, unsigned rm, uint32_t *flags);
int64_t f64_to_i64(uint64_t a, unsigned rm, uint32_t *flags);
uint64_t f64_to_u64(uint64_t a, unsigned rm, uint32_t *flags);
uint64_t f64_from_i32(int32_t a, unsigned rm, uint32_t *flags);
uint64_t f64_from_u32(uint32_t a, unsigned rm, uint32_t *flags);
uint64_t f64_from_i64(int64_t a, unsigned rm, uint32_t *flags);
uint64_t f64_from_u64(uint64_t a, unsigned rm, uint32_t *flags);
uint64_t f64_from_f32(uint32_t a, uint32_t *flags); /* always exact */

uint32_t f32_minm(uint32_t a, uint32_t b, uint32_t *flags); /* Zfa: a NaN wins */
uint32_t f32_maxm(uint32_t a, uint32_t b, uint32_t *flags);
bool f32_ltq(uint32_t a, uint32_t b, uint32_t *flags); /* quiet */
bool f32_leq(uint32_t a, uint32_t b, uint32_t *flags);
uint32_t f32_round(uint32_t a, unsigned rm, uint32_t *flags); /* to an integer, without NX */
uint32_t f32_roundnx(uint32_t a, unsigned rm, uint32_t *flags);
uint32_t f32_constant(unsigned index);                      /* of FLI, 0..31 */
uint64_t f64_minm(uint64_t a, uint64_t b, uint32_t *flags); /* Zfa: a NaN wins */
uint64_t f64_maxm(uint64_t a, uint64_t b, uint32_t *flags);
bool f64_ltq(uint64_t a, uint64_t b, uint32_t *flags); /* quiet */
bool f64_leq(uint64_t a, uint64_t b, uint32_t *flags);
uint64_t f64_round(uint64_t a, unsigned rm, uint32_t *flags); /* to an integer, without NX */
uint64_t f64_roundnx(uint64_t a, unsigned rm, uint32_t *flags);
uint64_t f64_constant(unsigned index);                  /* of FLI, 0..31 */
int32_t f64_to_i32_modulo(uint64_t a, uint32_t *flags); /* towards zero */

#endif
