/* Frames over any stream of bytes, as firmware_bridge/wire.py describes them. */
#ifndef ETSE_WIRE_H
#define ETSE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "crc32.h"
#include "protocol.h"

enum {
    ETSE_FRAME_HEAD_BYTES = 3,
    ETSE_FRAME_CRC_BYTES = 4,
    ETSE_FRAME_RAW_BYTES = ETSE_FRAME_HEAD_BYTES + ETSE_MAX_PAYLOAD_BYTES + ETSE_FRAME_CRC_BYTES,
    ETSE_FRAME_STUFFED_BYTES = ETSE_FRAME_RAW_BYTES + ETSE_FRAME_RAW_BYTES / 254 + 1,
    ETSE_FRAME_BYTES = ETSE_FRAME_STUFFED_BYTES + 2,
};

/* State of a decoder; all zero at the start. */
typedef struct {
    /* stretches between two zeros that were no frame */
    uint32_t damaged;
    /* size of the payload of the frame that etse_wire_take has just completed */
    size_t payload_bytes;
    size_t filled;
    int overlong;
    uint8_t bytes[ETSE_FRAME_STUFFED_BYTES];
} etse_wire_decoder;

/* Take a byte; returns 1 if it completes a frame, which stays until the next call: code, sequence number, then the payload. */
int etse_wire_take(etse_wire_decoder *decoder, uint8_t byte);

/* Write a frame, and return its size in bytes.
 * raw: [ETSE_FRAME_RAW_BYTES], of which head and payload are given; to: [ETSE_FRAME_BYTES]. */
size_t etse_wire_encode(uint8_t *raw, size_t payload_bytes, uint8_t *to);

#endif
