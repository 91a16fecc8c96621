/* Sound to features and gains to sound: the computation of edge_tse/frame.py and edge_tse/engines, to the bit. Its arithmetic is in
 * front_math.h; here are the samples, and what is kept from hop to hop. */
#include "front.h"

#include <string.h>

#include "front_math.h"
#include "network.h"

/* As of the last etse_analyze. */
ETSE_STATE static int16_t history[ETSE_EARS][ETSE_WINDOW];
ETSE_STATE static float spectrum_re[ETSE_EARS][ETSE_BINS];
ETSE_STATE static float spectrum_im[ETSE_EARS][ETSE_BINS];
ETSE_STATE static float carry[ETSE_EARS][ETSE_HOP];
static float running_level;
#if ETSE_BEAM
/* As each ear hears it; then what is heard. */
ETSE_STATE static float beam_re[ETSE_EARS][ETSE_BINS];
ETSE_STATE static float beam_im[ETSE_EARS][ETSE_BINS];
/* Energies of the last hop. */
ETSE_STATE static float mixture[ETSE_BANDS];
/* The past of the talker and of the noise. */
ETSE_STATE static float covariances[2][4][ETSE_BINS];
static const etse_covariance_t of_talker = {covariances[0][0], covariances[0][1], covariances[0][2], covariances[0][3]};
static const etse_covariance_t of_noise = {covariances[1][0], covariances[1][1], covariances[1][2], covariances[1][3]};
#endif
static uint32_t oldest;
static uint32_t ears = ETSE_EARS;

static const etse_front_t front = {
    .half = ETSE_HALF,
    .bands = ETSE_BANDS,
    .spatial_bands = ETSE_SPATIAL_BANDS,
    .twiddles = etse_twiddles,
    .split = etse_split_factors,
    .edges = etse_band_edges,
    .silence = ETSE_SILENCE,
    .power_unit = ETSE_POWER_UNIT,
    .power_floor = ETSE_POWER_FLOOR,
    .level_slope = ETSE_LEVEL_SLOPE,
    .level_offset = ETSE_LEVEL_OFFSET,
    .feature_steps = ETSE_FEATURE_STEPS,
    .feature_zero_point = ETSE_FEATURE_ZERO_POINT,
    .mask_scale = ETSE_MASK_SCALE,
    .velocity_scale = ETSE_VELOCITY_SCALE,
    .mask_zero_point = ETSE_MASK_ZERO_POINT,
    .velocity_zero_point = ETSE_VELOCITY_ZERO_POINT,
    .level_invariant = ETSE_LEVEL_INVARIANT,
    .beam = ETSE_BEAM,
#if ETSE_BEAM
    .share_scale = ETSE_SHARE_SCALE,
    .share_zero_point = ETSE_SHARE_ZERO_POINT,
#endif
};

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
#if ETSE_BEAM
    memset(beam_re, 0, sizeof beam_re);
    memset(beam_im, 0, sizeof beam_im);
    memset(covariances, 0, sizeof covariances);
    memset(mixture, 0, sizeof mixture);
#endif
    running_level = 0.0f;
    oldest = 0;
    etse_model_reset();
}

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

#if ETSE_BEAM
/* Of one ear, nothing can be pointed. */
static void listen(float *free, int8_t *features) {
    if (ears == 1) {
        memset(features, etse_feature(&front, 0.0f), ETSE_BANDS);
        return;
    }
    etse_beam_filter(&front, &of_talker, &of_noise, spectrum_re[0], spectrum_im[0], spectrum_re[1], spectrum_im[1], beam_re[0], beam_im[0],
                     beam_re[1], beam_im[1], free);
    etse_beam_hold(&front, mixture, beam_re[0], beam_im[0], beam_re[1], beam_im[1], free, features);
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
        etse_split(&front, second ? re2 : re, second ? im2 : im, spectrum_re[e], spectrum_im[e]);
    }
    /* The transforms are done: their scratch holds the energies. */
    enum { RIGHT = ETSE_EARS - 1 };
#if ETSE_BEAM
    float *const mean = mixture, *const left = etse_arena, *const right = left + ETSE_BANDS;
#else
    float *const mean = etse_arena, *const left = mean + ETSE_BANDS, *const right = left + ETSE_BANDS;
#endif
    etse_front_features(&front, ETSE_EARS == 1 ? 1 : ears, spectrum_re[0], spectrum_im[0], spectrum_re[RIGHT], spectrum_im[RIGHT], left,
                        right, mean, &running_level, features);
#if ETSE_BEAM
    listen(etse_arena, features + ETSE_FEATURES - ETSE_BANDS);
#endif
}

void etse_network(const int8_t *features, int8_t *moves) {
    int8_t *outputs[ETSE_MOVES];
    for (uint32_t i = 0; i < ETSE_MOVES; i++)
        outputs[i] = moves + i * ETSE_BANDS;
    etse_model_step(features, outputs);
}

#if ETSE_BEAM
static void mix(const int8_t *moves) {
    const int8_t *const mask = moves, *const velocity = mask + ETSE_BANDS, *const share = velocity + ETSE_BANDS;
    float *const part = etse_arena, *const free = part + ETSE_BANDS;
    etse_beam_moves(&front, mask, velocity, share, etse_arena);
    for (uint32_t e = 0; e < ETSE_EARS; e++) {
        etse_beam_mix(&front, etse_arena, spectrum_re[e], beam_re[e]);
        etse_beam_mix(&front, etse_arena, spectrum_im[e], beam_im[e]);
    }
    etse_beam_talker(&front, mask, mixture, beam_re[0], beam_im[0], beam_re[1], beam_im[1], part);
    etse_beam_learn(&front, part, &of_talker, &of_noise, spectrum_re[0], spectrum_im[0], spectrum_re[1], spectrum_im[1], free);
}
#endif

static void apply_gains(const int8_t *mask, const int8_t *velocity) {
    for (uint32_t b = 0; b < ETSE_BANDS; b++) {
        const float gain = etse_gain(&front, mask, velocity, b);
        for (uint32_t e = 0; e < ears; e++)
            for (uint32_t k = etse_band_edges[b]; k < etse_band_edges[b + 1]; k++) {
                spectrum_re[e][k] *= gain;
                spectrum_im[e][k] *= gain;
            }
    }
}

void etse_synthesize(const int8_t *moves, int16_t *out) {
    enum { FIRST = (ETSE_WINDOW - ETSE_SYNTHESIS) / 2, HALF_HOP = ETSE_HOP / 2 };
    float *const re = etse_arena, *const im = re + ETSE_HALF, *const re2 = im + ETSE_HALF, *const im2 = re2 + ETSE_HALF;
    const float *const rise = etse_synthesis_window, *const fall = rise + ETSE_HOP;
    float(*heard_re)[ETSE_BINS] = spectrum_re, (*heard_im)[ETSE_BINS] = spectrum_im;
#if ETSE_BEAM
    if (ears == 2) {
        mix(moves);
        heard_re = beam_re;
        heard_im = beam_im;
    } else {
        apply_gains(moves, moves + ETSE_BANDS);
    }
#else
    apply_gains(moves, moves + ETSE_BANDS);
#endif
    for (uint32_t e = 0; e < ears; e++, out += ETSE_HOP) {
        etse_merge(&front, heard_re[e], heard_im[e], re, im);
        const int second = etse_fft(re, im, re2, im2);
        const float *const odd = (second ? re2 : re) + FIRST, *const even = (second ? im2 : im) + FIRST;
        for (uint32_t i = 0; i < HALF_HOP; i++) {
            out[2 * i] = (int16_t)etse_nearest(even[i] * rise[2 * i] + carry[e][2 * i], -32768.0f, 32767.0f);
            out[2 * i + 1] = (int16_t)etse_nearest(odd[i] * rise[2 * i + 1] + carry[e][2 * i + 1], -32768.0f, 32767.0f);
            carry[e][2 * i] = even[i + HALF_HOP] * fall[2 * i];
            carry[e][2 * i + 1] = odd[i + HALF_HOP] * fall[2 * i + 1];
        }
    }
}

void etse_process(const int16_t *in, int16_t *out) {
    static int8_t features[ETSE_FEATURES], moves[ETSE_MOVES * ETSE_BANDS];
    etse_analyze(in, features);
    etse_network(features, moves);
    etse_synthesize(moves, out);
}
