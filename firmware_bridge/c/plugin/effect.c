#include "effect.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "etse.h"
#include "resample.h"

enum { READY = 64 };
_Static_assert(READY > ETSE_HIGHEST_RATE_HZ / ETSE_SAMPLE_RATE_HZ + 1, "one sample of the model becomes this many of the host");
static const float FULL_SCALE = 32768.0f;

struct etse_effect {
    uint32_t ears, latency;
    /* 1: the host has the rate of the model, and nothing is resampled */
    int same_rate;
    etse_resampler to_model, from_model;
    /* a hop, its first `filled` samples new; and the talker of the hop before it */
    int16_t heard[ETSE_EARS * ETSE_HOP], talker[ETSE_EARS * ETSE_HOP];
    uint32_t filled;
    /* talker at the rate of the host that is not played yet */
    float ready[READY][ETSE_EARS];
    uint32_t first_ready, count_ready;
    /* [latency][ears]: what came in */
    float *dry;
    uint32_t oldest;
    /* factors of talker and dry sound, and the most by which they move from frame to frame */
    float wet_level, dry_level, most_move;
};

static const char *set_voice(const char *path) {
    static uint8_t patch[ETSE_VOICE_PATCH_BYTES + 1];
    FILE *const file = path ? fopen(path, "rb") : NULL;
    if (!file)
        return ETSE_VOICE_CHANNELS ? "the voice patch cannot be read" : NULL;
    const size_t size = fread(patch, 1, sizeof patch, file);
    fclose(file);
    switch (etse_set_voice(patch, size)) {
    case ETSE_OK:
        return NULL;
    case ETSE_VOICE_FOREIGN:
        return "the voice patch was made for another model";
    case ETSE_VOICE_FOLDED:
        return "this model has a voice folded in, and takes no voice patch";
    default:
        return "the voice patch is malformed or damaged: make it again";
    }
}

/* Both ways, so that the latency is a whole number of frames of the host. Returns 0 if there is no memory. */
static int open_resamplers(etse_effect *effect, uint32_t rate_hz) {
    if (!etse_resampler_open(&effect->to_model, rate_hz, ETSE_SAMPLE_RATE_HZ, effect->ears, 0.0))
        return 0;
    const double frames = (double)rate_hz / ETSE_SAMPLE_RATE_HZ;
    const double at_model = ETSE_HOP + ETSE_DELAY + etse_resampler_delay(ETSE_SAMPLE_RATE_HZ, rate_hz);
    const double whole = ceil(at_model * frames - 0.5);
    effect->latency = effect->to_model.delay + (uint32_t)whole;
    return etse_resampler_open(&effect->from_model, ETSE_SAMPLE_RATE_HZ, rate_hz, effect->ears, whole / frames - at_model);
}

etse_effect *etse_effect_open(uint32_t rate_hz, uint32_t ears, const char *voice, const char **reason) {
    if (rate_hz < ETSE_LOWEST_RATE_HZ || rate_hz > ETSE_HIGHEST_RATE_HZ) {
        *reason = "the rate of the host is not within 8 to 384 kHz";
        return NULL;
    }
    if (etse_init((int)ears) != ETSE_OK) {
        *reason = "the model does not take that many channels";
        return NULL;
    }
    if ((*reason = set_voice(voice)) != NULL)
        return NULL;
    *reason = "there is no memory";
    etse_effect *const effect = calloc(1, sizeof *effect);
    if (!effect)
        return NULL;
    effect->ears = ears;
    effect->same_rate = rate_hz == ETSE_SAMPLE_RATE_HZ;
    effect->latency = ETSE_HOP + ETSE_DELAY;
    effect->most_move = 100.0f / (float)rate_hz;
    if (!effect->same_rate && !open_resamplers(effect, rate_hz)) {
        etse_effect_close(effect);
        return NULL;
    }
    effect->dry = malloc((size_t)effect->latency * ears * sizeof *effect->dry);
    if (!effect->dry) {
        etse_effect_close(effect);
        return NULL;
    }
    etse_effect_start(effect);
    return effect;
}

void etse_effect_close(etse_effect *effect) {
    etse_resampler_close(&effect->to_model);
    etse_resampler_close(&effect->from_model);
    free(effect->dry);
    free(effect);
}

void etse_effect_start(etse_effect *effect) {
    etse_reset();
    if (!effect->same_rate) {
        etse_resampler_reset(&effect->to_model);
        etse_resampler_reset(&effect->from_model);
    }
    memset(effect->talker, 0, sizeof effect->talker);
    memset(effect->dry, 0, (size_t)effect->latency * effect->ears * sizeof *effect->dry);
    effect->filled = effect->oldest = effect->first_ready = effect->count_ready = 0;
    effect->wet_level = effect->dry_level = -1.0f; /* the first block begins at its own levels */
}

uint32_t etse_effect_latency(const etse_effect *effect) { return effect->latency; }

/* As edge_tse quantizes sound: to nearest, half to even, and clipped. */
static int16_t quantized(float sample) {
    const float value = sample * FULL_SCALE;
    return (int16_t)(value >= 32767.0f ? 32767 : value <= -32768.0f ? -32768 : lrintf(value));
}

/* A sample of each ear at the rate of the model, for the one that came in ETSE_HOP + ETSE_DELAY before. */
static void advance(etse_effect *effect, const float *in, float *out) {
    for (uint32_t e = 0, at = effect->filled; e < effect->ears; e++, at += ETSE_HOP) {
        out[e] = (float)effect->talker[at] / FULL_SCALE;
        effect->heard[at] = quantized(in[e]);
    }
    if (++effect->filled == ETSE_HOP) {
        etse_process(effect->heard, effect->talker);
        effect->filled = 0;
    }
}

/* The same at the rate of the host. */
static void advance_resampled(etse_effect *effect, const float *in, float *out) {
    float at_model[ETSE_EARS], talker[ETSE_EARS];
    etse_resampler_push(&effect->to_model, in);
    while (etse_resampler_pull(&effect->to_model, at_model)) {
        advance(effect, at_model, talker);
        etse_resampler_push(&effect->from_model, talker);
        while (etse_resampler_pull(&effect->from_model, effect->ready[(effect->first_ready + effect->count_ready) % READY]))
            effect->count_ready++;
    }
    /* There always is one: each sample of the model gives all that come before the next. */
    memcpy(out, effect->ready[effect->first_ready], effect->ears * sizeof *out);
    effect->first_ready = (effect->first_ready + 1) % READY;
    effect->count_ready--;
}

static float clamped(float value, float low, float high) { return value >= low ? (value <= high ? value : high) : low; }

static float moved(float level, float to, float most) { return level < 0.0f ? to : level + clamped(to - level, -most, most); }

void etse_effect_run(etse_effect *effect, const float *const *in, float *const *out, uint32_t frames, const etse_controls *controls) {
    const float strength = clamped(controls->strength, 0.0f, 1.0f), ambient_db = clamped(controls->ambient_db, ETSE_NO_ROOM_DB, 20.0f);
    const float room = ambient_db > ETSE_NO_ROOM_DB ? powf(10.0f, ambient_db / 20.0f) : 0.0f;
    const float wet_level = controls->bypass ? 0.0f : strength, dry_level = controls->bypass ? 1.0f : 1.0f - strength + room;
    for (uint32_t i = 0; i < frames; i++) {
        float sample[ETSE_EARS], talker[ETSE_EARS];
        for (uint32_t e = 0; e < effect->ears; e++)
            sample[e] = isfinite(in[e][i]) ? in[e][i] : 0.0f;
        if (effect->same_rate)
            advance(effect, sample, talker);
        else
            advance_resampled(effect, sample, talker);
        effect->wet_level = moved(effect->wet_level, wet_level, effect->most_move);
        effect->dry_level = moved(effect->dry_level, dry_level, effect->most_move);
        float *const dry = effect->dry + (size_t)effect->oldest * effect->ears;
        for (uint32_t e = 0; e < effect->ears; e++) {
            out[e][i] = talker[e] * effect->wet_level + dry[e] * effect->dry_level;
            dry[e] = sample[e];
        }
        effect->oldest = effect->oldest + 1 == effect->latency ? 0 : effect->oldest + 1;
    }
}
