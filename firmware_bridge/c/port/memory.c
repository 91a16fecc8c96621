/* The few functions of the C library that compilers call by themselves, for cores without one. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A word wherever it lies; the cores here load unaligned words. */
typedef uint32_t __attribute__((may_alias, aligned(1))) word_t;

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    for (; size >= 4; size -= 4, t += 4, f += 4)
        *(word_t *)t = *(const word_t *)f;
    while (size--)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t size) {
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t <= f)
        while (size--)
            *t++ = *f++;
    else
        while (size--)
            t[size] = f[size];
    return to;
}

void *memset(void *to, int value, size_t size) {
    uint8_t *t = to;
    while (size--)
        *t++ = (uint8_t)value;
    return to;
}

int memcmp(const void *left, const void *right, size_t size) {
    const uint8_t *l = left, *r = right;
    for (; size; size--, l++, r++)
        if (*l != *r)
            return *l < *r ? -1 : 1;
    return 0;
}

int strcmp(const char *left, const char *right) {
    for (; *left && *left == *right; left++, right++) {
    }
    return (uint8_t)*left - (uint8_t)*right;
}

size_t strlen(const char *text) {
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}
