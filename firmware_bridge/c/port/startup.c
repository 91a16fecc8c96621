/* Reset of a Cortex-M: floating point and vectors on, caches where there are some, memory as C expects it, then start().
 *
 * Clocks are left as reset, or what ran before, has them; the MPU is left off, and with it the architecture's own memory map in force:
 * flash and RAM are normal memory that is cached, TCM is never cached, everything else is a device. */
#include <stdint.h>
#include <string.h>

#include "port.h"
#if defined(ETSE_CACHES)
#include "caches.h"
#endif
#if defined(ETSE_MAILBOX)
#include "mailbox.h"
#endif

/* From the linker script. What is zeroed may lie in two memories. */
extern uint32_t etse_data_from[], etse_data[], etse_data_end[], etse_stack_low[], etse_stack_top[];
extern uint32_t etse_bss[], etse_bss_end[], etse_slow[], etse_slow_end[];

typedef void (*vector_t)(void);

void start(void);
void etse_reset_handler(void);
void etse_fault_handler(void);

/* A fault ends the program where it would otherwise hang: the emulator reports a failed run, a debug probe finds a record of it, a
 * watchdog restarts a board. */
#if defined(ETSE_MAILBOX)
__attribute__((noreturn, used)) static void faulted(const uint32_t *frame) {
    etse_mailbox_fault(frame);
    for (;;) {
    }
}

__attribute__((naked)) void etse_fault_handler(void) {
    __asm__ volatile("mrs r0, msp\n" /* the only stack there is */
                     "b %c0\n"
                     :
                     : "i"(faulted));
}
#else
void etse_fault_handler(void) {
#if defined(ETSE_SEMIHOSTING)
    static const uint32_t end[] = {0x20023 /* run-time error */, 70};
    register uint32_t r0 __asm__("r0") = 0x20;
    register const uint32_t *r1 __asm__("r1") = end;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
#endif
    for (;;) {
    }
}
#endif

static const vector_t vectors[16];

#define VTOR (*(volatile uint32_t *)0xE000ED08u)

__attribute__((noinline)) static void prepared(void) {
    /* A debugger, a loader or an alias of the memory at 0 may have started us with other vectors in force. */
    VTOR = (uint32_t)(uintptr_t)vectors;
#if defined(ETSE_CACHES)
    etse_enable_caches();
#endif
    memcpy(etse_data, etse_data_from, (uintptr_t)etse_data_end - (uintptr_t)etse_data);
    memset(etse_bss, 0, (uintptr_t)etse_bss_end - (uintptr_t)etse_bss);
    memset(etse_slow, 0, (uintptr_t)etse_slow_end - (uintptr_t)etse_slow);
    start();
}

/* Its handler painted all of it. */
int32_t port_stack_bytes(void) {
    const uint32_t words = (uint32_t)((uintptr_t)etse_stack_top - (uintptr_t)etse_stack_low) / 4;
    uint32_t untouched = 0;
    while (untouched < words && etse_stack_low[untouched] == 0xA5A5A5A5u)
        untouched++;
    return (int32_t)(4 * (words - untouched));
}

__attribute__((naked)) void etse_reset_handler(void) {
    __asm__ volatile("ldr r0, =etse_stack_top\n" /* a loader may have jumped here and left its own */
                     "mov sp, r0\n"
                     "ldr r0, =0xE000ED88\n" /* CPACR: full access to the floating-point unit, which vectors are part of */
                     "ldr r1, [r0]\n"
                     "orr r1, r1, #(0xF << 20)\n"
                     "str r1, [r0]\n"
                     "dsb\n"
                     "isb\n"
                     "ldr r0, =etse_stack_low\n" /* paint the stack, to see later how deep it went */
                     "ldr r1, =etse_stack_top\n"
                     "ldr r2, =0xA5A5A5A5\n"
                     "1: str r2, [r0], #4\n"
                     "cmp r0, r1\n"
                     "blo 1b\n"
                     "b %c0\n"
                     ".ltorg\n"
                     :
                     : "i"(prepared));
}

__attribute__((section(".vectors"), used)) static const vector_t vectors[16] = {
    (vector_t)(uintptr_t)etse_stack_top,
    etse_reset_handler,
    etse_fault_handler, /* NMI */
    etse_fault_handler, /* HardFault */
    etse_fault_handler, /* MemManage */
    etse_fault_handler, /* BusFault */
    etse_fault_handler, /* UsageFault */
    etse_fault_handler, /* SecureFault */
};
