/* SHA-256 and SHA-512 (FIPS 180-4), of a message that lies in memory in parts. */
#ifndef ETSE_SHA2_H
#define ETSE_SHA2_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const uint8_t *bytes;
    size_t size;
} etse_part;

void etse_sha256(const etse_part *parts, size_t count, uint8_t digest[32]);
void etse_sha512(const etse_part *parts, size_t count, uint8_t digest[64]);

#endif
