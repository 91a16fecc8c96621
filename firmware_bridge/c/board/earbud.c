#include "earbud.h"

static void put(uint8_t *to, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> (8 * i));
}

size_t etse_ear_frame(etse_ear *ear, const int16_t *samples, size_t n, uint32_t waited_us, uint8_t *to) {
    static uint8_t raw[ETSE_FRAME_RAW_BYTES];
    uint8_t *const payload = raw + ETSE_FRAME_HEAD_BYTES;
    raw[0] = ETSE_MESSAGE_EAR_SOUND;
    put(raw + 1, ear->sequence, 2);
    put(payload + ETSE_EAR_SOUND_COUNTER, ear->counter, 8);
    put(payload + ETSE_EAR_SOUND_RATE_HZ, ear->rate_hz, 4);
    put(payload + ETSE_EAR_SOUND_WAITED_US, waited_us, 4);
    payload[ETSE_EAR_SOUND_EAR] = ear->ear;
    payload[ETSE_EAR_SOUND_CHANNELS] = 1;
    for (size_t i = 0; i < n; i++)
        put(payload + ETSE_EAR_SOUND_SAMPLES + 2 * i, (uint16_t)samples[i], 2);
    ear->counter += n;
    ear->sequence++;
    return etse_wire_encode(raw, ETSE_EAR_SOUND_BYTES + 2 * n, to);
}
