/* Cortex-M cores with Helium and its floating point (M55, M85). */
#include <arm_mve.h>

const char *etse_kernels(void) { return "mve"; }

/* Four sums to four int8 in memory. VCVTN rounds half to even. */
static inline void requantize4(int32x4_t sum, const float *factor, int32_t zero_point, int8_t *out) {
    const float32x4_t value = vmulq_f32(vcvtq_f32_s32(sum), vldrwq_f32(factor));
    /* The conversion saturates at int32, so the sum with the zero point must saturate as well. */
    int32x4_t q = vqaddq_n_s32(vcvtnq_s32_f32(value), zero_point);
    q = vminq_s32(vmaxq_s32(q, vdupq_n_s32(-128)), vdupq_n_s32(127));
    vstrbq_s32(out, q);
}

void etse_pointwise(const etse_pointwise_t *layer, const int8_t *in, int8_t *out, uint32_t rows) {
    const uint32_t in_blocks = layer->in_blocks, out_blocks = layer->out_blocks;
    const int32_t zero_point = layer->zero_point;
    for (; rows; rows--, in += layer->in_stride, out += layer->out_stride) {
        const int8_t *weight = layer->weight;
        const float *factor = layer->factor;
        const int32_t *bias = layer->bias;
        int8_t *to = out;
        for (uint32_t block = 0; block < out_blocks; block++, factor += 4, bias += 4, to += 4) {
            int32_t a = bias[0], b = bias[1], c = bias[2], d = bias[3];
            const int8_t *from = in;
            for (uint32_t i = 0; i < in_blocks; i++, weight += 64, from += 16) {
                const int8x16_t x = vldrbq_s8(from);
                a = vmladavaq_s8(a, x, vldrbq_s8(weight));
                b = vmladavaq_s8(b, x, vldrbq_s8(weight + 16));
                c = vmladavaq_s8(c, x, vldrbq_s8(weight + 32));
                d = vmladavaq_s8(d, x, vldrbq_s8(weight + 48));
            }
            int32x4_t sum = vdupq_n_s32(a);
            sum = vsetq_lane_s32(b, sum, 1);
            sum = vsetq_lane_s32(c, sum, 2);
            sum = vsetq_lane_s32(d, sum, 3);
            requantize4(sum, factor, zero_point, to);
        }
    }
}

/* Three taps, which is what most networks have: with the loop over taps unrolled, every pointer stays in a register. */
static void depthwise3(const etse_depthwise_t *layer, const int8_t *const *taps, int8_t *out) {
    const uint32_t n = layer->channels;
    const int32_t zero_point = layer->zero_point;
    const int8_t *a = taps[0], *b = taps[1], *c = taps[2];
    const int8_t *u = layer->weight, *v = u + n, *w = v + n;
    const int32_t *bias = layer->bias;
    const float *factor = layer->factor;
    for (uint32_t i = 0; i < n; i += 4) {
        int32x4_t sum = vaddq_s32(vldrwq_s32(bias + i), vmulq_s32(vldrbq_s32(a + i), vldrbq_s32(u + i)));
        sum = vaddq_s32(sum, vmulq_s32(vldrbq_s32(b + i), vldrbq_s32(v + i)));
        sum = vaddq_s32(sum, vmulq_s32(vldrbq_s32(c + i), vldrbq_s32(w + i)));
        requantize4(sum, factor + i, zero_point, out + i);
    }
}

void etse_depthwise(const etse_depthwise_t *layer, const int8_t *const *taps, int8_t *out) {
    const uint32_t n = layer->channels;
    if (layer->taps == 3) {
        depthwise3(layer, taps, out);
        return;
    }
    for (uint32_t c = 0; c < n; c += 4) {
        int32x4_t sum = vldrwq_s32(layer->bias + c);
        for (uint32_t k = 0; k < layer->taps; k++)
            sum = vaddq_s32(sum, vmulq_s32(vldrbq_s32(taps[k] + c), vldrbq_s32(layer->weight + k * n + c)));
        requantize4(sum, layer->factor + c, layer->zero_point, out + c);
    }
}

void etse_add(const int8_t *left, const int8_t *right, int8_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16)
        vstrbq_s8(out + i, vqaddq_s8(vldrbq_s8(left + i), vldrbq_s8(right + i)));
}

void etse_lookup(const int8_t *table, const int8_t *in, int8_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16) {
        /* in + 128, as an unsigned byte: flip the sign bit */
        const uint8x16_t index = veorq_u8(vreinterpretq_u8_s8(vldrbq_s8(in + i)), vdupq_n_u8(128));
        vstrbq_s8(out + i, vldrbq_gather_offset_s8(table, index));
    }
}
