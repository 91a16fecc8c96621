/* After TweetNaCl 20140427 (D. J. Bernstein, B. van Gastel, W. Janssen, T. Lange, P. Schwabe, S. Smetsers, https://tweetnacl.cr.yp.to),
 * which its authors have put into the public domain: the same field of sixteen 16-bit limbs, the same formulas, verification alone.
 * What differs: limbs of 32 bits, whose products a Cortex-M adds up in one instruction; both multiplications of a point in one run
 * over their bits (Straus), which takes as long as the public numbers say; and S >= L is refused, as RFC 8032, 5.1.7 wants it. */
#include "ed25519.h"

#include <string.h>

/* Limbs of a number modulo 2^255 - 19, the lowest first. After carry() they are within [0, 2^16 + 38], a sum or a difference of two
 * is within 2^18, 38 of such within 2^24, and 16 products of the two far from 2^63. */
typedef int32_t field_t[16];
/* x/z and y/z, and their product t/z */
typedef struct {
    field_t x, y, z, t;
} point_t;

static const field_t zero, one = {1};
static const field_t d = {0x78a3, 0x1359, 0x4dca, 0x75eb, 0xd8ab, 0x4141, 0x0a4d, 0x0070,
                          0xe898, 0x7779, 0x4079, 0x8cc7, 0xfe73, 0x2b6f, 0x6cee, 0x5203};
static const field_t twice_d = {0xf159, 0x26b2, 0x9b94, 0xebd6, 0xb156, 0x8283, 0x149a, 0x00e0,
                                0xd130, 0xeef3, 0x80f2, 0x198e, 0xfce7, 0x56df, 0xd9dc, 0x2406};
static const field_t root_of_minus_one = {0xa0b0, 0x4a0e, 0x1b27, 0xc4ee, 0xe478, 0xad2f, 0x1806, 0x2f43,
                                          0xd7a7, 0x3dfb, 0x0099, 0x2b4d, 0xdf0b, 0x4fc1, 0x2480, 0x2b83};
static const point_t base = {{0xd51a, 0x8f25, 0x2d60, 0xc956, 0xa7b2, 0x9525, 0xc760, 0x692c,
                              0xdc5c, 0xfdd6, 0xe231, 0xc0a4, 0x53fe, 0xcd6e, 0x36d3, 0x2169},
                             {0x6658, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666,
                              0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666, 0x6666},
                             {1},
                             {0xdda3, 0xa5b7, 0x8ab3, 0x6dde, 0x52f5, 0x7751, 0x9f80, 0x20f0,
                              0xe37d, 0x64ab, 0x4e8e, 0x66ea, 0x7665, 0xd78b, 0x5f0f, 0x6787}};
/* 2^252 + 27742317777372353535851937790883648493, the order of the base point, lowest byte first */
static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
                                  0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0,    0x10};

static void carry(int64_t t[16]) {
    for (int i = 0; i < 16; i++) {
        const int64_t over = t[i] >> 16;
        t[i] -= over * 65536;
        if (i < 15)
            t[i + 1] += over;
        else
            t[0] += 38 * over;
    }
}

static void multiply(field_t out, const field_t a, const field_t b) {
    int64_t t[16];
    int32_t around[31]; /* 2^256 is 38: what would be carried past the top, and b itself */
    for (int i = 0; i < 15; i++)
        around[i] = 38 * b[i + 1];
    for (int i = 0; i < 16; i++)
        around[15 + i] = b[i];
    for (int k = 0; k < 16; k++) {
        int64_t sum = 0;
        for (int i = 0; i < 16; i++)
            sum += (int64_t)a[i] * around[15 + k - i];
        t[k] = sum;
    }
    carry(t);
    carry(t);
    for (int i = 0; i < 16; i++)
        out[i] = (int32_t)t[i];
}

static void square(field_t out, const field_t a) { multiply(out, a, a); }

static void add(field_t out, const field_t a, const field_t b) {
    for (int i = 0; i < 16; i++)
        out[i] = a[i] + b[i];
}

static void subtract(field_t out, const field_t a, const field_t b) {
    for (int i = 0; i < 16; i++)
        out[i] = a[i] - b[i];
}

/* The one number below 2^255 - 19 that it is. */
static void pack(uint8_t out[32], const field_t a) {
    int64_t t[16];
    for (int i = 0; i < 16; i++)
        t[i] = a[i];
    carry(t);
    carry(t);
    carry(t);
    for (int again = 0; again < 2; again++) {
        int64_t less[16], borrow = 0;
        for (int i = 0; i < 16; i++) {
            less[i] = t[i] - (i == 0 ? 0xffed : i < 15 ? 0xffff : 0x7fff) - borrow;
            borrow = less[i] < 0;
            less[i] += borrow * 65536;
        }
        if (!borrow)
            memcpy(t, less, sizeof t);
    }
    for (int i = 0; i < 16; i++) {
        out[2 * i] = (uint8_t)t[i];
        out[2 * i + 1] = (uint8_t)(t[i] >> 8);
    }
}

static int differ(const field_t a, const field_t b) {
    uint8_t left[32], right[32];
    pack(left, a);
    pack(right, b);
    return memcmp(left, right, sizeof left) != 0;
}

static int odd(const field_t a) {
    uint8_t bytes[32];
    pack(bytes, a);
    return bytes[0] & 1;
}

/* a to the power of 2^highest with every bit set below, but for those that `unset` has */
static void power(field_t out, const field_t a, int highest, uint32_t unset) {
    field_t c;
    memcpy(c, a, sizeof c);
    for (int i = highest; i >= 0; i--) {
        square(c, c);
        if (i >= 32 || !(unset >> i & 1))
            multiply(c, c, a);
    }
    memcpy(out, c, sizeof c);
}

static void invert(field_t out, const field_t a) { power(out, a, 253, 1u << 2 | 1u << 4); } /* 2^255 - 21 */

/* p += q; also where they are equal. */
static void add_point(point_t *p, const point_t *q) {
    field_t a, b, c, e, f, g, h, t;
    subtract(a, p->y, p->x);
    subtract(t, q->y, q->x);
    multiply(a, a, t);
    add(b, p->x, p->y);
    add(t, q->x, q->y);
    multiply(b, b, t);
    multiply(c, p->t, q->t);
    multiply(c, c, twice_d);
    multiply(t, p->z, q->z);
    add(t, t, t);
    subtract(e, b, a);
    subtract(f, t, c);
    add(g, t, c);
    add(h, b, a);
    multiply(p->x, e, f);
    multiply(p->y, h, g);
    multiply(p->z, g, f);
    multiply(p->t, e, h);
}

/* The negative of the point that 32 bytes stand for; 0 if they stand for none. */
static int unpack_negative(point_t *p, const uint8_t bytes[32]) {
    field_t numerator, denominator, t, check;
    for (int i = 0; i < 16; i++)
        p->y[i] = bytes[2 * i] | bytes[2 * i + 1] << 8;
    p->y[15] &= 0x7fff;
    memcpy(p->z, one, sizeof one);
    /* x^2 = (y^2 - 1) / (d y^2 + 1), whose root is a power of it, or that times the root of -1 */
    square(numerator, p->y);
    multiply(denominator, numerator, d);
    subtract(numerator, numerator, one);
    add(denominator, denominator, one);
    square(t, denominator);
    square(check, t);
    multiply(t, check, t);
    multiply(t, t, numerator);
    multiply(t, t, denominator);
    power(t, t, 250, 1u << 1); /* (p - 5) / 8 */
    multiply(t, t, numerator);
    multiply(t, t, denominator);
    multiply(t, t, denominator);
    multiply(p->x, t, denominator);
    square(check, p->x);
    multiply(check, check, denominator);
    if (differ(check, numerator))
        multiply(p->x, p->x, root_of_minus_one);
    square(check, p->x);
    multiply(check, check, denominator);
    if (differ(check, numerator))
        return 0;
    if (odd(p->x) == bytes[31] >> 7)
        subtract(p->x, zero, p->x);
    multiply(p->t, p->x, p->y);
    return 1;
}

/* A number of 64 bytes modulo the order, in 32. */
static void reduce(uint8_t out[32], const uint8_t wide[64]) {
    int64_t x[64], over;
    for (int i = 0; i < 64; i++)
        x[i] = wide[i];
    for (int i = 63; i >= 32; i--) {
        over = 0;
        for (int j = i - 32; j < i - 12; j++) {
            x[j] += over - 16 * x[i] * order[j - (i - 32)];
            over = (x[j] + 128) >> 8;
            x[j] -= over * 256;
        }
        x[i - 12] += over;
        x[i] = 0;
    }
    over = 0;
    const int64_t top = x[31] >> 4;
    for (int j = 0; j < 32; j++) {
        x[j] += over - top * order[j];
        over = x[j] >> 8;
        x[j] &= 255;
    }
    for (int j = 0; j < 32; j++)
        x[j] -= over * order[j];
    for (int i = 0; i < 32; i++) {
        x[i + 1] += x[i] >> 8;
        out[i] = (uint8_t)x[i];
    }
}

static int below_order(const uint8_t scalar[32]) {
    for (int i = 31; i >= 0; i--)
        if (scalar[i] != order[i])
            return scalar[i] < order[i];
    return 0;
}

static int bit(const uint8_t scalar[32], int i) { return scalar[i / 8] >> (i % 8) & 1; }

static void challenge(uint8_t h[32], const uint8_t *r, const uint8_t *key, const etse_part *message, size_t count) {
    etse_part parts[2 + ETSE_ED25519_PARTS] = {{r, 32}, {key, 32}};
    uint8_t wide[64];
    for (size_t i = 0; i < count; i++)
        parts[2 + i] = message[i];
    etse_sha512(parts, 2 + count, wide);
    reduce(h, wide);
}

int etse_ed25519_verify(const uint8_t signature[64], const etse_part *message, size_t count, const uint8_t key[32]) {
    const uint8_t *const s = signature + 32;
    uint8_t h[32], found[32];
    point_t sum, negative, both;
    if (count > ETSE_ED25519_PARTS || !below_order(s) || !unpack_negative(&negative, key))
        return 0;
    challenge(h, signature, key, message, count);
    /* R is to be s B - h A */
    memcpy(&both, &negative, sizeof both);
    add_point(&both, &base);
    /* nothing yet: 0/1 and 1/1 */
    memset(&sum, 0, sizeof sum);
    sum.y[0] = sum.z[0] = 1;
    for (int i = 255; i >= 0; i--) {
        add_point(&sum, &sum);
        if (bit(s, i) && bit(h, i))
            add_point(&sum, &both);
        else if (bit(s, i))
            add_point(&sum, &base);
        else if (bit(h, i))
            add_point(&sum, &negative);
    }
    field_t inverse, x, y;
    invert(inverse, sum.z);
    multiply(x, sum.x, inverse);
    multiply(y, sum.y, inverse);
    pack(found, y);
    found[31] ^= (uint8_t)(odd(x) << 7);
    return memcmp(found, signature, sizeof found) == 0;
}
