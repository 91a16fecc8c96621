/* A hearing program on a bare Cortex-M: microphones and earphones on I2S or PDM, moved by DMA, the model in the main loop.
 *
 * Everything marked STUB is empty and for you to fill in from your chip's manual; the rest can stay. As it stands the program starts,
 * hears silence, and sleeps. docs/porting.md goes through it.
 */
#include <stdint.h>

#include "etse.h"
#include "etse_stream.h"

#ifndef EARS
#define EARS ETSE_EARS
#endif
/* Frames of a DMA block: a whole number of hops costs the least latency, and one hop the least of all. */
#ifndef BLOCK
#define BLOCK ETSE_HOP
#endif

int main(void);
void start(void);
void audio_block_interrupt(void);

/* The DMA fills and empties one half of each while the other half is ours. If your chip has caches, put these where they are not
 * cached, or clean and invalidate them in audio_block_interrupt. */
static int16_t microphones[2][BLOCK * EARS];
static int16_t earphones[2][BLOCK * EARS];

/* STUB: core clock, power, pins; the audio clock of ETSE_SAMPLE_RATE_HZ for both directions, from one source, or they drift apart. */
static void board_begin(void) {}

/* STUB: I2S (or PDM with its decimation filter) in, I2S out, 16 bits, EARS channels interleaved, left first. One DMA channel each
 * way, circular, over both halves; an interrupt when a half of the input is full. Clear that interrupt's pending bit and let it
 * run above everything that may take longer than a block. */
static void audio_begin(int16_t (*in)[BLOCK * EARS], int16_t (*out)[BLOCK * EARS]) {
    (void)in;
    (void)out;
}

/* STUB: which half the DMA has just finished, 0 or 1, and acknowledge the interrupt. */
static uint32_t audio_finished_half(void) { return 0; }

/* STUB: a voice that was stored in flash, as `edge-tse` made it for this model; NULL to listen to nobody in particular. */
static const uint8_t *stored_voice(void) { return 0; }

/* STUB: feed the watchdog, blink, send the counters somewhere: from time to time, and never for longer than a hop. */
static void housekeeping(const etse_stream_counters *now) { (void)now; }

/* Put this into the vector table for the DMA's interrupt. */
void audio_block_interrupt(void) {
    const uint32_t half = audio_finished_half();
    etse_push(microphones[half], BLOCK);
    etse_pull(earphones[half], BLOCK);
}

/* Sleep, unless a block has come since `heard` was read. Masked, an interrupt still ends WFI, and runs once unmasked: none is
 * slept over. */
static void sleep_unless_heard_since(uint32_t heard) {
#if defined(__arm__)
    __asm__ volatile("cpsid i" ::: "memory");
    if (etse_stream_count().frames_heard == heard)
        __asm__ volatile("wfi" ::: "memory");
    __asm__ volatile("cpsie i" ::: "memory");
#else
    (void)heard;
#endif
}

int main(void) {
    board_begin();
    if (etse_stream_start(EARS, ETSE_AHEAD_FIXED(BLOCK)) != ETSE_OK)
        return 1;
    /* After the start, which forgets the voice. A patch that is refused leaves no voice: say so to the wearer. */
    const uint8_t *const voice = stored_voice();
    if (voice && etse_set_voice(voice, ETSE_VOICE_PATCH_BYTES) != ETSE_OK)
        return 2;
    audio_begin(microphones, earphones);
    for (;;) {
        const etse_stream_counters now = etse_stream_count();
        while (etse_work()) {
        }
        housekeeping(&now);
        sleep_unless_heard_since(now.frames_heard);
    }
}

/* startup.c of this folder ends here; the start-up code of a vendor calls main itself. */
void start(void) {
    (void)main();
    for (;;) {
    }
}
