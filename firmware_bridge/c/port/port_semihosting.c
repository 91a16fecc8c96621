/* Programs on a Cortex-M under a debugger or an emulator that lends it the host's files (Arm semihosting). */
#include <string.h>

#include "port.h"

enum { OPEN = 0x01, CLOSE = 0x02, WRITE0 = 0x04, WRITE = 0x05, READ = 0x06, GET_CMDLINE = 0x15, EXIT_EXTENDED = 0x20, ELAPSED = 0x30 };
enum { READ_BINARY = 1, WRITE_BINARY = 5, APPLICATION_EXIT = 0x20026 };

/* SysTick (Armv7-M and Armv8-M architecture reference manuals). */
#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define ICSR (*(volatile uint32_t *)0xE000ED04u)
enum { RUNS = 1, INTERRUPTS = 2, OF_THE_CORE = 4, TICKS = 25000, NO_LONGER_PENDS = 1 << 25 };

void start(void);

static intptr_t call(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return (intptr_t)r0;
}

int port_open(const char *path, int write) {
    const uintptr_t block[] = {(uintptr_t)path, write ? WRITE_BINARY : READ_BINARY, strlen(path)};
    return (int)call(OPEN, block);
}

size_t port_read(int file, void *to, size_t size) {
    const uintptr_t block[] = {(uintptr_t)file, (uintptr_t)to, size};
    return size - (size_t)call(READ, block);
}

int port_write(int file, const void *from, size_t size) {
    const uintptr_t block[] = {(uintptr_t)file, (uintptr_t)from, size};
    return call(WRITE, block) == 0 ? 0 : -1;
}

int port_close(int file) {
    const uintptr_t block[] = {(uintptr_t)file};
    return call(CLOSE, block) == 0 ? 0 : -1;
}

void port_print(const char *text) { call(WRITE0, text); }

/* QEMU's unit is the nanosecond. */
uint64_t port_elapsed_ns(void) {
    uint64_t elapsed = 0;
    return call(ELAPSED, &elapsed) == 0 ? elapsed : 0;
}

/* The core sleeps until SysTick asks for an interrupt, which is masked and never taken. */
void port_rest(void) {
    __asm__ volatile("cpsid i" ::: "memory");
    SYST_RVR = TICKS;
    SYST_CVR = 0;
    SYST_CSR = RUNS | INTERRUPTS | OF_THE_CORE;
    __asm__ volatile("wfi" ::: "memory");
    SYST_CSR = 0;
    ICSR = NO_LONGER_PENDS;
}

static int words_of(char *line, int room, const char **words) {
    int count = 0;
    while (*line && count < room) {
        while (*line == ' ')
            *line++ = 0;
        if (!*line)
            break;
        words[count++] = line;
        while (*line && *line != ' ')
            line++;
    }
    return count;
}

void start(void) {
    static char line[512];
    const char *words[16];
    const uintptr_t block[] = {(uintptr_t)line, sizeof line};
    const int count = call(GET_CMDLINE, block) == 0 ? words_of(line, 16, words) : 0;
    const int status = program(count > 0 ? count - 1 : 0, words + 1);
    const uintptr_t end[] = {APPLICATION_EXIT, (uintptr_t)status};
    call(EXIT_EXTENDED, end);
    for (;;) {
    }
}
