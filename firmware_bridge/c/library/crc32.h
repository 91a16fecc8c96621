#ifndef ETSE_CRC32_H
#define ETSE_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32 as zlib computes it; crc is 0, or the CRC of the bytes before. */
uint32_t etse_crc32(uint32_t crc, const uint8_t *from, size_t size);

#endif
