/* Reset of a Cortex-M: floating point and vectors on, memory as C expects it, then start(). */
#include <stdint.h>
#include <string.h>

extern uint32_t etse_data_from[], etse_data[], etse_data_end[], etse_bss[], etse_bss_end[], etse_stack_low[], etse_stack_top[];

void start(void);
void etse_reset_handler(void);
void etse_fault_handler(void);

/* A fault ends the program where it would otherwise hang: the emulator reports a failed run, a watchdog restarts a board. */
void etse_fault_handler(void) {
#ifdef ETSE_SEMIHOSTING
    static const uint32_t end[] = {0x20023 /* run-time error */, 70};
    register uint32_t r0 __asm__("r0") = 0x20;
    register const uint32_t *r1 __asm__("r1") = end;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
#endif
    for (;;) {
    }
}

__attribute__((noinline)) static void prepared(void) {
    memcpy(etse_data, etse_data_from, (uintptr_t)etse_data_end - (uintptr_t)etse_data);
    memset(etse_bss, 0, (uintptr_t)etse_bss_end - (uintptr_t)etse_bss);
    start();
}

__attribute__((naked)) void etse_reset_handler(void) {
    __asm__ volatile("ldr r0, =0xE000ED88\n" /* CPACR: full access to the floating-point unit, which vectors are part of */
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

typedef void (*vector_t)(void);

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
