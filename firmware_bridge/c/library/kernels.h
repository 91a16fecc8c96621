/* Kernels: the integer operators of a network, with one interface for every instruction set.
 *
 * Rows of int8 channels are padded to a multiple of 16 and aligned to 16; the content of the padding never matters, because
 * weights, factors and biases are zero there. Every path gives the integers of edge_tse/quant.py: the int32 sum, exact in float32
 * because it stays below 2^24, times a float32 factor, rounded once to float32 and then to the nearest integer, half to even.
 */
#ifndef ETSE_KERNELS_H
#define ETSE_KERNELS_H

#include <stdint.h>

#include "exact.h"

/* Pointwise layer: out[o] = requantize(sum_i weight[o][i] * in[i] + bias[o]) */
typedef struct {
    /* [out_blocks][in_blocks][4][16]: four output channels advance together through sixteen input channels */
    const int8_t *weight;
    /* [out_blocks * 4] */
    const float *factor;
    /* [out_blocks * 4], less input zero point * sum of weights */
    const int32_t *bias;
    /* blocks of 16 input channels */
    uint16_t in_blocks;
    /* blocks of 4 output channels */
    uint16_t out_blocks;
    /* bytes from a row to the next */
    uint16_t in_stride;
    uint16_t out_stride;
    int32_t zero_point;
} etse_pointwise_t;

/* Depthwise layer: out[c] = requantize(sum_k weight[k][c] * tap[k][c] + bias[c]) */
typedef struct {
    /* [taps][channels] */
    const int8_t *weight;
    /* [channels] */
    const float *factor;
    /* [channels], less input zero point * sum of weights */
    const int32_t *bias;
    /* a multiple of 16 */
    uint16_t channels;
    uint16_t taps;
    int32_t zero_point;
} etse_depthwise_t;

void etse_pointwise(const etse_pointwise_t *layer, const int8_t *in, int8_t *out, uint32_t rows);

/* Run a depthwise layer. taps: one row per tap, oldest first; out must be none of them. */
void etse_depthwise(const etse_depthwise_t *layer, const int8_t *const *taps, int8_t *out);

/* Saturating sum of n values, n a multiple of 16; out may be left or right. */
void etse_add(const int8_t *left, const int8_t *right, int8_t *out, uint32_t n);

/* Activation function: out = table[in + 128]; table holds 256 values. */
void etse_lookup(const int8_t *table, const int8_t *in, int8_t *out, uint32_t n);

#endif
