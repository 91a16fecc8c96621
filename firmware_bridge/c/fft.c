/* Stockham's FFT: every stage reads one buffer and writes the other in order, so no bits are reversed and vectors are whole.
 * Radix 4, and one stage of radix 2 where the length is not a power of four. */
#include "front.h"

/* Distance of the four inputs of a butterfly: the same in every stage. */
enum { Q = ETSE_HALF / 4 };

/* First stage: neighbours are different butterflies, each with its own twiddle factors. */
static void first(const float *restrict re, const float *restrict im, float *restrict re2, float *restrict im2, const float *w) {
    for (uint32_t p = 0; p < Q; p++) {
        const float sum_ac_re = re[p] + re[p + 2 * Q], sum_ac_im = im[p] + im[p + 2 * Q];
        const float dif_ac_re = re[p] - re[p + 2 * Q], dif_ac_im = im[p] - im[p + 2 * Q];
        const float sum_bd_re = re[p + Q] + re[p + 3 * Q], sum_bd_im = im[p + Q] + im[p + 3 * Q];
        const float dif_bd_re = re[p + Q] - re[p + 3 * Q], dif_bd_im = im[p + Q] - im[p + 3 * Q];
        const float one_re = dif_ac_re + dif_bd_im, one_im = dif_ac_im - dif_bd_re;
        const float two_re = sum_ac_re - sum_bd_re, two_im = sum_ac_im - sum_bd_im;
        const float three_re = dif_ac_re - dif_bd_im, three_im = dif_ac_im + dif_bd_re;
        re2[4 * p] = sum_ac_re + sum_bd_re;
        im2[4 * p] = sum_ac_im + sum_bd_im;
        re2[4 * p + 1] = one_re * w[p] - one_im * w[p + Q];
        im2[4 * p + 1] = one_re * w[p + Q] + one_im * w[p];
        re2[4 * p + 2] = two_re * w[p + 2 * Q] - two_im * w[p + 3 * Q];
        im2[4 * p + 2] = two_re * w[p + 3 * Q] + two_im * w[p + 2 * Q];
        re2[4 * p + 3] = three_re * w[p + 4 * Q] - three_im * w[p + 5 * Q];
        im2[4 * p + 3] = three_re * w[p + 5 * Q] + three_im * w[p + 4 * Q];
    }
}

/* One factor of a later stage: s neighbours share it; s is a multiple of 4, and known to the compiler where that pays. */
__attribute__((always_inline)) static inline void butterflies(const float *restrict re, const float *restrict im,
                                                              float *restrict re2, float *restrict im2, uint32_t s, const float *w,
                                                              uint32_t step) {
    const float w1_re = w[0], w1_im = w[step], w2_re = w[2 * step], w2_im = w[3 * step], w3_re = w[4 * step], w3_im = w[5 * step];
#if defined(__clang__)
#pragma clang loop unroll(disable) /* four turns unrolled are no longer seen to be one vector */
#endif
    for (uint32_t q = 0; q < s; q++) {
        const float sum_ac_re = re[q] + re[q + 2 * Q], sum_ac_im = im[q] + im[q + 2 * Q];
        const float dif_ac_re = re[q] - re[q + 2 * Q], dif_ac_im = im[q] - im[q + 2 * Q];
        const float sum_bd_re = re[q + Q] + re[q + 3 * Q], sum_bd_im = im[q + Q] + im[q + 3 * Q];
        const float dif_bd_re = re[q + Q] - re[q + 3 * Q], dif_bd_im = im[q + Q] - im[q + 3 * Q];
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
__attribute__((always_inline)) static inline void stage(const float *re, const float *im, float *re2, float *im2, uint32_t s,
                                                        const float *w) {
    const uint32_t quarter = Q / s;
    for (uint32_t p = 0; p < quarter; p++)
        butterflies(re + s * p, im + s * p, re2 + 4 * s * p, im2 + 4 * s * p, s, w + p, quarter);
}

/* Last stage of radix 4: all twiddle factors are 1. */
static void last_of_four(const float *restrict re, const float *restrict im, float *restrict re2, float *restrict im2, uint32_t s) {
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

static void last_of_two(const float *restrict re, const float *restrict im, float *restrict re2, float *restrict im2, uint32_t s) {
    for (uint32_t q = 0; q < s; q++) {
        re2[q] = re[q] + re[q + s];
        im2[q] = im[q] + im[q + s];
        re2[q + s] = re[q] - re[q + s];
        im2[q + s] = im[q] - im[q + s];
    }
}

int etse_fft(float *re, float *im, float *re2, float *im2) {
    const float *w = etse_twiddles;
    int side = 0;
    for (uint32_t n = ETSE_HALF, s = 1; n > 1; n = n >= 4 ? n / 4 : n / 2, s *= 4, side = !side) {
        float *const from_re = side ? re2 : re, *const from_im = side ? im2 : im;
        float *const to_re = side ? re : re2, *const to_im = side ? im : im2;
        if (n == 2)
            last_of_two(from_re, from_im, to_re, to_im, s);
        else if (n == 4)
            last_of_four(from_re, from_im, to_re, to_im, s);
        else if (s == 1)
            first(from_re, from_im, to_re, to_im, w);
        else if (s == 4)
            stage(from_re, from_im, to_re, to_im, 4, w);
        else if (s == 16)
            stage(from_re, from_im, to_re, to_im, 16, w);
        else
            stage(from_re, from_im, to_re, to_im, s, w);
        if (n > 4)
            w += 6 * (n / 4);
    }
    return side;
}
