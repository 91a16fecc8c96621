/* edge-tse on a device: 16-bit sound in, the enrolled talker out.
 *
 * One model per program, all memory static, no heap, no recursion, no operating system. Nothing here may be called from two
 * threads, or from an interrupt, while another call runs. Geometry (ETSE_HOP, ETSE_EARS, ...) comes from the generated model.h.
 *
 * To use it in a product, compile the generated model.c and frame.c with kernels.c, voice.c, crc32.c, front.c and fft.c, as C11,
 * with -ffp-contract=off (a fused multiply-add rounds once where every other core rounds twice). The system must provide memcpy,
 * memset and memcmp, and float registers that round to nearest. Weights, tables, state, arena and voice are in sections of their
 * own, see network.h. ETSE_PORTABLE turns the kernels for particular cores off.
 */
#ifndef ETSE_H
#define ETSE_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    ETSE_OK = 0,
    /* the number of ears is not 1..ETSE_EARS */
    ETSE_EARS_UNSUPPORTED = 1,
    /* the patch does not start as a voice patch of this schema does, or is truncated */
    ETSE_VOICE_MALFORMED = 2,
    /* the patch was made for another model */
    ETSE_VOICE_FOREIGN = 3,
    /* a value of the patch is outside what the kernels compute exactly */
    ETSE_VOICE_OUT_OF_RANGE = 4,
    /* the patch is not what was written: its CRC-32 differs */
    ETSE_VOICE_DAMAGED = 5,
    /* the model has a voice folded in and listens to that talker only: it has no room for a patch */
    ETSE_VOICE_FOLDED = 6,
} etse_status;

/* Initialize: call this first, and again to change the number of ears. It forgets the voice and the past.
 * ears: channels per hop from now on, 1..ETSE_EARS. */
etse_status etse_init(int ears);

/* Listen to this talker from the next hop on. The past is kept: no click, no pause. A refused patch changes nothing.
 * patch: little-endian bytes made by firmware_bridge.codegen.voice_patch, any alignment, read before the call returns.
 * size: ETSE_VOICE_PATCH_BYTES. A model that was compiled with a voice (ETSE_VOICE_CHANNELS is 0) refuses every patch as
 * ETSE_VOICE_FOLDED: compile it again without one. */
etse_status etse_set_voice(const uint8_t *patch, size_t size);

/* Forget the past, keep the voice: the next hop is the first. */
void etse_reset(void);

/* Process one hop: in and out are [ears][ETSE_HOP] and may be the same memory; out lags in by ETSE_DELAY samples. */
void etse_process(const int16_t *in, int16_t *out);

/* The three parts of etse_process, which must be called in this order, once per hop. */

/* Compute the features of a hop. in: [ears][ETSE_HOP]; features: [ETSE_FEATURES]. */
void etse_analyze(const int16_t *in, int8_t *features);

/* Run the network. features: [ETSE_FEATURES]; moves: [ETSE_MOVES][ETSE_BANDS], which are mask, velocity and, for a model with a
 * beam, share. It updates the network's past and may be called without etse_analyze before it. */
void etse_network(const int8_t *features, int8_t *moves);

/* Turn the moves into sound. moves: [ETSE_MOVES][ETSE_BANDS]; out: [ears][ETSE_HOP]. */
void etse_synthesize(const int8_t *moves, int16_t *out);

/* Name of the kernels that are compiled in: "c99", "mve", "dsp", "neon", "neon-dot" or "wasm". */
const char *etse_kernels(void);

#ifdef __cplusplus
}
#endif

#endif
