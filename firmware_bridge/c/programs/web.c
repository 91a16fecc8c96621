/* The chain as a WebAssembly module: memory that a page can find, and the levels that enrolling and pictures are made of. */
#include "crc32.h"
#include "front.h"
#include "front_math.h"
#include "network.h"

/* Exported by name. [ears][ETSE_HOP] in and out of etse_process; [ETSE_FEATURES] and [ETSE_MOVES][ETSE_BANDS] of etse_network. */
extern int16_t web_sound[];
extern int8_t web_features[], web_moves[];
extern uint8_t web_patch[];
/* [ETSE_WINDOW] sound on the scale of 16 bits, and the [ETSE_BANDS] levels of it. */
extern float web_window[], web_levels[];
void web_measure(void);

int16_t web_sound[ETSE_EARS * ETSE_HOP];
int8_t web_features[ETSE_FEATURES], web_moves[ETSE_MOVES * ETSE_BANDS];
uint8_t web_patch[ETSE_VOICE_PATCH_BYTES];
float web_window[ETSE_WINDOW], web_levels[ETSE_BANDS];

static const etse_front_t front = {
    .half = ETSE_HALF,
    .bands = ETSE_BANDS,
    .split = etse_split_factors,
    .edges = etse_band_edges,
    .silence = ETSE_SILENCE,
    .power_unit = ETSE_POWER_UNIT,
};

/* Levels of one window, FrameSpec.band_levels of edge_tse/frame.py to the bit: no running level, no rounding to int8. It touches
 * nothing that etse_process keeps from hop to hop. */
void web_measure(void) {
    static float re[ETSE_HALF], im[ETSE_HALF], re2[ETSE_HALF], im2[ETSE_HALF], spectrum_re[ETSE_BINS], spectrum_im[ETSE_BINS];
    for (uint32_t i = 0; i < ETSE_HALF; i++) {
        re[i] = web_window[2 * i] * etse_window_even[i];
        im[i] = web_window[2 * i + 1] * etse_window_odd[i];
    }
    const int second = etse_fft(re, im, re2, im2);
    etse_split(&front, second ? re2 : re, second ? im2 : im, spectrum_re, spectrum_im);
    etse_band_energies(&front, spectrum_re, spectrum_im, web_levels);
    for (uint32_t b = 0; b < ETSE_BANDS; b++) {
        const float level = etse_log2(web_levels[b] + ETSE_POWER_FLOOR) * (ETSE_LEVEL_SLOPE * ETSE_LOG10_2) + ETSE_LEVEL_OFFSET;
        web_levels[b] = etse_within_one(level);
    }
}
