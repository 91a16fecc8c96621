/* Streaming: an audio interrupt exchanges blocks of any size, while etse_process takes whole hops and runs elsewhere.
 *
 * The interrupt copies samples and never waits: etse_push takes samples from the microphones, etse_pull gives samples to the
 * earphones. etse_work runs the model, from the main loop or a task of lower priority. There is no heap, no lock and no system
 * call; the contexts share positions in the stream, each written by one of them.
 *
 * The sound played at position n is the talker in the sound heard at n - etse_stream_latency(). A hop that is not ready when it is
 * due is replaced by the dry input of the same moment, cross-faded over ETSE_FADE_FRAMES: the latency never changes, nobody
 * hears a gap, and counters say how often it happened. docs/decisions/0015 has the reasons.
 *
 * At most one context calls etse_push, one etse_pull (it may be the same), and one etse_work. etse_init, etse_set_voice, etse_reset
 * and etse_process belong to the context of etse_work.
 */
#ifndef ETSE_STREAM_H
#define ETSE_STREAM_H

#include "etse.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Size of each of the two rings in frames: a power of two, the same in every file that includes this one. The rings take
 * 4 * ETSE_EARS * ETSE_STREAM_FRAMES bytes; a block and the latency may each be a quarter of a ring at most. */
#ifndef ETSE_STREAM_FRAMES
#define ETSE_STREAM_FRAMES (16 * ETSE_HOP > 4 * ETSE_SYNTHESIS ? 16 * ETSE_HOP : 4 * ETSE_SYNTHESIS)
#endif

/* Length in frames of the cross-fade between talker and dry sound; a power of two. */
#ifndef ETSE_FADE_FRAMES
#define ETSE_FADE_FRAMES 16
#endif

/* Frames by which the talker must be ahead so that no block is late: for blocks that always have this many frames, or that have up
 * to this many. etse_work must have run between two blocks; add frames to give it longer. A fixed block of a whole number of hops
 * costs least. */
#define ETSE_AHEAD_FIXED(block) ((block) + ETSE_HOP - (((block) | ETSE_HOP) & -((block) | ETSE_HOP)) + ETSE_FADE_FRAMES)
#define ETSE_AHEAD_VARYING(block) ((block) + ETSE_HOP - 1 + ETSE_FADE_FRAMES)

/* Counters since etse_stream_start. They wrap; each is exact when its context is not running. */
typedef struct {
    /* frames that were pushed, and pulled */
    uint32_t frames_heard, frames_played;
    /* hops that etse_work has made, and those that it left out because it was behind by half a ring */
    uint32_t hops, skipped_hops;
    /* hops that were played dry, at least in part, and the frames without a talker in them */
    uint32_t late_hops, dry_frames;
    /* frames that came in and were never played, because nobody pulled for half a ring, or a block was too large; counted by the
     * next etse_pull */
    uint32_t overruns;
    /* frames that were asked for before they were heard: silence was played for them */
    uint32_t underruns;
} etse_stream_counters;

/* Returned where ahead + ETSE_DELAY is more than a quarter of the ring: raise ETSE_STREAM_FRAMES. */
enum { ETSE_AHEAD_TOO_LONG = 32 };

/* Start a stream: calls etse_init(ears). ahead: ETSE_AHEAD_FIXED or ETSE_AHEAD_VARYING of the block. Call it while none of the
 * others can run. Returns ETSE_OK; or ETSE_EARS_UNSUPPORTED or ETSE_AHEAD_TOO_LONG, and has started nothing. */
int etse_stream_start(int ears, uint32_t ahead);

/* Give samples from the microphones: [frames][ears], as I2S and PDM filters deliver them. Takes bounded time, never waits. */
void etse_push(const int16_t *samples, size_t frames);

/* Take samples for the earphones: [frames][ears]. Takes bounded time, never waits. Frames that have not been pushed yet are silence
 * and do not count as played: pulling a block before one has been pushed costs that block once. */
void etse_pull(int16_t *samples, size_t frames);

/* Make the next hop if a whole one has been heard: returns 1 if so, 0 if there is nothing to do. Call it until it returns 0, then
 * sleep until the next interrupt. */
int etse_work(void);

/* Latency in frames from microphone to earphone, without converters and DMA buffers. */
uint32_t etse_stream_latency(void);

/* The counters as they are now. */
etse_stream_counters etse_stream_count(void);

#ifdef __cplusplus
}
#endif

#endif
