/* Interface between the generated model.c and the code that is the same for every model. */
#ifndef ETSE_NETWORK_H
#define ETSE_NETWORK_H

#include <stdint.h>

#include "kernels.h"

/* Named sections, so that a linker script can put weights where there is room and state where it is fast. */
#if defined(__ELF__)
#define ETSE_IN(name) __attribute__((section(name), aligned(16)))
#else
#define ETSE_IN(name) __attribute__((aligned(16)))
#endif
#define ETSE_WEIGHTS ETSE_IN(".rodata.etse.weights")
#define ETSE_TABLES ETSE_IN(".rodata.etse.tables")
#define ETSE_STATE ETSE_IN(".bss.etse.state")
#define ETSE_ARENA ETSE_IN(".bss.etse.arena")
#define ETSE_VOICE ETSE_IN(".bss.etse.voice")

/* A delay line: rows of int8 channels; the newest replaces the oldest in place. */
typedef struct {
    int8_t *memory;
    uint16_t rows;
    uint16_t stride;
    /* value of all rows before the first step */
    int8_t zero_point;
} etse_ring_t;

/* Row i of a window, oldest first, where head is the newest. */
static inline int8_t *etse_row(const etse_ring_t *ring, uint32_t head, uint32_t i) {
    const uint32_t slot = head + 1 + i;
    return ring->memory + (slot >= ring->rows ? slot - ring->rows : slot) * ring->stride;
}

/* Definitions that firmware_bridge/codegen.py generates. */
void etse_model_reset(void);
void etse_model_step(const int8_t *input, int8_t *const *outputs);
/* The arena holds bytes and, between the steps of the network, floats: as a char type, int8_t may look at either. */
extern float etse_arena[];

/* Factors and biases that a voice replaces: [ETSE_VOICE_CHANNELS], the layers in order, and their values for no voice. */
extern float etse_voice_factor[];
extern int32_t etse_voice_bias[];
extern const float etse_neutral_factor[];
extern const int32_t etse_neutral_bias[];
extern const uint8_t etse_model_id[16];

/* Forget the voice: listen to nobody in particular. */
void etse_voice_clear(void);

#endif
