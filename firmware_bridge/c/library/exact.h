/* One rounding per operation: what the integers of a network, and the sound, depend on.
 *
 * The build says so with -ffp-contract=off. Arduino's and CMSIS's builds (ARDUINO, _RTE_) give a library no way to choose its
 * flags, and gcc, unlike clang, contracts by default and ignores the pragma of C for it. Included first, before any function. */
#ifndef ETSE_EXACT_H
#define ETSE_EXACT_H

#if defined(__FAST_MATH__)
#error "the integers of the network depend on how floats are rounded: compile without -ffast-math"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0
#error "floats must be rounded to float32 after each operation"
#endif

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && (defined(ARDUINO) || defined(_RTE_))
#pragma GCC optimize("fp-contract=off")
#endif

#endif
