/* The board as a program of a system with processes: commands on standard input, answers on standard output (adb shell, ssh). */
#define _POSIX_C_SOURCE 200809L

#include <time.h>
#include <unistd.h>

#include "port.h"
#include "server.h"

#ifndef ETSE_TARGET
#define ETSE_TARGET "host"
#endif
#ifndef ETSE_CORE
#define ETSE_CORE ""
#endif

static size_t receive(void *link, uint8_t *to, size_t size) {
    (void)link;
    const ssize_t got = read(STDIN_FILENO, to, size);
    return got > 0 ? (size_t)got : 0;
}

static void transmit(void *link, const uint8_t *from, size_t size) {
    (void)link;
    while (size > 0) {
        const ssize_t written = write(STDOUT_FILENO, from, size);
        if (written <= 0)
            _exit(1);
        from += written;
        size -= (size_t)written;
    }
}

#ifndef ETSE_NO_CLOCK
static uint64_t nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
#endif

int program(int count, const char **words) {
    (void)count;
    (void)words;
    static const etse_board board = {.read = receive,
                                     .write = transmit,
                                     .target = ETSE_TARGET,
                                     .core = ETSE_CORE,
#ifndef ETSE_NO_CLOCK
                                     .counter = "nanoseconds",
                                     .count = nanoseconds,
                                     .counts_per_s = 1000000000u,
#endif
    };
    etse_serve(&board);
    return 0;
}
