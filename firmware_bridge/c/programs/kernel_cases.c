/* The kernels alone, on cases from a file: how tests compare every instruction set with the reference.
 *
 *   IN OUT    records of eight int32 (see the structure), then the arrays of each kind in the order they are read below
 */
#include "etse.h"
#include "kernels.h"
#include "network.h"
#include "port.h"

enum { POINTWISE, DEPTHWISE, ADD, LOOKUP };
enum { FAILED = 1, USAGE = 2, ROOM = 65536, CHANNELS = 1024, TAPS = 16 };

typedef struct {
    int32_t kind;
    /* of a pointwise convolution; values of the other kinds stand in out_stride */
    int32_t rows, in_blocks, out_blocks, in_stride, out_stride;
    int32_t zero_point;
    int32_t taps;
} record;

ETSE_ARENA static int8_t weight[ROOM];
ETSE_ARENA static int8_t in[ROOM];
ETSE_ARENA static int8_t out[ROOM];
ETSE_ARENA static float factor[CHANNELS];
ETSE_ARENA static int32_t bias[CHANNELS];

static int read_all(int file, void *to, size_t size, size_t room) { return size <= room && port_read(file, to, size) == size; }

static int constants(int file, size_t weights, size_t channels) {
    return read_all(file, weight, weights, sizeof weight) && read_all(file, factor, 4 * channels, sizeof factor) &&
           read_all(file, bias, 4 * channels, sizeof bias);
}

/* Bytes of output, or 0. */
static size_t run(int file, const record *r) {
    const size_t n = (size_t)r->out_stride;
    switch (r->kind) {
    case POINTWISE: {
        const size_t channels = 4 * (size_t)r->out_blocks;
        const etse_pointwise_t layer = {weight,
                                        factor,
                                        bias,
                                        (uint16_t)r->in_blocks,
                                        (uint16_t)r->out_blocks,
                                        (uint16_t)r->in_stride,
                                        (uint16_t)r->out_stride,
                                        r->zero_point};
        if (!constants(file, 16 * channels * (size_t)r->in_blocks, channels) ||
            !read_all(file, in, (size_t)r->rows * (size_t)r->in_stride, sizeof in))
            return 0;
        etse_pointwise(&layer, in, out, (uint32_t)r->rows);
        return (size_t)r->rows * (size_t)r->out_stride;
    }
    case DEPTHWISE: {
        const etse_depthwise_t layer = {weight, factor, bias, (uint16_t)n, (uint16_t)r->taps, r->zero_point};
        const int8_t *taps[TAPS];
        if (r->taps > TAPS || !constants(file, n * (size_t)r->taps, n) || !read_all(file, in, n * (size_t)r->taps, sizeof in))
            return 0;
        for (int32_t k = 0; k < r->taps; k++)
            taps[k] = in + k * r->out_stride;
        etse_depthwise(&layer, taps, out);
        return n;
    }
    case ADD:
        if (!read_all(file, in, n, sizeof in) || !read_all(file, weight, n, sizeof weight))
            return 0;
        etse_add(in, weight, out, (uint32_t)n);
        return n;
    case LOOKUP:
        if (!read_all(file, weight, 256, sizeof weight) || !read_all(file, in, n, sizeof in))
            return 0;
        etse_lookup(weight, in, out, (uint32_t)n);
        return n;
    default:
        return 0;
    }
}

int program(int count, const char **words) {
    record r;
    if (count != 2)
        return USAGE;
    const int from = port_open(words[0], 0), to = port_open(words[1], 1);
    if (from < 0 || to < 0)
        return FAILED;
    while (port_read(from, &r, sizeof r) == sizeof r) {
        const size_t size = run(from, &r);
        if (!size || size > sizeof out || port_write(to, out, size) != 0)
            return FAILED;
    }
    port_close(from);
    if (port_close(to) != 0)
        return FAILED;
    port_print("kernels ");
    port_print(etse_kernels());
    port_print("\n");
    return 0;
}
