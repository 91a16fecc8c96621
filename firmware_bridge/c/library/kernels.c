#include "kernels.h"

#include "etse.h"

#include "kernels_c99.h"

#if defined(ETSE_PORTABLE)
#define ETSE_C99 1
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 2)
#include "kernels_mve.h"
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && !defined(__aarch64__)
#include "kernels_dsp.h"
#elif defined(__aarch64__) && defined(__ARM_NEON)
#include "kernels_neon.h"
#elif defined(__wasm_simd128__)
#define ETSE_C99_LOOKUP 1
#include "kernels_wasm.h"
#else
#define ETSE_C99 1
#endif

#ifdef ETSE_C99
const char *etse_kernels(void) { return "c99"; }

void etse_pointwise(const etse_pointwise_t *layer, const int8_t *in, int8_t *out, uint32_t rows) {
    for (; rows; rows--, in += layer->in_stride, out += layer->out_stride) {
        const int8_t *weight = layer->weight;
        for (uint32_t block = 0; block < layer->out_blocks; block++) {
            int32_t sum[4];
            for (uint32_t o = 0; o < 4; o++)
                sum[o] = layer->bias[4 * block + o];
            for (uint32_t i = 0; i < layer->in_blocks; i++, weight += 64)
                for (uint32_t o = 0; o < 4; o++)
                    for (uint32_t j = 0; j < 16; j++)
                        sum[o] += weight[16 * o + j] * in[16 * i + j];
            for (uint32_t o = 0; o < 4; o++)
                out[4 * block + o] = etse_requantize(sum[o], layer->factor[4 * block + o], layer->zero_point);
        }
    }
}
#endif

#if defined(ETSE_C99) || defined(ETSE_C99_DEPTHWISE)
void etse_depthwise(const etse_depthwise_t *layer, const int8_t *const *taps, int8_t *out) {
    for (uint32_t c = 0; c < layer->channels; c++) {
        int32_t sum = layer->bias[c];
        for (uint32_t k = 0; k < layer->taps; k++)
            sum += layer->weight[k * layer->channels + c] * taps[k][c];
        out[c] = etse_requantize(sum, layer->factor[c], layer->zero_point);
    }
}
#endif

#ifdef ETSE_C99
void etse_add(const int8_t *left, const int8_t *right, int8_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        const int32_t sum = left[i] + right[i];
        out[i] = (int8_t)(sum < -128 ? -128 : sum > 127 ? 127 : sum);
    }
}
#endif

#if defined(ETSE_C99) || defined(ETSE_C99_LOOKUP)
void etse_lookup(const int8_t *table, const int8_t *in, int8_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        out[i] = table[in[i] + 128];
}
#endif
