#include "serve_core.h"

#include "port.h"
#include "server.h"

/* Which board and core the image is for, and the clock of the core, 0 where it is not stated or not one. */
#ifndef ETSE_TARGET
#define ETSE_TARGET ""
#endif
#ifndef ETSE_CORE
#define ETSE_CORE ""
#endif
#ifndef ETSE_CLOCK_HZ
#define ETSE_CLOCK_HZ 0u
#endif

/* Data watchpoint and trace (Armv7-M and Armv8-M architecture reference manuals): a counter of cycles. */
#define DEMCR (*(volatile uint32_t *)0xE000EDFCu)
#define DWT_CTRL (*(volatile uint32_t *)0xE0001000u)
#define DWT_CYCCNT (*(volatile uint32_t *)0xE0001004u)
#define DWT_LAR (*(volatile uint32_t *)0xE0001FB0u)
enum { TRACE_ON = 1 << 24, COUNT_CYCLES = 1, SPINS = 64 };

static uint64_t cycles(void) {
    static uint64_t total;
    static uint32_t last;
    const uint32_t now = DWT_CYCCNT;
    total += now - last;
    last = now;
    return total;
}

/* Emulators, and cores without the unit, have a counter that stands still. */
static int cycles_move(void) {
    DEMCR |= TRACE_ON;
    DWT_LAR = 0xC5ACCE55u;
    DWT_CTRL |= COUNT_CYCLES;
    const uint32_t before = DWT_CYCCNT;
    for (volatile int i = 0; i < SPINS; i++) {
    }
    return DWT_CYCCNT != before;
}

static uint32_t stack_high_water_bytes(void) {
    const int32_t used = port_stack_bytes();
    return used > 0 ? (uint32_t)used : 0;
}

void etse_serve_core(size_t (*read)(void *link, uint8_t *to, size_t size),
                     void (*write)(void *link, const uint8_t *from, size_t size)) {
    const int counts = cycles_move();
    const etse_board board = {.read = read,
                              .write = write,
                              .target = ETSE_TARGET,
                              .core = ETSE_CORE,
                              .counter = counts ? "cycles" : NULL,
                              .count = counts ? cycles : NULL,
                              .counts_per_s = ETSE_CLOCK_HZ,
                              .stack_high_water_bytes = stack_high_water_bytes};
    etse_serve(&board);
}
