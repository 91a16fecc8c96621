/* Sound to features and gains to sound: the computation of edge_tse/frame.py and edge_tse/engines, in float32.
 *
 * Between cores the results are equal, not only close: additions stand in one order, and nothing is contracted to a fused
 * multiply-add. From the host's NumPy they differ in the last bits of a float. */
#include "front.h"

#include <string.h>

#include "network.h"

typedef union {
    float real;
    int32_t bits;
} float_bits;

/* As of the last etse_analyze. */
ETSE_STATE static int16_t history[ETSE_EARS][ETSE_WINDOW];
ETSE_STATE static float spectrum_re[ETSE_EARS][ETSE_BINS];
ETSE_STATE static float spectrum_im[ETSE_EARS][ETSE_BINS];
ETSE_STATE static float carry[ETSE_EARS][ETSE_HOP];
static uint32_t oldest;
static uint32_t ears = ETSE_EARS;

etse_status etse_init(int n) {
    if (n < 1 || n > ETSE_EARS)
        return ETSE_EARS_UNSUPPORTED;
    ears = (uint32_t)n;
    etse_voice_clear();
    etse_reset();
    return ETSE_OK;
}

void etse_reset(void) {
    memset(history, 0, sizeof history);
    memset(carry, 0, sizeof carry);
    memset(spectrum_re, 0, sizeof spectrum_re);
    memset(spectrum_im, 0, sizeof spectrum_im);
    oldest = 0;
    etse_model_reset();
}

/* value to the nearest integer in [low, high], half to even */
static int32_t nearest(float value, float low, float high) {
    value = value < low ? low : value;
    value = value > high ? high : value;
    const float_bits rounded = {value + 12582912.0f};
    return rounded.bits - 0x4B400000;
}

/* Binary logarithm of a positive normal number: exponent, and a polynomial between sqrt(1/2) and sqrt(2), 6e-8 from the truth
 * (least squares at Chebyshev points). */
static float log2_of(float x) {
    float_bits number = {x};
    const int32_t exponent = (number.bits - 0x3F3504F3) >> 23;
    number.bits -= exponent * (1 << 23);
    const float f = number.real - 1.0f;
    float p = 0x1.025a2p-3f;
    p = p * f - 0x1.a8cc5cp-3f;
    p = p * f + 0x1.b9b11ep-3f;
    p = p * f - 0x1.e94f12p-3f;
    p = p * f + 0x1.26d41p-2f;
    p = p * f - 0x1.715c9cp-2f;
    p = p * f + 0x1.ec73d4p-2f;
    p = p * f - 0x1.71547p-1f;
    p = p * f + 0x1.715476p+0f;
    return p * f + (float)exponent;
}

#define LOG10_2 0.301029996f

static int8_t feature(float value) {
    /* clamped to what it can hold, which is more than [-1, 1] */
    return (int8_t)(nearest(value * ETSE_FEATURE_STEPS, -128.0f - ETSE_FEATURE_ZERO_POINT, 127.0f - ETSE_FEATURE_ZERO_POINT) +
                    ETSE_FEATURE_ZERO_POINT);
}

static float within_one(float value) { return value < -1.0f ? -1.0f : value > 1.0f ? 1.0f : value; }

/* The samples of a window, even ones as real and odd ones as imaginary parts. */
static void load(const int16_t *samples, float *restrict re, float *restrict im) {
    for (uint32_t done = 0, from = oldest / 2; done < ETSE_HALF; done += ETSE_HOP / 2, from += ETSE_HOP / 2) {
        const int16_t *const hop = samples + 2 * (from >= ETSE_HALF ? from - ETSE_HALF : from);
        for (uint32_t i = 0; i < ETSE_HOP / 2; i++) {
            re[done + i] = (float)hop[2 * i] * etse_window_even[done + i];
            im[done + i] = (float)hop[2 * i + 1] * etse_window_odd[done + i];
        }
    }
}

/* FFT of the even and odd samples to the spectrum of all of them. */
static void split(const float *restrict re, const float *restrict im, float *restrict to_re, float *restrict to_im) {
    to_re[0] = 2.0f * (re[0] + im[0]);
    to_im[0] = 0.0f;
    to_re[ETSE_HALF] = 2.0f * (re[0] - im[0]);
    to_im[ETSE_HALF] = 0.0f;
    for (uint32_t k = 1; k <= ETSE_HALF / 2; k++) {
        const uint32_t m = ETSE_HALF - k;
        const float even_re = re[k] + re[m], even_im = im[k] - im[m];
        const float odd_re = im[k] + im[m], odd_im = re[m] - re[k];
        const float c = etse_split[k], s = etse_split[ETSE_HALF / 2 + 1 + k];
        const float turned_re = odd_re * c - odd_im * s, turned_im = odd_re * s + odd_im * c;
        to_re[k] = even_re + turned_re;
        to_im[k] = even_im + turned_im;
        to_re[m] = even_re - turned_re;
        to_im[m] = turned_im - even_im;
    }
}

/* The inverse of split, but for its factor, real and imaginary parts exchanged, so that the FFT becomes the inverse one. */
static void merge(const float *restrict re, const float *restrict im, float *restrict to_re, float *restrict to_im) {
    to_im[0] = re[0] + re[ETSE_HALF];
    to_re[0] = re[0] - re[ETSE_HALF];
    for (uint32_t k = 1; k <= ETSE_HALF / 2; k++) {
        const uint32_t m = ETSE_HALF - k;
        const float even_re = re[k] + re[m], even_im = im[k] - im[m];
        const float turned_re = re[k] - re[m], turned_im = im[k] + im[m];
        const float c = etse_split[k], s = etse_split[ETSE_HALF / 2 + 1 + k];
        const float odd_re = turned_re * c + turned_im * s, odd_im = turned_im * c - turned_re * s;
        to_im[k] = even_re - odd_im;
        to_re[k] = even_im + odd_re;
        to_im[m] = even_re + odd_im;
        to_re[m] = odd_re - even_im;
    }
}

/* Energy of each band of an ear, a full-scale sine being 1. */
static void band_energies(const float *restrict re, const float *restrict im, float *restrict energy) {
    for (uint32_t b = 0; b < ETSE_BANDS; b++) {
        float sum = 0.0f;
        for (uint32_t k = etse_band_edges[b]; k < etse_band_edges[b + 1]; k++)
            sum += (re[k] * re[k] + im[k] * im[k]) * ETSE_POWER_UNIT;
        energy[b] = sum;
    }
}

#if ETSE_EARS == 2
/* Level difference, sine of the phase difference, and half of one minus its cosine, of each group of bands. */
static void interaural(const float *left, const float *right, int8_t *features) {
    enum { N = ETSE_SPATIAL_BANDS, GROUP = ETSE_BANDS / ETSE_SPATIAL_BANDS };
    for (uint32_t n = 0; n < N; n++) {
        float l = 0.0f, r = 0.0f, cross_re = 0.0f, cross_im = 0.0f;
        for (uint32_t b = n * GROUP; b < (n + 1) * GROUP; b++) {
            l += left[b];
            r += right[b];
        }
        l += ETSE_POWER_FLOOR;
        r += ETSE_POWER_FLOOR;
        for (uint32_t k = etse_band_edges[n * GROUP]; k < etse_band_edges[(n + 1) * GROUP]; k++) {
            const float l_re = spectrum_re[0][k], l_im = spectrum_im[0][k], r_re = spectrum_re[1][k], r_im = spectrum_im[1][k];
            cross_re += (l_re * r_re + l_im * r_im) * ETSE_POWER_UNIT;
            cross_im += (l_im * r_re - l_re * r_im) * ETSE_POWER_UNIT;
        }
        const float scale = 1.0f / __builtin_sqrtf(l * r);
        features[n] = feature(within_one(log2_of(l / r) * (0.5f * LOG10_2)));
        features[N + n] = feature(within_one(cross_im * scale));
        features[2 * N + n] = feature(within_one((1.0f - (cross_re + ETSE_POWER_FLOOR) * scale) * 0.5f));
    }
}
#endif

void etse_analyze(const int16_t *in, int8_t *features) {
    float *const re = etse_arena, *const im = re + ETSE_HALF, *const re2 = im + ETSE_HALF, *const im2 = re2 + ETSE_HALF;
    for (uint32_t e = 0; e < ears; e++)
        memcpy(&history[e][oldest], in + e * ETSE_HOP, ETSE_HOP * sizeof *in);
    oldest = oldest + ETSE_HOP == ETSE_WINDOW ? 0 : oldest + ETSE_HOP;
    for (uint32_t e = 0; e < ears; e++) {
        load(history[e], re, im);
        const int second = etse_fft(re, im, re2, im2);
        split(second ? re2 : re, second ? im2 : im, spectrum_re[e], spectrum_im[e]);
    }
    /* The transforms are done: their scratch holds the energies. */
    float *const left = etse_arena, *const right = left + ETSE_BANDS;
    band_energies(spectrum_re[0], spectrum_im[0], left);
    memset(features + ETSE_BANDS, feature(0.0f), 3 * ETSE_SPATIAL_BANDS);
#if ETSE_EARS == 2
    if (ears == 2) {
        band_energies(spectrum_re[1], spectrum_im[1], right);
        interaural(left, right, features + ETSE_BANDS);
    }
#endif
    for (uint32_t b = 0; b < ETSE_BANDS; b++) {
        const float energy = ears == 2 ? (left[b] + right[b]) * 0.5f : left[b];
        features[b] = feature(within_one(log2_of(energy + ETSE_POWER_FLOOR) * (ETSE_LEVEL_SLOPE * LOG10_2) + ETSE_LEVEL_OFFSET));
    }
}

void etse_network(const int8_t *features, int8_t *mask, int8_t *velocity) {
    int8_t *const outputs[] = {mask, velocity};
    etse_model_step(features, outputs);
}

static void apply_gains(const int8_t *mask, const int8_t *velocity) {
    for (uint32_t b = 0; b < ETSE_BANDS; b++) {
        const float gain = (float)(mask[b] - ETSE_MASK_ZERO_POINT) * ETSE_MASK_SCALE +
                           (float)(velocity[b] - ETSE_VELOCITY_ZERO_POINT) * ETSE_VELOCITY_SCALE;
        const float positive = gain > 0.0f ? gain : 0.0f;
        for (uint32_t e = 0; e < ears; e++)
            for (uint32_t k = etse_band_edges[b]; k < etse_band_edges[b + 1]; k++) {
                spectrum_re[e][k] *= positive;
                spectrum_im[e][k] *= positive;
            }
    }
}

void etse_synthesize(const int8_t *mask, const int8_t *velocity, int16_t *out) {
    enum { FIRST = (ETSE_WINDOW - ETSE_SYNTHESIS) / 2, HALF_HOP = ETSE_HOP / 2 };
    float *const re = etse_arena, *const im = re + ETSE_HALF, *const re2 = im + ETSE_HALF, *const im2 = re2 + ETSE_HALF;
    const float *const rise = etse_synthesis_window, *const fall = rise + ETSE_HOP;
    apply_gains(mask, velocity);
    for (uint32_t e = 0; e < ears; e++, out += ETSE_HOP) {
        merge(spectrum_re[e], spectrum_im[e], re, im);
        const int second = etse_fft(re, im, re2, im2);
        const float *const odd = (second ? re2 : re) + FIRST, *const even = (second ? im2 : im) + FIRST;
        for (uint32_t i = 0; i < HALF_HOP; i++) {
            out[2 * i] = (int16_t)nearest(even[i] * rise[2 * i] + carry[e][2 * i], -32768.0f, 32767.0f);
            out[2 * i + 1] = (int16_t)nearest(odd[i] * rise[2 * i + 1] + carry[e][2 * i + 1], -32768.0f, 32767.0f);
            carry[e][2 * i] = even[i + HALF_HOP] * fall[2 * i];
            carry[e][2 * i + 1] = odd[i + HALF_HOP] * fall[2 * i + 1];
        }
    }
}

void etse_process(const int16_t *in, int16_t *out) {
    static int8_t features[ETSE_FEATURES], mask[ETSE_BANDS], velocity[ETSE_BANDS];
    etse_analyze(in, features);
    etse_network(features, mask, velocity);
    etse_synthesize(mask, velocity, out);
}
