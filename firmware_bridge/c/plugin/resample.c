#include "resample.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Half of the filter in samples of the lower rate; where it is 6 dB down, of the lower Nyquist frequency; and its shape: 60 dB. With
 * these, 16 kHz passes up to 7 kHz, and what folds over lies above 7.6 kHz. */
enum { HALF = 24 };
static const double CUTOFF = 0.97, KAISER = 5.65, PI = 3.14159265358979323846;

static uint32_t common_factor(uint32_t a, uint32_t b) { return b ? common_factor(b, a % b) : a; }

/* Modified Bessel function of the first kind, order 0. */
static double bessel(double x) {
    double sum = 1.0, term = 1.0;
    for (int k = 1; k < 40; k++) {
        term *= x / (2 * k) * x / (2 * k);
        sum += term;
    }
    return sum;
}

static double filter_at(double t, double half, double cutoff) {
    const double inside = 1.0 - t / half * t / half;
    const double angle = PI * cutoff * t;
    const double sinc = fabs(angle) < 1e-9 ? 1.0 : sin(angle) / angle;
    return inside <= 0.0 ? 0.0 : sinc * bessel(KAISER * sqrt(inside));
}

uint32_t etse_resampler_delay(uint32_t from_hz, uint32_t to_hz) {
    return to_hz < from_hz ? (uint32_t)ceil(HALF * (double)from_hz / to_hz) : HALF;
}

int etse_resampler_open(etse_resampler *r, uint32_t from_hz, uint32_t to_hz, uint32_t channels, double later) {
    const uint32_t factor = common_factor(from_hz, to_hz);
    const double ratio = to_hz < from_hz ? (double)to_hz / from_hz : 1.0;
    const uint32_t delay = etse_resampler_delay(from_hz, to_hz), taps = 2 * delay;
    *r = (etse_resampler){.up = to_hz / factor, .down = from_hz / factor, .channels = channels, .delay = delay};
    r->filters = malloc((size_t)r->up * taps * sizeof *r->filters);
    r->history = malloc((size_t)channels * 2 * taps * sizeof *r->history);
    if (!r->filters || !r->history) {
        etse_resampler_close(r);
        return 0;
    }
    for (uint32_t p = 0; p < r->up; p++) {
        float *const filter = r->filters + (size_t)p * taps;
        const double first = (double)p / r->up - delay - later;
        double sum = 0.0;
        for (uint32_t j = 0; j < taps; j++)
            sum += filter_at(first + j, delay, ratio * CUTOFF);
        for (uint32_t j = 0; j < taps; j++)
            filter[j] = (float)(filter_at(first + j, delay, ratio * CUTOFF) / sum);
    }
    etse_resampler_reset(r);
    return 1;
}

void etse_resampler_close(etse_resampler *r) {
    free(r->filters);
    free(r->history);
    r->filters = r->history = NULL;
}

void etse_resampler_reset(etse_resampler *r) {
    memset(r->history, 0, (size_t)r->channels * 4 * r->delay * sizeof *r->history);
    r->newest = 0;
    r->phase = r->up;
}

void etse_resampler_push(etse_resampler *r, const float *sample) {
    const uint32_t taps = 2 * r->delay;
    r->phase -= r->up;
    r->newest = r->newest ? r->newest - 1 : taps - 1;
    for (uint32_t c = 0; c < r->channels; c++) {
        float *const history = r->history + (size_t)c * 2 * taps + r->newest;
        history[0] = history[taps] = sample[c];
    }
}

int etse_resampler_pull(etse_resampler *r, float *sample) {
    const uint32_t taps = 2 * r->delay;
    if (r->phase >= r->up)
        return 0;
    const float *const filter = r->filters + (size_t)r->phase * taps;
    for (uint32_t c = 0; c < r->channels; c++) {
        const float *const history = r->history + (size_t)c * 2 * taps + r->newest;
        float sum[2] = {0.0f, 0.0f};
        for (uint32_t j = 0; j < taps; j += 2) {
            sum[0] += filter[j] * history[j];
            sum[1] += filter[j + 1] * history[j + 1];
        }
        sample[c] = sum[0] + sum[1];
    }
    r->phase += r->down;
    return 1;
}
