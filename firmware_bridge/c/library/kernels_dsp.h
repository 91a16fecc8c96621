/* Cortex-M cores with the DSP extension and a floating-point unit (M4, M7, M33). */
#include <arm_acle.h>

#define ETSE_C99_LOOKUP 1

const char *etse_kernels(void) { return "dsp"; }

static inline int32_t word(const int8_t *bytes) {
    int32_t value;
    __builtin_memcpy(&value, bytes, sizeof value);
    return value;
}

static inline int8_t requantize(int32_t sum, float factor, int32_t zero_point) {
    float value = (float)sum * factor;
    /* VCVTR rounds in the mode of the FPSCR, which is half to even after reset. It saturates at int32, so the sum with the zero
     * point must saturate as well. */
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(value));
    int32_t q;
    __builtin_memcpy(&q, &value, sizeof q);
    return (int8_t)__ssat(__qadd(q, zero_point), 8);
}

/* Rotate by 8 bits: SXTB16 widens bytes 0 and 2, of the rotated word therefore bytes 1 and 3. */
static inline int32_t shifted(int32_t bytes) { return (int32_t)((uint32_t)bytes >> 8 | (uint32_t)bytes << 24); }

/* sum + weights * inputs over four channels; even: inputs 0 and 2, odd: inputs 1 and 3, widened to int16 */
static inline int32_t four(int32_t sum, const int8_t *weight, int16x2_t even, int16x2_t odd) {
    const int32_t w = word(weight);
    sum = __smlad(__sxtb16(w), even, sum);
    return __smlad(__sxtb16(shifted(w)), odd, sum);
}

/* Four input channels into the sums a to d of four output channels. The empty assembly orders what depends on a sum, so that the
 * compiler does not interleave the steps: interleaved, their operands do not fit the registers. */
#define STEP(j)                                                                                                                    \
    {                                                                                                                              \
        const int32_t x = word(from + (j));                                                                                        \
        const int16x2_t even = __sxtb16(x), odd = __sxtb16(shifted(x));                                                            \
        a = four(a, weight + (j), even, odd);                                                                                      \
        __asm__("" : "+r"(a));                                                                                                     \
        b = four(b, weight + 16 + (j), even, odd);                                                                                 \
        __asm__("" : "+r"(b));                                                                                                     \
        c = four(c, weight + 32 + (j), even, odd);                                                                                 \
        __asm__("" : "+r"(c));                                                                                                     \
        d = four(d, weight + 48 + (j), even, odd);                                                                                 \
        __asm__("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d));                                                                          \
    }

void etse_pointwise(const etse_pointwise_t *layer, const int8_t *in, int8_t *out, uint32_t rows) {
    const uint32_t in_blocks = layer->in_blocks, out_blocks = layer->out_blocks;
    const int32_t zero_point = layer->zero_point;
    for (; rows; rows--, in += layer->in_stride, out += layer->out_stride) {
        const int8_t *weight = layer->weight;
        for (uint32_t block = 0; block < out_blocks; block++) {
            const float *const factor = layer->factor + 4 * block;
            const int32_t *const bias = layer->bias + 4 * block;
            int32_t a = bias[0], b = bias[1], c = bias[2], d = bias[3];
            const int8_t *from = in, *const end = in + 16 * in_blocks;
            for (; from != end; from += 16, weight += 64) {
                STEP(0)
                STEP(4)
                STEP(8)
                STEP(12)
            }
            int8_t *const to = out + 4 * block;
            to[0] = requantize(a, factor[0], zero_point);
            to[1] = requantize(b, factor[1], zero_point);
            to[2] = requantize(c, factor[2], zero_point);
            to[3] = requantize(d, factor[3], zero_point);
        }
    }
}

void etse_depthwise(const etse_depthwise_t *layer, const int8_t *const *taps, int8_t *out) {
    const uint32_t n = layer->channels;
    const int32_t zero_point = layer->zero_point;
    const float *factor = layer->factor;
    const int32_t *bias = layer->bias;
    const int8_t *weight = layer->weight;
    if (layer->taps == 3) {
        const int8_t *const a = taps[0], *const b = taps[1], *const c = taps[2];
        for (uint32_t i = 0; i < n; i++) {
            const int32_t sum = bias[i] + weight[i] * a[i] + weight[n + i] * b[i] + weight[2 * n + i] * c[i];
            out[i] = requantize(sum, factor[i], zero_point);
        }
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        int32_t sum = bias[i];
        for (uint32_t k = 0; k < layer->taps; k++)
            sum += weight[k * n + i] * taps[k][i];
        out[i] = requantize(sum, factor[i], zero_point);
    }
}

void etse_add(const int8_t *left, const int8_t *right, int8_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 4) {
        const int32_t sum = __qadd8(word(left + i), word(right + i));
        __builtin_memcpy(out + i, &sum, sizeof sum);
    }
}
