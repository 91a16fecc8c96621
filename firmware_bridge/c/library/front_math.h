/* The float arithmetic of the front end, shared by the library for boards (front.c, fft.c) and the compiled part of the Python
 * package (edge_tse/_front.c). edge_tse/frame.py, level.py and transform.py define it and have every operation in this order, so
 * all of them give the same bits: each operation is rounded once (compile with -ffp-contract=off, never with -ffast-math), and
 * nothing comes from a library, whose logarithm differs from system to system.
 *
 * Spectra are scaled up by LIFT here, and gains by a lift of their own, so that nothing before the last product is subnormal: some
 * vector units take such numbers for zero. The windows hold the inverse factors, all of them powers of two.
 */
#ifndef ETSE_FRONT_MATH_H
#define ETSE_FRONT_MATH_H

#include <stdint.h>

#include "exact.h"

#define ETSE_INLINE __attribute__((always_inline)) static inline

typedef union {
    float real;
    int32_t bits;
} etse_float_bits;

/* Round a value to the nearest integer in [low, high], half to even. */
ETSE_INLINE int32_t etse_nearest(float value, float low, float high) {
    value = value < low ? low : value;
    value = value > high ? high : value;
    const etse_float_bits rounded = {value + 12582912.0f};
    return rounded.bits - 0x4B400000;
}

#define ETSE_LOG10_2 0.301029996f

/* Binary logarithm of a positive normal number: exponent, and a polynomial between sqrt(1/2) and sqrt(2), 6e-8 from the truth
 * (least squares at Chebyshev points). */
ETSE_INLINE float etse_log2(float x) {
    etse_float_bits number = {x};
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

ETSE_INLINE float etse_within_one(float value) { return value < -1.0f ? -1.0f : value > 1.0f ? 1.0f : value; }

/* One front end. In the library it is a constant, so that the compiler knows every length. */
typedef struct {
    /* half the window: the length of the complex transform */
    uint32_t half;
    uint32_t bands, spatial_bands;
    /* w, w^2, w^3 of each stage with twiddle factors, real parts before imaginary parts */
    const float *twiddles;
    /* [half / 2 + 1] cosines, as many sines */
    const float *split;
    /* [bands + 1] */
    const uint16_t *edges;
    /* for a lifted spectrum: the limit below which it is zero, and the factor that makes the square of a full-scale sine 1 */
    float silence, power_unit;
    float power_floor, level_slope, level_offset;
    /* steps per unit of int8 features, and their zero point */
    float feature_steps;
    int32_t feature_zero_point;
    /* the lift of the gains is in the scales */
    float mask_scale, velocity_scale, share_scale;
    int32_t mask_zero_point, velocity_zero_point, share_zero_point;
    /* whether energies are taken relative to a running level */
    uint32_t level_invariant;
    /* whether two ears are beamformed */
    uint32_t beam;
} etse_front_t;

/* Fourier transform: Stockham's. Every stage reads one buffer and writes the other in order, so no bits are reversed and vectors
 * are whole. Radix 4, and one stage of radix 2 where the length is not a power of four. d is the distance of the four inputs of a
 * butterfly, a quarter of the length and the same in every stage. */

/* First stage: neighbours are different butterflies, each with its own twiddle factors. */
ETSE_INLINE void etse_fft_first(const float *restrict re, const float *restrict im, float *restrict re2, float *restrict im2,
                                const float *restrict w, uint32_t d) {
    for (uint32_t p = 0; p < d; p++) {
        const float sum_ac_re = re[p] + re[p + 2 * d], sum_ac_im = im[p] + im[p + 2 * d];
        const float dif_ac_re = re[p] - re[p + 2 * d], dif_ac_im = im[p] - im[p + 2 * d];
        const float sum_bd_re = re[p + d] + re[p + 3 * d], sum_bd_im = im[p + d] + im[p + 3 * d];
        const float dif_bd_re = re[p + d] - re[p + 3 * d], dif_bd_im = im[p + d] - im[p + 3 * d];
        const float one_re = dif_ac_re + dif_bd_im, one_im = dif_ac_im - dif_bd_re;
        const float two_re = sum_ac_re - sum_bd_re, two_im = sum_ac_im - sum_bd_im;
        const float three_re = dif_ac_re - dif_bd_im, three_im = dif_ac_im + dif_bd_re;
        re2[4 * p] = sum_ac_re + sum_bd_re;
        im2[4 * p] = sum_ac_im + sum_bd_im;
        re2[4 * p + 1] = one_re * w[p] - one_im * w[p + d];
        im2[4 * p + 1] = one_re * w[p + d] + one_im * w[p];
        re2[4 * p + 2] = two_re * w[p + 2 * d] - two_im * w[p + 3 * d];
        im2[4 * p + 2] = two_re * w[p + 3 * d] + two_im * w[p + 2 * d];
        re2[4 * p + 3] = three_re * w[p + 4 * d] - three_im * w[p + 5 * d];
        im2[4 * p + 3] = three_re * w[p + 5 * d] + three_im * w[p + 4 * d];
    }
}

/* One factor of a later stage: s neighbours share it; s is a multiple of 4, and known to the compiler where that pays. */
ETSE_INLINE void etse_fft_butterflies(const float *restrict re, const float *restrict im, float *restrict re2, float *restrict im2,
                                      uint32_t s, const float *w, uint32_t step, uint32_t d) {
    const float w1_re = w[0], w1_im = w[step], w2_re = w[2 * step], w2_im = w[3 * step], w3_re = w[4 * step], w3_im = w[5 * step];
#if defined(__clang__)
#pragma clang loop unroll(disable) /* four turns unrolled are no longer seen to be one vector */
#endif
    for (uint32_t q = 0; q < s; q++) {
        const float sum_ac_re = re[q] + re[q + 2 * d], sum_ac_im = im[q] + im[q + 2 * d];
        const float dif_ac_re = re[q] - re[q + 2 * d], dif_ac_im = im[q] - im[q + 2 * d];
        const float sum_bd_re = re[q + d] + re[q + 3 * d], sum_bd_im = im[q + d] + im[q + 3 * d];
        const float dif_bd_re = re[q + d] - re[q + 3 * d], dif_bd_im = im[q + d] - im[q + 3 * d];
        const float one_re = dif_ac_re + dif_bd_im, one_im = dif_ac_im - dif_bd_re;
        const float two_re = sum_ac_re - sum_bd_re, two_im = sum_ac_im - sum_bd_im;
        const float three_re = dif_ac_re - dif_bd_im, three_im = dif_ac_im + dif_bd_re;
        re2[q] = sum_ac_re + sum_bd_re;
        im2[q] = sum_ac_im + sum_bd_im;
        re2[q + s] = one_re * w1_re - one_im * w1_im;
        im2[q + s] = one_re * w1_im + one_im * w1_re;
        re2[q + 2 * s] = two_re * w2_re - two_im * w2_im;
        im2[q + 2 * s] = two_re * w2_im + two_im * w2_re;
        re2[q + 3 * s] = three_re * w3_re - three_im * w3_im;
        im2[q + 3 * s] = three_re * w3_im + three_im * w3_re;
    }
}

/* A later stage: n / 4 factors. */
ETSE_INLINE void etse_fft_stage(const float *re, const float *im, float *re2, float *im2, uint32_t s, const float *w, uint32_t d) {
    const uint32_t quarter = d / s;
    for (uint32_t p = 0; p < quarter; p++)
        etse_fft_butterflies(re + s * p, im + s * p, re2 + 4 * s * p, im2 + 4 * s * p, s, w + p, quarter, d);
}

/* Last stage of radix 4: all twiddle factors are 1. */
ETSE_INLINE void etse_fft_last_of_four(const float *restrict re, const float *restrict im, float *restrict re2, float *restrict im2,
                                       uint32_t s) {
    for (uint32_t q = 0; q < s; q++) {
        const float sum_ac_re = re[q] + re[q + 2 * s], sum_ac_im = im[q] + im[q + 2 * s];
        const float dif_ac_re = re[q] - re[q + 2 * s], dif_ac_im = im[q] - im[q + 2 * s];
        const float sum_bd_re = re[q + s] + re[q + 3 * s], sum_bd_im = im[q + s] + im[q + 3 * s];
        const float dif_bd_re = re[q + s] - re[q + 3 * s], dif_bd_im = im[q + s] - im[q + 3 * s];
        re2[q] = sum_ac_re + sum_bd_re;
        im2[q] = sum_ac_im + sum_bd_im;
        re2[q + s] = dif_ac_re + dif_bd_im;
        im2[q + s] = dif_ac_im - dif_bd_re;
        re2[q + 2 * s] = sum_ac_re - sum_bd_re;
        im2[q + 2 * s] = sum_ac_im - sum_bd_im;
        re2[q + 3 * s] = dif_ac_re - dif_bd_im;
        im2[q + 3 * s] = dif_ac_im + dif_bd_re;
    }
}

ETSE_INLINE void etse_fft_last_of_two(const float *restrict re, const float *restrict im, float *restrict re2, float *restrict im2,
                                      uint32_t s) {
    for (uint32_t q = 0; q < s; q++) {
        re2[q] = re[q] + re[q + s];
        im2[q] = im[q] + im[q + s];
        re2[q + s] = re[q] - re[q + s];
        im2[q + s] = im[q] - im[q + s];
    }
}

/* Complex transform of half points of (re, im), in which (re2, im2), as long, take part. Returns where the result is: 0 in the first
 * pair, 1 in the second. */
ETSE_INLINE int etse_fft_stages(uint32_t half, const float *w, float *re, float *im, float *re2, float *im2) {
    const uint32_t d = half / 4;
    int side = 0;
    for (uint32_t n = half, s = 1; n > 1; n = n >= 4 ? n / 4 : n / 2, s *= 4, side = !side) {
        float *const from_re = side ? re2 : re, *const from_im = side ? im2 : im;
        float *const to_re = side ? re : re2, *const to_im = side ? im : im2;
        if (n == 2)
            etse_fft_last_of_two(from_re, from_im, to_re, to_im, s);
        else if (n == 4)
            etse_fft_last_of_four(from_re, from_im, to_re, to_im, s);
        else if (s == 1)
            etse_fft_first(from_re, from_im, to_re, to_im, w, d);
        else if (s == 4)
            etse_fft_stage(from_re, from_im, to_re, to_im, 4, w, d);
        else if (s == 16)
            etse_fft_stage(from_re, from_im, to_re, to_im, 16, w, d);
        else
            etse_fft_stage(from_re, from_im, to_re, to_im, s, w, d);
        if (n > 4)
            w += 6 * (n / 4);
    }
    return side;
}

ETSE_INLINE float etse_audible(const etse_front_t *f, float value) { return __builtin_fabsf(value) < f->silence ? 0.0f : value; }

/* Combine the transform of the even and odd samples into twice the spectrum of all of them, half + 1 bins. */
ETSE_INLINE void etse_split(const etse_front_t *f, const float *restrict re, const float *restrict im, float *restrict to_re,
                            float *restrict to_im) {
    const uint32_t half = f->half;
    to_re[0] = etse_audible(f, 2.0f * (re[0] + im[0]));
    to_im[0] = 0.0f;
    to_re[half] = etse_audible(f, 2.0f * (re[0] - im[0]));
    to_im[half] = 0.0f;
    for (uint32_t k = 1; k <= half / 2; k++) {
        const uint32_t m = half - k;
        const float even_re = re[k] + re[m], even_im = im[k] - im[m];
        const float odd_re = im[k] + im[m], odd_im = re[m] - re[k];
        const float c = f->split[k], s = f->split[half / 2 + 1 + k];
        const float turned_re = odd_re * c - odd_im * s, turned_im = odd_re * s + odd_im * c;
        to_re[k] = etse_audible(f, even_re + turned_re);
        to_im[k] = etse_audible(f, even_im + turned_im);
        to_re[m] = etse_audible(f, even_re - turned_re);
        to_im[m] = etse_audible(f, turned_im - even_im);
    }
}

/* Inverse of etse_split, but for its factor, with real and imaginary parts exchanged: so the transform acts as its inverse. */
ETSE_INLINE void etse_merge(const etse_front_t *f, const float *restrict re, const float *restrict im, float *restrict to_re,
                            float *restrict to_im) {
    const uint32_t half = f->half;
    to_im[0] = re[0] + re[half];
    to_re[0] = re[0] - re[half];
    for (uint32_t k = 1; k <= half / 2; k++) {
        const uint32_t m = half - k;
        const float even_re = re[k] + re[m], even_im = im[k] - im[m];
        const float turned_re = re[k] - re[m], turned_im = im[k] + im[m];
        const float c = f->split[k], s = f->split[half / 2 + 1 + k];
        const float odd_re = turned_re * c + turned_im * s, odd_im = turned_im * c - turned_re * s;
        to_im[k] = even_re - odd_im;
        to_re[k] = even_im + odd_re;
        to_im[m] = even_re + odd_im;
        to_re[m] = odd_re - even_im;
    }
}

/* Clamp a value to the range of a feature, which is more than [-1, 1]. */
ETSE_INLINE int8_t etse_feature(const etse_front_t *f, float value) {
    const float low = -128.0f - (float)f->feature_zero_point, high = 127.0f - (float)f->feature_zero_point;
    return (int8_t)(etse_nearest(value * f->feature_steps, low, high) + f->feature_zero_point);
}

/* Energy of each band of an ear, a full-scale sine being 1. */
ETSE_INLINE void etse_band_energies(const etse_front_t *f, const float *restrict re, const float *restrict im, float *restrict energy) {
    for (uint32_t b = 0; b < f->bands; b++) {
        uint32_t k = f->edges[b];
        float sum = re[k] * re[k] + im[k] * im[k];
        while (++k < f->edges[b + 1])
            sum += re[k] * re[k] + im[k] * im[k];
        energy[b] = sum * f->power_unit;
    }
}

/* Average the energy of each band over two ears. */
ETSE_INLINE void etse_mean(const etse_front_t *f, const float *restrict left, const float *restrict right, float *restrict mean) {
    for (uint32_t b = 0; b < f->bands; b++)
        mean[b] = (left[b] + right[b]) * 0.5f;
}

/* Update the running level with the energies of a hop; returns the factor that brings it to -20 dB. */
ETSE_INLINE float etse_bring(const etse_front_t *f, const float *energy, float *running) {
    float now = energy[0];
    for (uint32_t b = 1; b < f->bands; b++)
        now += energy[b];
    const float level = *running + (now > *running ? 0.1f : 0.002f) * (now - *running);
    *running = level >= 1e-20f ? level : 0.0f;
    return 1e-2f / (*running > 1e-8f ? *running : 1e-8f);
}

/* Level of each band, which are all features of one ear. */
ETSE_INLINE void etse_levels(const etse_front_t *f, const float *energy, int8_t *features) {
    for (uint32_t b = 0; b < f->bands; b++) {
        const float level = etse_log2(energy[b] + f->power_floor) * (f->level_slope * ETSE_LOG10_2) + f->level_offset;
        features[b] = etse_feature(f, etse_within_one(level));
    }
}

/* Level difference, sine of the phase difference, and half of one minus its cosine, of each group of bands. */
ETSE_INLINE void etse_interaural(const etse_front_t *f, const float *l_re, const float *l_im, const float *r_re, const float *r_im,
                                 const float *left, const float *right, float brought, int8_t *features) {
    const uint32_t n = f->spatial_bands, group = f->bands / n;
    for (uint32_t i = 0, b = 0; i < n; i++) {
        float l = 0.0f, r = 0.0f, cosine = 0.0f, sine = 0.0f;
        for (const uint32_t end = b + group; b < end; b++) {
            uint32_t k = f->edges[b];
            float re = l_re[k] * r_re[k] + l_im[k] * r_im[k], im = l_im[k] * r_re[k] - l_re[k] * r_im[k];
            while (++k < f->edges[b + 1]) {
                re += l_re[k] * r_re[k] + l_im[k] * r_im[k];
                im += l_im[k] * r_re[k] - l_re[k] * r_im[k];
            }
            l += left[b];
            r += right[b];
            cosine += re * f->power_unit * brought;
            sine += im * f->power_unit * brought;
        }
        l += f->power_floor;
        r += f->power_floor;
        const float root = __builtin_sqrtf(l * r);
        features[i] = etse_feature(f, etse_within_one(etse_log2(l / r) * (0.5f * ETSE_LOG10_2)));
        features[n + i] = etse_feature(f, etse_within_one(sine / root));
        features[2 * n + i] = etse_feature(f, etse_within_one((1.0f - (cosine + f->power_floor) / root) * 0.5f));
    }
}

/* Features of one ear or two, without those of a beam, from lifted spectra. left and right, [bands], are overwritten; mean,
 * [bands], becomes the energy of the ears; running is the level of the hops before. */
ETSE_INLINE void etse_front_features(const etse_front_t *f, uint32_t ears, const float *l_re, const float *l_im, const float *r_re,
                                     const float *r_im, float *restrict left, float *restrict right, float *restrict mean,
                                     float *running, int8_t *features) {
    const uint32_t spatial = 3 * f->spatial_bands;
    etse_band_energies(f, l_re, l_im, left);
    if (ears == 2) {
        etse_band_energies(f, r_re, r_im, right);
        etse_mean(f, left, right, mean);
    } else {
        for (uint32_t b = 0; b < f->bands; b++)
            mean[b] = left[b];
    }
    float brought = 1.0f;
    if (f->level_invariant) {
        brought = etse_bring(f, mean, running);
        for (uint32_t b = 0; b < f->bands; b++)
            left[b] *= brought;
        for (uint32_t b = 0; ears == 2 && b < f->bands; b++)
            right[b] *= brought;
    }
    if (ears == 2) {
        etse_interaural(f, l_re, l_im, r_re, r_im, left, right, brought, features + f->bands);
        for (uint32_t b = 0; b < f->bands; b++)
            left[b] = (left[b] + right[b]) * 0.5f;
    } else {
        for (uint32_t i = 0; i < spatial; i++)
            features[f->bands + i] = etse_feature(f, 0.0f);
    }
    etse_levels(f, left, features);
}

/* Lifted gain of band b: the mask plus the velocity of the flow. */
ETSE_INLINE float etse_gain(const etse_front_t *f, const int8_t *mask, const int8_t *velocity, uint32_t b) {
    const float gain =
        (float)(mask[b] - f->mask_zero_point) * f->mask_scale + (float)(velocity[b] - f->velocity_zero_point) * f->velocity_scale;
    return gain > 0.0f ? gain : 0.0f;
}

/* The beam, as edge_tse/beam.py defines it. Loops are over the bins of whole spectra, so that vectors are full. */

/* Covariances are scaled up by this, so that no product of two is subnormal. */
#define ETSE_COVARIANCE_LIFT 0x1p+19f
#define ETSE_COVARIANCE_SILENCE 0x1p-51f
#define ETSE_COVARIANCE_LOUDEST 0x1p+60f
#define ETSE_FILTER_SILENCE 0x1p-64f
/* GAIN_LIFT / LIFT of edge_tse/frame.py, a factor in the scales of the gains */
#define ETSE_GAIN_LOWERED 0x1p-39f

/* Covariance of two ears, per bin: left, right, and left times the conjugate of right. */
typedef struct {
    float *left, *right, *re, *im;
} etse_covariance_t;

/* Diagonal loading of the noise. */
ETSE_INLINE float etse_loading(float left, float right) { return 1e-3f * (left + right) + 1e-12f * ETSE_COVARIANCE_LIFT; }

ETSE_INLINE float etse_filter(float value) { return __builtin_fabsf(value) < ETSE_FILTER_SILENCE ? 0.0f : value; }

/* Filter lifted spectra, one filter per bin. scratch: [half + 1]. */
ETSE_INLINE void etse_beam_filter(const etse_front_t *f, const etse_covariance_t *s, const etse_covariance_t *n, const float *l_re,
                                  const float *l_im, const float *r_re, const float *r_im, float *restrict to_l_re,
                                  float *restrict to_l_im, float *restrict to_r_re, float *restrict to_r_im, float *restrict scratch) {
    const uint32_t bins = f->half + 1;
    for (uint32_t k = 0; k < bins; k++) {
        const float loading = etse_loading(n->left[k], n->right[k]), n1 = n->left[k] + loading, n2 = n->right[k] + loading;
        const float along = n->re[k] * s->re[k] + n->im[k] * s->im[k];
        const float trace = (n2 * s->left[k] - along) + (n1 * s->right[k] - along);
        const float determinant = n1 * n2 - (n->re[k] * n->re[k] + n->im[k] * n->im[k]);
        scratch[k] = (trace > 0.0f ? trace : 0.0f) + 1e-10f * determinant;
    }
    /* Apart, because few vector units divide. */
    for (uint32_t k = 0; k < bins; k++)
        scratch[k] = 1.0f / scratch[k];
    for (uint32_t k = 0; k < bins; k++) {
        const float s1 = s->left[k], s2 = s->right[k], s_re = s->re[k], s_im = s->im[k], n_re = n->re[k], n_im = n->im[k];
        const float loading = etse_loading(n->left[k], n->right[k]), n1 = n->left[k] + loading, n2 = n->right[k] + loading;
        const float along = n_re * s_re + n_im * s_im, inverse = scratch[k];
        const float w11 = etse_filter((n2 * s1 - along) * inverse), w22 = etse_filter((n1 * s2 - along) * inverse);
        const float turn = etse_filter((n_im * s_re - n_re * s_im) * inverse);
        const float w12_re = etse_filter((n2 * s_re - s2 * n_re) * inverse), w12_im = etse_filter((n2 * s_im - s2 * n_im) * inverse);
        const float w21_re = etse_filter((n1 * s_re - s1 * n_re) * inverse), w21_im = etse_filter((s1 * n_im - n1 * s_im) * inverse);
        const float a_re = l_re[k], a_im = l_im[k], b_re = r_re[k], b_im = r_im[k];
        to_l_re[k] = etse_audible(f, (w11 * a_re - turn * a_im) + (w21_re * b_re + w21_im * b_im));
        to_l_im[k] = etse_audible(f, (w11 * a_im + turn * a_re) + (w21_re * b_im - w21_im * b_re));
        to_r_re[k] = etse_audible(f, (w12_re * a_re + w12_im * a_im) + (w22 * b_re + turn * b_im));
        to_r_im[k] = etse_audible(f, (w12_re * a_im - w12_im * a_re) + (w22 * b_im - turn * b_re));
    }
}

/* Limit a beam to 3 dB over the mixture in each band, and give its level. mixture: its energies, [bands]; scratch: [2][bands]. */
ETSE_INLINE void etse_beam_hold(const etse_front_t *f, const float *mixture, float *restrict l_re, float *restrict l_im,
                                float *restrict r_re, float *restrict r_im, float *restrict scratch, int8_t *features) {
    float *const left = scratch, *const right = scratch + f->bands;
    etse_band_energies(f, l_re, l_im, left);
    etse_band_energies(f, r_re, r_im, right);
    for (uint32_t b = 0; b < f->bands; b++) {
        const float ratio = ((left[b] + right[b]) * 0.5f + 1e-12f) / (mixture[b] + 1e-12f);
        features[b] = etse_feature(f, etse_within_one(etse_log2(ratio) * 0.138629436f));
        if (ratio > 2.0f) {
            const float held = __builtin_sqrtf(2.0f / ratio);
            for (uint32_t k = f->edges[b]; k < f->edges[b + 1]; k++) {
                l_re[k] *= held;
                l_im[k] *= held;
                r_re[k] *= held;
                r_im[k] *= held;
            }
        }
    }
}

/* Bound a covariance: next to nothing becomes zero, and so does a whole bin beyond all sound. */
ETSE_INLINE float etse_bounded(float value, float both) {
    return both <= ETSE_COVARIANCE_LOUDEST && __builtin_fabsf(value) >= ETSE_COVARIANCE_SILENCE ? value : 0.0f;
}

/* Update a covariance: it forgets, and takes a hop in with a weight for each bin. */
ETSE_INLINE void etse_beam_take(const etse_front_t *f, const etse_covariance_t *c, float keeps, const float *weight, const float *l_re,
                                const float *l_im, const float *r_re, const float *r_im) {
    float *const restrict c_left = c->left, *const restrict c_right = c->right, *const restrict c_re = c->re, *const restrict c_im = c->im;
    for (uint32_t k = 0; k <= f->half; k++) {
        const float w = weight[k], a_re = l_re[k], a_im = l_im[k], b_re = r_re[k], b_im = r_im[k];
        const float left = keeps * c_left[k] + w * (a_re * a_re + a_im * a_im);
        const float right = keeps * c_right[k] + w * (b_re * b_re + b_im * b_im);
        const float re = keeps * c_re[k] + w * (a_re * b_re + a_im * b_im), im = keeps * c_im[k] + w * (a_im * b_re - a_re * b_im);
        const float both = left + right;
        c_left[k] = etse_bounded(left, both);
        c_right[k] = etse_bounded(right, both);
        c_re[k] = etse_bounded(re, both);
        c_im[k] = etse_bounded(im, both);
    }
}

/* Mask of band b, not lifted. */
ETSE_INLINE float etse_kept(const etse_front_t *f, const int8_t *mask, uint32_t b) {
    return (float)(mask[b] - f->mask_zero_point) * (f->mask_scale * ETSE_GAIN_LOWERED);
}

/* Energy of each band in an ear's output, a lifted spectrum through lifted gains. power: [half + 1]. */
ETSE_INLINE void etse_heard_energies(const etse_front_t *f, const float *restrict heard_re, const float *restrict heard_im,
                                     float *restrict power, float *restrict energy) {
    for (uint32_t k = 0; k <= f->half; k++) {
        const float re = etse_audible(f, heard_re[k] * ETSE_GAIN_LOWERED), im = etse_audible(f, heard_im[k] * ETSE_GAIN_LOWERED);
        power[k] = re * re + im * im;
    }
    for (uint32_t b = 0; b < f->bands; b++) {
        uint32_t k = f->edges[b];
        float sum = power[k];
        while (++k < f->edges[b + 1])
            sum += power[k];
        energy[b] = sum * f->power_unit;
    }
}

/* Share of the talker in each band of a hop: half by the mask, half by the amplitude left of the band in both ears' output.
 * mixture: energies of the hop, [bands]; scratch: [2][bands] and [half + 1], of which the first [bands] are the result. */
ETSE_INLINE void etse_beam_talker(const etse_front_t *f, const int8_t *mask, const float *mixture, const float *l_re, const float *l_im,
                                  const float *r_re, const float *r_im, float *restrict scratch) {
    float *const left = scratch, *const right = left + f->bands, *const power = right + f->bands;
    etse_heard_energies(f, l_re, l_im, power, left);
    etse_heard_energies(f, r_re, r_im, power, right);
    for (uint32_t b = 0; b < f->bands; b++) {
        const float m = etse_kept(f, mask, b), kept = m < 0.0f ? 0.0f : m > 1.0f ? 1.0f : m;
        const float ratio = ((left[b] + right[b]) * 0.5f + 1e-12f) / (mixture[b] + 1e-12f);
        left[b] = kept * 0.5f + __builtin_sqrtf(ratio < 1.0f ? ratio : 1.0f) * 0.5f;
    }
}

/* Learn from a hop: this share of it, [bands], goes to the talker, the rest to the noise. scratch: [2][half + 1]. */
ETSE_INLINE void etse_beam_learn(const etse_front_t *f, const float *restrict part, const etse_covariance_t *s,
                                 const etse_covariance_t *n, const float *l_re, const float *l_im, const float *r_re, const float *r_im,
                                 float *restrict scratch) {
    float *const talker = scratch, *const noise = scratch + f->half + 1;
    for (uint32_t b = 0; b < f->bands; b++) {
        const float kept = part[b], left_out = 1.0f - kept, unit = f->power_unit * ETSE_COVARIANCE_LIFT;
        for (uint32_t k = f->edges[b]; k < f->edges[b + 1]; k++) {
            talker[k] = (0.002f * (kept * kept)) * unit;
            noise[k] = (0.003f * (left_out * left_out)) * unit;
        }
    }
    etse_beam_take(f, s, 0.998f, talker, l_re, l_im, r_re, r_im);
    etse_beam_take(f, n, 0.997f, noise, l_re, l_im, r_re, r_im);
}

/* Write gain, mask and share of each bin to scratch, [3][half + 1]: gain and share lifted, the mask not. */
ETSE_INLINE void etse_beam_moves(const etse_front_t *f, const int8_t *mask, const int8_t *velocity, const int8_t *share,
                                 float *restrict scratch) {
    const uint32_t bins = f->half + 1;
    for (uint32_t b = 0; b < f->bands; b++) {
        const float gain = etse_gain(f, mask, velocity, b), kept = etse_kept(f, mask, b);
        const float part = (float)(share[b] - f->share_zero_point) * f->share_scale;
        for (uint32_t k = f->edges[b]; k < f->edges[b + 1]; k++) {
            scratch[k] = gain;
            scratch[bins + k] = kept;
            scratch[2 * bins + k] = part;
        }
    }
}

/* Mix one part of an ear's beam: the gain of the spectrum, and the share of the beam beyond the mask. */
ETSE_INLINE void etse_beam_mix(const etse_front_t *f, const float *moves, const float *restrict spectrum, float *restrict beam) {
    const uint32_t bins = f->half + 1;
    for (uint32_t k = 0; k < bins; k++) {
        const float x = spectrum[k];
        beam[k] = x * moves[k] + etse_audible(f, beam[k] - x * moves[bins + k]) * moves[2 * bins + k];
    }
}

#endif
