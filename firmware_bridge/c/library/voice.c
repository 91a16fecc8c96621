/* Whom to listen to: two tables in memory that a patch of a few kilobytes replaces. */
#include <string.h>

#include "crc32.h"
#include "etse.h"
#include "network.h"

#if ETSE_VOICE_CHANNELS > 0

enum { MAGIC_BYTES = 4, ID_AT = 8, ID_BYTES = 16, VALUES_AT = ID_AT + ID_BYTES, TABLE_BYTES = 4 * ETSE_VOICE_CHANNELS, CRC_BYTES = 4 };
enum { ACCUMULATOR_LIMIT = 16777216 }; /* 2^24: below it, float holds every sum */

void etse_voice_clear(void) {
    memcpy(etse_voice_factor, etse_neutral_factor, TABLE_BYTES);
    memcpy(etse_voice_bias, etse_neutral_bias, TABLE_BYTES);
}

etse_status etse_set_voice(const uint8_t *patch, size_t size) {
    static const uint8_t start[ID_AT] = {'E', 'T', 'S', 'V', ETSE_VOICE_SCHEMA, 0, 0, 0};
    if (size != ETSE_VOICE_PATCH_BYTES || memcmp(patch, start, sizeof start) != 0)
        return ETSE_VOICE_MALFORMED;
    const uint8_t *const end = patch + ETSE_VOICE_PATCH_BYTES - CRC_BYTES;
    const uint32_t stated = (uint32_t)end[0] | (uint32_t)end[1] << 8 | (uint32_t)end[2] << 16 | (uint32_t)end[3] << 24;
    if (etse_crc32(0, patch, ETSE_VOICE_PATCH_BYTES - CRC_BYTES) != stated)
        return ETSE_VOICE_DAMAGED;
    if (memcmp(patch + ID_AT, etse_model_id, ID_BYTES) != 0)
        return ETSE_VOICE_FOREIGN;
    const uint8_t *factors = patch + VALUES_AT;
    const uint8_t *biases = factors + TABLE_BYTES;
    for (uint32_t c = 0; c < ETSE_VOICE_CHANNELS; c++) {
        float factor;
        int32_t bias;
        memcpy(&factor, factors + 4 * c, 4);
        memcpy(&bias, biases + 4 * c, 4);
        /* written so that NaN fails; 0 is the padding's */
        if (!(factor >= 0.0f && factor < 256.0f) || bias <= -ACCUMULATOR_LIMIT || bias >= ACCUMULATOR_LIMIT)
            return ETSE_VOICE_OUT_OF_RANGE;
    }
    memcpy(etse_voice_factor, factors, TABLE_BYTES);
    memcpy(etse_voice_bias, biases, TABLE_BYTES);
    return ETSE_OK;
}

#else

void etse_voice_clear(void) {}

etse_status etse_set_voice(const uint8_t *patch, size_t size) {
    (void)patch;
    (void)size;
    return ETSE_VOICE_FOLDED;
}

#endif
