/* From one rate to another by a ratio of whole numbers: a Kaiser-windowed sinc in as many phases as the ratio needs.
 *
 * A sample in, none or several out, each linear in phase with a delay of `delay` samples of the rate that comes in, and what was asked for
 * on top. Memory is taken by open alone. */
#ifndef ETSE_RESAMPLE_H
#define ETSE_RESAMPLE_H

#include <stdint.h>

typedef struct {
    /* samples out for samples in, without a common factor */
    uint32_t up, down;
    uint32_t channels;
    /* delay in samples that come in, a half of the taps of a phase */
    uint32_t delay;
    /* [up][2 * delay], the newest sample first */
    float *filters;
    /* [channels][4 * delay]: each sample twice, so that any window of 2 * delay is in one piece */
    float *history;
    uint32_t newest, phase;
} etse_resampler;

/* Delay that a change of rate will have, in samples of the rate that comes in. */
uint32_t etse_resampler_delay(uint32_t from_hz, uint32_t to_hz);

/* Prepare for a change of rate. later: further delay, within half a sample of the rate that comes in. Returns 0 if there is no memory,
 * and has taken none. */
int etse_resampler_open(etse_resampler *resampler, uint32_t from_hz, uint32_t to_hz, uint32_t channels, double later);
void etse_resampler_close(etse_resampler *resampler);

/* Forget the past: the next sample is the first. */
void etse_resampler_reset(etse_resampler *resampler);

/* Take one sample of each channel; everything that was due before has been taken out. */
void etse_resampler_push(etse_resampler *resampler, const float *sample);

/* Give the next sample of each channel: returns 1 if one is due, 0 if another has to come in first. */
int etse_resampler_pull(etse_resampler *resampler, float *sample);

#endif
