/* Sound in blocks of any size, from an audio interrupt, around etse_process, which takes whole hops and its time.
 *
 * The interrupt copies samples and waits for nobody: etse_push takes what the microphones gave, etse_pull gives what the earphones
 * play. etse_work runs the model, from the main loop or a task of lower priority. No heap, no locks, no system calls; what the
 * contexts share are positions in the stream, each written by one of them.
 *
 * What is played at position n is the talker in what was heard at n - etse_stream_latency(). A hop that is not ready when it is
 * due is played as it was heard, dry, from the same moment, cross-faded over ETSE_FADE_FRAMES: the latency never changes, nobody
 * hears a gap, and counters say how often. After docs/decisions/0015.
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

/* Frames of each of the two rings: a power of two, the same for everybody who includes this. They take
 * 4 * ETSE_EARS * ETSE_STREAM_FRAMES bytes, and bound blocks and latency to a quarter of them each. */
#ifndef ETSE_STREAM_FRAMES
#define ETSE_STREAM_FRAMES (16 * ETSE_HOP > 4 * ETSE_SYNTHESIS ? 16 * ETSE_HOP : 4 * ETSE_SYNTHESIS)
#endif

/* Over how many frames the sound changes between talker and dry; a power of two. */
#ifndef ETSE_FADE_FRAMES
#define ETSE_FADE_FRAMES 16
#endif

/* How far the talker must be ahead for no block to be late: blocks that always have this many frames, or up to this many. etse_work
 * must have run between two blocks; add frames to give it longer. A fixed block of a whole number of hops costs least. */
#define ETSE_AHEAD_FIXED(block) ((block) + ETSE_HOP - (((block) | ETSE_HOP) & -((block) | ETSE_HOP)) + ETSE_FADE_FRAMES)
#define ETSE_AHEAD_VARYING(block) ((block) + ETSE_HOP - 1 + ETSE_FADE_FRAMES)

/* Since etse_stream_start. They wrap; each is exact when its context is not running. */
typedef struct {
    /* pushed and pulled */
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

/* ahead + ETSE_DELAY is more than a quarter of the ring: raise ETSE_STREAM_FRAMES */
enum { ETSE_AHEAD_TOO_LONG = 32 };

/* Begin: calls etse_init(ears). ahead: ETSE_AHEAD_FIXED or _VARYING of the block. Call it while none of the others can run.
 * Returns ETSE_OK, ETSE_EARS_UNSUPPORTED, or ETSE_AHEAD_TOO_LONG; nothing has begun then. */
int etse_stream_start(int ears, uint32_t ahead);

/* samples: [frames][ears], as I2S and PDM filters deliver them. Bounded time, never waits. */
void etse_push(const int16_t *samples, size_t frames);

/* samples: [frames][ears]. Bounded time, never waits. What has not been pushed yet is silence, and does not count as played: pulling
 * a block before one has been pushed costs that block once. */
void etse_pull(int16_t *samples, size_t frames);

/* Make the next hop if a whole one has been heard: returns 1 if so, 0 if there is nothing to do. Call it until it returns 0, then
 * sleep until the next interrupt. */
int etse_work(void);

/* Frames from microphone to earphone, converters and DMA buffers not included. */
uint32_t etse_stream_latency(void);

etse_stream_counters etse_stream_count(void);

#ifdef __cplusplus
}
#endif

#endif
