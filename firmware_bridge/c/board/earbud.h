/* Packets of one ear's sound, as firmware_bridge/wire.py describes them (EarSound): for an earbud, or any microphone with a clock of
 * its own. No heap, no system, no answer: write what comes out to the link, whole, and forget it. */
#ifndef ETSE_EARBUD_H
#define ETSE_EARBUD_H

#include "wire.h"

enum { ETSE_EAR_SAMPLES = (ETSE_MAX_PAYLOAD_BYTES - ETSE_EAR_SOUND_BYTES) / 2 };

/* An ear; all but its place and rate zero at the start, and again whenever its converter begins to count anew. */
typedef struct {
    uint8_t ear; /* 0 left, 1 right, 255 unknown */
    uint32_t rate_hz;
    uint64_t counter;
    uint16_t sequence;
} etse_ear;

/* Frame of the next samples [n <= ETSE_EAR_SAMPLES], which advances counter and sequence number; returns its size in bytes.
 * waited_us: time since the last of them was taken; to: [ETSE_FRAME_BYTES]. What was not sent counts, too: add it to the counter. */
size_t etse_ear_frame(etse_ear *ear, const int16_t *samples, size_t n, uint32_t waited_us, uint8_t *to);

#endif
