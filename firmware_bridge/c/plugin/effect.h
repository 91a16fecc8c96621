/* The library as an effect of a sound host: float samples in blocks of any length at any rate, and the levels of talker and room.
 *
 * Memory and files are touched by open and close alone; run neither allocates, nor locks, nor asks the system for anything. As the
 * library has one memory, a program (or a copy of a plugin, see copy.h) has one effect open at a time.
 */
#ifndef ETSE_EFFECT_H
#define ETSE_EFFECT_H

#include <stdint.h>

enum { ETSE_LOWEST_RATE_HZ = 8000, ETSE_HIGHEST_RATE_HZ = 384000 };

/* At this level and below, the room is out. */
#define ETSE_NO_ROOM_DB (-60.0f)

typedef struct {
    /* share of the talker, 0..1; the rest of it is the sound as it came in */
    float strength;
    /* level in dB at which the room stays in beside the talker, up to 20 */
    float ambient_db;
    /* not 0: the sound as it came in, as late as the talker would be */
    int bypass;
} etse_controls;

typedef struct etse_effect etse_effect;

/* Open an effect for so many ears. voice: path of a voice patch, or NULL for a model with a voice folded in. Returns NULL where that
 * fails, and then *reason says why. */
etse_effect *etse_effect_open(uint32_t rate_hz, uint32_t ears, const char *voice, const char **reason);
void etse_effect_close(etse_effect *effect);

/* Forget the past: the next sample is the first. */
void etse_effect_start(etse_effect *effect);

/* Process a block: in and out are [ears] pointers to [frames], and may be the same memory. Controls move over 10 ms. */
void etse_effect_run(etse_effect *effect, const float *const *in, float *const *out, uint32_t frames, const etse_controls *controls);

/* Latency in frames, at the rate of the effect. */
uint32_t etse_effect_latency(const etse_effect *effect);

#endif
