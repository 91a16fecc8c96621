/* Portable kernels: the reference for the others, and the choice where none of them fits. */
static inline int8_t etse_requantize(int32_t sum, float factor, int32_t zero_point) {
    float value = (float)sum * factor;
    /* Clamped before it is rounded, which gives the same because the limits are integers: what is left is small enough for the
     * addition below, which rounds half to even. */
    const float low = (float)(-128 - zero_point);
    const float high = (float)(127 - zero_point);
    value = value < low ? low : value;
    value = value > high ? high : value;
    union {
        float real;
        int32_t bits;
    } rounded = {value + 12582912.0f}; /* 1.5 * 2^23: its last bit is worth 1 */
    return (int8_t)(rounded.bits - 0x4B400000 + zero_point);
}
