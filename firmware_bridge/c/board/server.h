/* A board that answers its host: the messages of firmware_bridge/wire.py over two functions that move bytes. */
#ifndef ETSE_SERVER_H
#define ETSE_SERVER_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    /* Waits for bytes and fills in at most size of them; returns how many, 0 once there will be no more. */
    size_t (*read)(void *link, uint8_t *to, size_t size);
    /* All of it. */
    void (*write)(void *link, const uint8_t *from, size_t size);
    void *link;
    /* what it calls itself: the target and the core that its image was made for */
    const char *target;
    const char *core;
    /* What count() counts, "cycles" or "instructions"; both NULL where nothing counts: a counter that stands still is none. */
    const char *counter;
    uint64_t (*count)(void);
    /* 0 where the counter does not follow time */
    uint32_t counts_per_s;
    /* 0 and NULL where unknown */
    uint32_t stack_bytes;
    uint32_t (*stack_high_water_bytes)(void);
} etse_board;

/* Answers until the link ends. Calls etse_init first. */
void etse_serve(const etse_board *board);

/* The same, for a program with a loop of its own: begin once, then hand over bytes as they come. */
void etse_server_begin(const etse_board *board);
void etse_server_take(const etse_board *board, const uint8_t *bytes, size_t size);

#endif
