/* Vectors of 128 bits in WebAssembly. Sums of int32 are exact in any order, and requantizing is the portable one's, four at a time. */
#include <wasm_simd128.h>

const char *etse_kernels(void) { return "wasm"; }

static inline void store4(int8_t *out, v128_t sum, const float *factor, int32_t zero_point) {
    v128_t value = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(sum), wasm_v128_load(factor));
    value = wasm_f32x4_pmax(value, wasm_f32x4_splat((float)(-128 - zero_point)));
    value = wasm_f32x4_pmin(value, wasm_f32x4_splat((float)(127 - zero_point)));
    const v128_t rounded = wasm_i32x4_add(wasm_f32x4_add(value, wasm_f32x4_splat(12582912.0f)), wasm_i32x4_splat(zero_point - 0x4B400000));
    const v128_t words = wasm_i16x8_narrow_i32x4(rounded, rounded);
    wasm_v128_store32_lane(out, wasm_i8x16_narrow_i16x8(words, words), 0);
}

static inline v128_t dot16(v128_t low, v128_t high, const int8_t *weight) {
    const v128_t w = wasm_v128_load(weight);
    return wasm_i32x4_add(wasm_i32x4_dot_i16x8(low, wasm_i16x8_extend_low_i8x16(w)),
                          wasm_i32x4_dot_i16x8(high, wasm_i16x8_extend_high_i8x16(w)));
}

static inline v128_t pairs(v128_t a, v128_t b) {
    return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

void etse_pointwise(const etse_pointwise_t *layer, const int8_t *in, int8_t *out, uint32_t rows) {
    for (; rows; rows--, in += layer->in_stride, out += layer->out_stride) {
        const int8_t *weight = layer->weight;
        for (uint32_t block = 0; block < layer->out_blocks; block++) {
            v128_t a = wasm_i32x4_splat(0), b = a, c = a, d = a;
            for (uint32_t i = 0; i < layer->in_blocks; i++, weight += 64) {
                const v128_t x = wasm_v128_load(in + 16 * i);
                const v128_t low = wasm_i16x8_extend_low_i8x16(x), high = wasm_i16x8_extend_high_i8x16(x);
                a = wasm_i32x4_add(a, dot16(low, high, weight));
                b = wasm_i32x4_add(b, dot16(low, high, weight + 16));
                c = wasm_i32x4_add(c, dot16(low, high, weight + 32));
                d = wasm_i32x4_add(d, dot16(low, high, weight + 48));
            }
            const v128_t sum = wasm_i32x4_add(pairs(pairs(a, b), pairs(c, d)), wasm_v128_load(layer->bias + 4 * block));
            store4(out + 4 * block, sum, layer->factor + 4 * block, layer->zero_point);
        }
    }
}

void etse_depthwise(const etse_depthwise_t *layer, const int8_t *const *taps, int8_t *out) {
    for (uint32_t c = 0; c < layer->channels; c += 8) {
        v128_t low = wasm_v128_load(layer->bias + c), high = wasm_v128_load(layer->bias + c + 4);
        for (uint32_t k = 0; k < layer->taps; k++) {
            const v128_t x = wasm_i16x8_load8x8(taps[k] + c), w = wasm_i16x8_load8x8(layer->weight + k * layer->channels + c);
            low = wasm_i32x4_add(low, wasm_i32x4_extmul_low_i16x8(x, w));
            high = wasm_i32x4_add(high, wasm_i32x4_extmul_high_i16x8(x, w));
        }
        store4(out + c, low, layer->factor + c, layer->zero_point);
        store4(out + c + 4, high, layer->factor + c + 4, layer->zero_point);
    }
}

void etse_add(const int8_t *left, const int8_t *right, int8_t *out, uint32_t n) {
    for (uint32_t i = 0; i < n; i += 16)
        wasm_v128_store(out + i, wasm_i8x16_add_sat(wasm_v128_load(left + i), wasm_v128_load(right + i)));
}
