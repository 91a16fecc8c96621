#include "wire.h"

/* In place: what comes out is never longer. Returns the bytes, or 0 for what etse_wire_encode cannot have made. */
static size_t unstuff(uint8_t *bytes, size_t size) {
    size_t from = 0, to = 0;
    while (from < size) {
        const size_t distance = bytes[from++];
        if (distance - 1 > size - from)
            return 0;
        for (size_t i = 1; i < distance; i++)
            bytes[to++] = bytes[from++];
        if (distance < 255 && from < size)
            bytes[to++] = 0;
    }
    return to;
}

static int whole(etse_wire_decoder *decoder) {
    const size_t size = unstuff(decoder->bytes, decoder->filled);
    if (size < ETSE_FRAME_HEAD_BYTES + ETSE_FRAME_CRC_BYTES || size > ETSE_FRAME_RAW_BYTES)
        return 0;
    const uint32_t crc = etse_crc32(0, decoder->bytes, size - ETSE_FRAME_CRC_BYTES);
    for (size_t i = 0; i < ETSE_FRAME_CRC_BYTES; i++)
        if (decoder->bytes[size - ETSE_FRAME_CRC_BYTES + i] != (uint8_t)(crc >> (8 * i)))
            return 0;
    decoder->payload_bytes = size - ETSE_FRAME_HEAD_BYTES - ETSE_FRAME_CRC_BYTES;
    return 1;
}

int etse_wire_take(etse_wire_decoder *decoder, uint8_t byte) {
    if (byte != 0) {
        if (decoder->filled == sizeof decoder->bytes)
            decoder->overlong = 1;
        else
            decoder->bytes[decoder->filled++] = byte;
        return 0;
    }
    const int empty = decoder->filled == 0;
    const int complete = !empty && !decoder->overlong && whole(decoder);
    decoder->damaged += !empty && !complete;
    decoder->filled = 0;
    decoder->overlong = 0;
    return complete;
}

size_t etse_wire_encode(uint8_t *raw, size_t payload_bytes, uint8_t *to) {
    size_t size = ETSE_FRAME_HEAD_BYTES + payload_bytes;
    const uint32_t crc = etse_crc32(0, raw, size);
    for (size_t i = 0; i < ETSE_FRAME_CRC_BYTES; i++)
        raw[size++] = (uint8_t)(crc >> (8 * i));
    size_t at = 0;
    to[at++] = 0; /* ends whatever noise the line may have carried before */
    size_t mark = at++;
    for (size_t i = 0; i < size; i++) {
        if (raw[i] != 0)
            to[at++] = raw[i];
        if (raw[i] == 0 || at - mark == 255) {
            to[mark] = (uint8_t)(at - mark);
            mark = at++;
        }
    }
    to[mark] = (uint8_t)(at - mark);
    to[at++] = 0;
    return at;
}
