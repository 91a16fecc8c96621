#include "sha2.h"

/* Fractions of the cube roots of the first 80 primes, and of the square roots of the first 8; SHA-256 has their upper halves. */
static const uint64_t round_constant[80] = {
    0x428a2f98d728ae22u, 0x7137449123ef65cdu, 0xb5c0fbcfec4d3b2fu, 0xe9b5dba58189dbbcu,
    0x3956c25bf348b538u, 0x59f111f1b605d019u, 0x923f82a4af194f9bu, 0xab1c5ed5da6d8118u,
    0xd807aa98a3030242u, 0x12835b0145706fbeu, 0x243185be4ee4b28cu, 0x550c7dc3d5ffb4e2u,
    0x72be5d74f27b896fu, 0x80deb1fe3b1696b1u, 0x9bdc06a725c71235u, 0xc19bf174cf692694u,
    0xe49b69c19ef14ad2u, 0xefbe4786384f25e3u, 0x0fc19dc68b8cd5b5u, 0x240ca1cc77ac9c65u,
    0x2de92c6f592b0275u, 0x4a7484aa6ea6e483u, 0x5cb0a9dcbd41fbd4u, 0x76f988da831153b5u,
    0x983e5152ee66dfabu, 0xa831c66d2db43210u, 0xb00327c898fb213fu, 0xbf597fc7beef0ee4u,
    0xc6e00bf33da88fc2u, 0xd5a79147930aa725u, 0x06ca6351e003826fu, 0x142929670a0e6e70u,
    0x27b70a8546d22ffcu, 0x2e1b21385c26c926u, 0x4d2c6dfc5ac42aedu, 0x53380d139d95b3dfu,
    0x650a73548baf63deu, 0x766a0abb3c77b2a8u, 0x81c2c92e47edaee6u, 0x92722c851482353bu,
    0xa2bfe8a14cf10364u, 0xa81a664bbc423001u, 0xc24b8b70d0f89791u, 0xc76c51a30654be30u,
    0xd192e819d6ef5218u, 0xd69906245565a910u, 0xf40e35855771202au, 0x106aa07032bbd1b8u,
    0x19a4c116b8d2d0c8u, 0x1e376c085141ab53u, 0x2748774cdf8eeb99u, 0x34b0bcb5e19b48a8u,
    0x391c0cb3c5c95a63u, 0x4ed8aa4ae3418acbu, 0x5b9cca4f7763e373u, 0x682e6ff3d6b2b8a3u,
    0x748f82ee5defb2fcu, 0x78a5636f43172f60u, 0x84c87814a1f0ab72u, 0x8cc702081a6439ecu,
    0x90befffa23631e28u, 0xa4506cebde82bde9u, 0xbef9a3f7b2c67915u, 0xc67178f2e372532bu,
    0xca273eceea26619cu, 0xd186b8c721c0c207u, 0xeada7dd6cde0eb1eu, 0xf57d4f7fee6ed178u,
    0x06f067aa72176fbau, 0x0a637dc5a2c898a6u, 0x113f9804bef90daeu, 0x1b710b35131c471bu,
    0x28db77f523047d84u, 0x32caab7b40c72493u, 0x3c9ebe0a15c9bebcu, 0x431d67c49c100d4cu,
    0x4cc5d4becb3e42b6u, 0x597f299cfc657e2au, 0x5fcb6fab3ad6faecu, 0x6c44198c4a475817u,
};
static const uint64_t initial[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u,
};

/* What the message still has, byte by byte: itself, then 0x80, zeros, and its length in bits. */
typedef struct {
    const etse_part *parts;
    size_t count, at;
    uint64_t bytes;
    int ended;
} reader_t;

/* Fills a block; 0 if it is the last one. The length takes an eighth of a block, of which only 64 bits are ever needed. */
static int next_block(reader_t *reader, uint8_t *block, size_t size) {
    size_t n = 0;
    while (n < size && reader->count > 0) {
        if (reader->at < reader->parts->size) {
            block[n++] = reader->parts->bytes[reader->at++];
        } else {
            reader->parts++;
            reader->count--;
            reader->at = 0;
        }
    }
    reader->bytes += n;
    if (n == size)
        return 1;
    if (!reader->ended)
        block[n++] = 0x80;
    reader->ended = 1;
    const int last = n <= size - size / 8;
    while (n < size)
        block[n++] = 0;
    if (last)
        for (size_t i = 0; i < 8; i++)
            block[size - 1 - i] = (uint8_t)(reader->bytes * 8 >> (8 * i));
    return !last;
}

static uint32_t right32(uint32_t x, int n) { return x >> n | x << (32 - n); }

void etse_sha256(const etse_part *parts, size_t count, uint8_t digest[32]) {
    reader_t reader = {.parts = parts, .count = count};
    uint32_t state[8], w[16];
    uint8_t block[64];
    int more;
    for (int i = 0; i < 8; i++)
        state[i] = (uint32_t)(initial[i] >> 32);
    do {
        more = next_block(&reader, block, sizeof block);
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 64; i++) {
            if (i < 16) {
                w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
            } else {
                const uint32_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];
                w[i & 15] += w[(i + 9) & 15] + (right32(x, 7) ^ right32(x, 18) ^ x >> 3) + (right32(y, 17) ^ right32(y, 19) ^ y >> 10);
            }
            const uint32_t t = h + (right32(e, 6) ^ right32(e, 11) ^ right32(e, 25)) + ((e & f) ^ (~e & g)) + w[i & 15] +
                               (uint32_t)(round_constant[i] >> 32);
            const uint32_t u = (right32(a, 2) ^ right32(a, 13) ^ right32(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    } while (more);
    for (int i = 0; i < 32; i++)
        digest[i] = (uint8_t)(state[i / 4] >> (24 - 8 * (i % 4)));
}

static uint64_t right64(uint64_t x, int n) { return x >> n | x << (64 - n); }

void etse_sha512(const etse_part *parts, size_t count, uint8_t digest[64]) {
    reader_t reader = {.parts = parts, .count = count};
    uint64_t state[8], w[16];
    uint8_t block[128];
    int more;
    for (int i = 0; i < 8; i++)
        state[i] = initial[i];
    do {
        more = next_block(&reader, block, sizeof block);
        uint64_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 80; i++) {
            if (i < 16) {
                w[i] = 0;
                for (int k = 0; k < 8; k++)
                    w[i] = w[i] << 8 | block[8 * i + k];
            } else {
                const uint64_t x = w[(i + 1) & 15], y = w[(i + 14) & 15];
                w[i & 15] += w[(i + 9) & 15] + (right64(x, 1) ^ right64(x, 8) ^ x >> 7) + (right64(y, 19) ^ right64(y, 61) ^ y >> 6);
            }
            const uint64_t t =
                h + (right64(e, 14) ^ right64(e, 18) ^ right64(e, 41)) + ((e & f) ^ (~e & g)) + w[i & 15] + round_constant[i];
            const uint64_t u = (right64(a, 28) ^ right64(a, 34) ^ right64(a, 39)) + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t, d = c, c = b, b = a, a = t + u;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    } while (more);
    for (int i = 0; i < 64; i++)
        digest[i] = (uint8_t)(state[i / 8] >> (56 - 8 * (i % 8)));
}
