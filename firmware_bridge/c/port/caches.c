#include "caches.h"

#include <stdint.h>

/* Armv7-M and Armv8-M architecture reference manuals, "System Control Block" and "Cache maintenance operations". */
#define CCR (*(volatile uint32_t *)0xE000ED14u)
#define CCSIDR (*(volatile uint32_t *)0xE000ED80u)
#define CSSELR (*(volatile uint32_t *)0xE000ED84u)
#define ICIALLU (*(volatile uint32_t *)0xE000EF50u)
#define DCISW (*(volatile uint32_t *)0xE000EF60u)
enum { DATA_ON = 1 << 16, INSTRUCTIONS_ON = 1 << 17, LOOPS_ON = 1 << 19 };

static void settle(void) { __asm__ volatile("dsb\n\tisb" ::: "memory"); }

#if !defined(__ARM_FEATURE_MVE)
/* After reset a Cortex-M7's caches hold whatever they held (its Technical Reference Manual, "Initializing and enabling the L1 caches"). */
static void invalidate(void) {
    ICIALLU = 0;
    CSSELR = 0;
    settle();
    const uint32_t shape = CCSIDR;
    const uint32_t line_bits = (shape & 7) + 4, last_way = shape >> 3 & 0x3FF, last_set = shape >> 13 & 0x7FFF;
    const uint32_t way_bits = last_way ? (uint32_t)__builtin_clz(last_way) : 0;
    for (uint32_t set = 0; set <= last_set; set++)
        for (uint32_t way = 0; way <= last_way; way++)
            DCISW = (last_way ? way << way_bits : 0) | set << line_bits;
    settle();
}
#endif

void etse_enable_caches(void) {
#if defined(__ARM_FEATURE_MVE)
    /* A Cortex-M55 invalidates its caches itself on reset (its Technical Reference Manual, "Initialization"), and DSB waits for it.
     * Low-overhead loops have a cache of their own. */
    CCR |= LOOPS_ON | INSTRUCTIONS_ON | DATA_ON;
#else
    invalidate();
    CCR |= INSTRUCTIONS_ON | DATA_ON;
#endif
    settle();
}
