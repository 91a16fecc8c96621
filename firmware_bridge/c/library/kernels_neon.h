/* aarch64. One program serves cores with and without the dot product instruction (SDOT): on Linux the kernel is asked at the first
 * use which of them this one is. */
#include <arm_neon.h>

#if defined(__linux__)
#include <sys/auxv.h>
#endif

#define ETSE_C99_LOOKUP 1

static int has_dot(void) {
#if defined(__ARM_FEATURE_DOTPROD)
    return 1;
#elif defined(__linux__)
    enum { ASIMDDP = 1 << 20 }; /* HWCAP_ASIMDDP */
    static int known = -1;
    if (known < 0)
        known = (getauxval(AT_HWCAP) & ASIMDDP) != 0;
    return known;
#else
    return 0;
#endif
}

const char *etse_kernels(void) { return has_dot() ? "neon-dot" : "neon"; }

/* Four sums to four int8 in the low half. FCVTNS rounds half to even; every step saturates. */
static inline int8x8_t requantize4(int32x4_t sum, const float *factor, int32_t zero_point) {
    const float32x4_t value = vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(factor));
    const int32x4_t q = vqaddq_s32(vcvtnq_s32_f32(value), vdupq_n_s32(zero_point));
    const int16x4_t half = vqmovn_s32(q);
    return vqmovn_s16(vcombine_s16(half, half));
}

static inline void store4(int8_t *out, int8x8_t q) {
    const int32_t word = vget_lane_s32(vreinterpret_s32_s8(q), 0);
    __builtin_memcpy(out, &word, sizeof word);
}

/* Add sixteen products, without SDOT. Which of the four lanes holds which of them does not matter: all are added at the end. A
 * product of two int8 fits int16, their sums are pairwise and in int32. */
static inline int32x4_t dot16(int32x4_t sum, int8x16_t x, int8x16_t w) {
    sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(x), vget_low_s8(w)));
    return vpadalq_s16(sum, vmull_high_s8(x, w));
}

__attribute__((target("+dotprod"))) static inline int32x4_t fast_dot16(int32x4_t sum, int8x16_t x, int8x16_t w) {
    return vdotq_s32(sum, x, w);
}

/* One row of a pointwise layer, compiled with either way to add products. */
#define POINTWISE(name, attributes, dot)                                                                                           \
    attributes static void name(const etse_pointwise_t *layer, const int8_t *in, int8_t *out) {                                    \
        const int8_t *weight = layer->weight;                                                                                      \
        for (uint32_t block = 0; block < layer->out_blocks; block++) {                                                             \
            int32x4_t a = vdupq_n_s32(0), b = a, c = a, d = a;                                                                     \
            for (uint32_t i = 0; i < layer->in_blocks; i++, weight += 64) {                                                        \
                const int8x16_t x = vld1q_s8(in + 16 * i);                                                                         \
                a = dot(a, x, vld1q_s8(weight));                                                                                   \
                b = dot(b, x, vld1q_s8(weight + 16));                                                                              \
                c = dot(c, x, vld1q_s8(weight + 32));                                                                              \
                d = dot(d, x, vld1q_s8(weight + 48));                                                                              \
            }                                                                                                                      \
            const int32x4_t sums = vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));                                                 \
            const int32x4_t sum = vaddq_s32(sums, vld1q_s32(layer->bias + 4 * block));                                             \
            store4(out + 4 * block, requantize4(sum, layer->factor + 4 * block, layer->zero_point));                               \
        }                                                                                                                          \
    }

POINTWISE(pointwise, , dot16)
POINTWISE(pointwise_dot, __attribute__((target("+dotprod"))), fast_dot16)

void etse_pointwise(const etse_pointwise_t *layer, const int8_t *in, int8_t *out, uint32_t rows) {
    const int dot = has_dot();
    for (; rows; rows--, in += layer->in_stride, out += layer->out_stride) {
        if (dot)
            pointwise_dot(layer, in, out);
        else
            pointwise(layer, in, out);
    }
}

void etse_depthwise(const etse_depthwise_t *layer, const int8_t *const *taps, int8_t *out) {
    for (uint32_t c = 0; c < layer->channels; c += 8) {
        int32x4_t low = vld1q_s32(layer->bias + c), high = vld1q_s32(layer->bias + c + 4);
        for (uint32_t k = 0; k < layer->taps; k++) {
            const int16x8_t product = vmull_s8(vld1_s8(taps[k] + c), vld1_s8(layer->weight + k * layer->channels + c));
            low = vaddw_s16(low, vget_low_s16(product));
            high = vaddw_high_s16(high, product);
        }
        store4(out + c, requantize4(low, layer->factor + c, layer->zero_point));
        store4(out + c + 4, requantize4(high, layer->factor + c + 4, layer->zero_point));
    }
}

void etse_add(const int8_t *left, const int8_t *right, int8_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16)
        vst1q_s8(out + i, vqaddq_s8(vld1q_s8(left + i), vld1q_s8(right + i)));
}
