#include "phone.h"

#include <stdatomic.h>
#include <string.h>

static uint8_t offered[ETSE_VOICE_PATCH_BYTES];
/* Whose turn it is with what is offered; PHONE_VOICE_PENDING gives it to the worker, and anything else to the user interface. */
static atomic_int voice = PHONE_VOICE_NONE;
static size_t channels;

int phone_start(int ears, uint32_t block) {
    /* The worker has the time of a block and a hop, whatever the size of the blocks is. */
    const int status = (int)etse_stream_start(ears, ETSE_AHEAD_VARYING(block) + ETSE_HOP);
    if (status != ETSE_OK)
        return status;
    channels = (size_t)ears;
    /* The library has forgotten the voice: the worker takes it anew. */
    const int last = atomic_load(&voice);
    atomic_store(&voice, last == ETSE_OK || last == PHONE_VOICE_PENDING ? PHONE_VOICE_PENDING : PHONE_VOICE_NONE);
    return ETSE_OK;
}

int phone_ears(void) { return (int)channels; }

void phone_exchange(const int16_t *heard, int16_t *played, size_t frames) {
    enum { MOST = ETSE_STREAM_FRAMES / 4 };
    for (size_t at = 0; at < frames; at += MOST) {
        const size_t n = frames - at < MOST ? frames - at : MOST;
        etse_push(heard + at * channels, n);
        etse_pull(played + at * channels, n);
    }
}

int phone_offer_voice(const uint8_t *patch, size_t size) {
    if (size != sizeof offered)
        return PHONE_VOICE_WRONG_SIZE;
    if (atomic_load(&voice) == PHONE_VOICE_PENDING)
        return PHONE_VOICE_PENDING;
    memcpy(offered, patch, size);
    atomic_store(&voice, PHONE_VOICE_PENDING);
    return 0;
}

int phone_voice(void) { return atomic_load(&voice); }

int phone_work(void) {
    if (atomic_load(&voice) == PHONE_VOICE_PENDING)
        atomic_store(&voice, (int)etse_set_voice(offered, sizeof offered));
    int hops = 0;
    while (etse_work())
        hops++;
    return hops;
}
