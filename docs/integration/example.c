/* The C library in a program of your own: 16-bit PCM in, the enrolled talker out.
 *
 *   example EARS [VOICE] < mixture.pcm > talker.pcm
 *
 * PCM is little-endian, at ETSE_SAMPLE_RATE_HZ, channels interleaved. VOICE is a voice patch for this model. The output is as long
 * as the input and aligned with it: the ETSE_DELAY frames by which the library lags are dropped here, as no live program can.
 * How to compile it stands in docs/integration.md; tests/test_integration.py does just that, and runs it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "etse.h"

/* The library's own words for what went wrong. */
static const char *reason(etse_status status) {
    switch (status) {
    case ETSE_OK:
        return "nothing";
    case ETSE_EARS_UNSUPPORTED:
        return "this model does not take that many channels";
    case ETSE_VOICE_MALFORMED:
        return "this is no voice patch of this version, or not a whole one";
    case ETSE_VOICE_FOREIGN:
        return "the voice patch was made for another model";
    case ETSE_VOICE_OUT_OF_RANGE:
        return "a value in the voice patch is out of range";
    case ETSE_VOICE_DAMAGED:
        return "the voice patch is damaged: make it again";
    case ETSE_VOICE_FOLDED:
        return "this model has a voice built in: compile it without one";
    default:
        return "unknown";
    }
}

static int failed(const char *what, const char *why) {
    fprintf(stderr, "example: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

/* A whole voice patch at once: it is small, and nothing changes if it is refused. */
static etse_status set_voice(const char *path) {
    static uint8_t patch[ETSE_VOICE_PATCH_BYTES + 1];
    FILE *const file = fopen(path, "rb");
    if (!file)
        return ETSE_VOICE_MALFORMED;
    const size_t size = fread(patch, 1, sizeof patch, file);
    fclose(file);
    return etse_set_voice(patch, size);
}

/* [frames][ears] of the file to [ears][ETSE_HOP] of the library; what the last hop lacks is silence. */
static void deinterleave(const int16_t *from, size_t frames, size_t ears, int16_t *to) {
    for (size_t e = 0; e < ears; e++)
        for (size_t i = 0; i < ETSE_HOP; i++)
            to[e * ETSE_HOP + i] = i < frames ? from[i * ears + e] : 0;
}

static void interleave(const int16_t *from, size_t ears, int16_t *to) {
    for (size_t e = 0; e < ears; e++)
        for (size_t i = 0; i < ETSE_HOP; i++)
            to[i * ears + e] = from[e * ETSE_HOP + i];
}

/* All of it, hop by hop. */
static int extract(size_t ears) {
    static int16_t file[ETSE_EARS * ETSE_HOP], hop[ETSE_EARS * ETSE_HOP];
    const size_t frame_bytes = ears * sizeof *file;
    size_t heard = 0, written = 0, made = 0;
    do {
        const size_t frames = fread(file, frame_bytes, ETSE_HOP, stdin);
        heard += frames;
        deinterleave(file, frames, ears, hop);
        etse_process(hop, hop);
        interleave(hop, ears, file);
        made += ETSE_HOP;
        /* This hop holds the talker of the frames made - ETSE_HOP - ETSE_DELAY up to made - ETSE_DELAY. */
        const size_t first = made - ETSE_HOP < ETSE_DELAY ? ETSE_DELAY - (made - ETSE_HOP) : 0;
        if (first >= ETSE_HOP)
            continue;
        const size_t wanted = ETSE_HOP - first < heard - written ? ETSE_HOP - first : heard - written;
        if (fwrite(file + first * ears, frame_bytes, wanted, stdout) != wanted)
            return failed("output", "not everything was written");
        written += wanted;
    } while (!feof(stdin) || written < heard);
    return fflush(stdout) == 0 && !ferror(stdin) ? EXIT_SUCCESS : failed("input or output", "an error of the system");
}

int main(int count, char **words) {
    if (count != 2 && count != 3)
        return failed("usage", "example EARS [VOICE] < mixture.pcm > talker.pcm");
    const int ears = atoi(words[1]);
    etse_status status = etse_init(ears);
    if (status != ETSE_OK)
        return failed(words[1], reason(status));
    status = count == 3 ? set_voice(words[2]) : ETSE_OK;
    if (status != ETSE_OK)
        return failed(words[2], reason(status));
    return extract((size_t)ears);
}
