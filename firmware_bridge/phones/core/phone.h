/* The library in an application of a phone: an audio callback, a worker thread and a user interface, each in a thread of its own.
 *
 *   audio callback   phone_exchange
 *   worker           phone_work, which alone runs the model
 *   any other        phone_offer_voice, phone_voice, phone_ears, and while neither audio nor worker runs phone_start
 */
#ifndef ETSE_PHONE_H
#define ETSE_PHONE_H

#include "etse_stream.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { PHONE_VOICE_PENDING = -1, PHONE_VOICE_NONE = -2, PHONE_VOICE_WRONG_SIZE = -3 };

/* Start from silence, with the voice that was offered last, now or while nothing ran; nobody's if there was none, or it was refused.
 * block: most frames of a callback. Returns ETSE_OK, or what etse_stream_start had against it, and has started nothing. */
int phone_start(int ears, uint32_t block);

/* Channels of a frame; 0 before the first start. */
int phone_ears(void);

/* One callback: [frames][ears] heard, the same number to play. Bounded time, no lock. */
void phone_exchange(const int16_t *heard, int16_t *played, size_t frames);

/* Hand a voice patch (etse_set_voice) to the worker. Returns 0, or PHONE_VOICE_PENDING if it has not taken the one before, or
 * PHONE_VOICE_WRONG_SIZE. */
int phone_offer_voice(const uint8_t *patch, size_t size);

/* What became of the last voice: an etse_status, PHONE_VOICE_PENDING or PHONE_VOICE_NONE. */
int phone_voice(void);

/* Take a voice that was offered, and make all hops that have been heard: their number. */
int phone_work(void);

#ifdef __cplusplus
}
#endif

#endif
