/* A board that answers its host: the messages of firmware_bridge/wire.py over two functions that move bytes. */
#ifndef ETSE_SERVER_H
#define ETSE_SERVER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    /* Wait for bytes and store at most size of them; return their number, 0 once there will be no more. */
    size_t (*read)(void *link, uint8_t *to, size_t size);
    /* Write all size bytes. */
    void (*write)(void *link, const uint8_t *from, size_t size);
    void *link;
    /* Names of the target and of the core that the image was made for. */
    const char *target;
    const char *core;
    /* Unit of count(), "cycles" or "instructions"; both NULL where nothing counts: a counter that stands still is none. */
    const char *counter;
    uint64_t (*count)(void);
    /* Counts per second; 0 where the counter does not follow time. */
    uint32_t counts_per_s;
    /* Room for the stack, and its deepest use; 0 and NULL where unknown. */
    uint32_t stack_bytes;
    uint32_t (*stack_high_water_bytes)(void);
} etse_board;

/* Answer the host until the link ends. Calls etse_init first. */
void etse_serve(const etse_board *board);

/* Answer the host in a program with a loop of its own: begin once, then hand over bytes as they come. */
void etse_server_begin(const etse_board *board);
void etse_server_take(const etse_board *board, const uint8_t *bytes, size_t size);

#endif
