/* Positions count frames since the start and wrap at 2^32, which the rings, powers of two, do not notice. The input of position n is
 * played at n + latency; etse_process made its talker with a delay of ETSE_DELAY, so it lies in the second ring `ahead` frames on. */
#include "etse_stream.h"

#include <stdatomic.h>
#include <string.h>

#include "network.h"

/* Where positions begin. Tests begin shortly before they wrap, which at 16 kHz takes three days. */
#ifndef ETSE_STREAM_FIRST
#define ETSE_STREAM_FIRST 0u
#endif

enum { FRAMES = ETSE_STREAM_FRAMES, MASK = FRAMES - 1, FADE = ETSE_FADE_FRAMES, TOO_FAR = FRAMES / 2 };

_Static_assert((FRAMES & MASK) == 0 && (ETSE_HOP & (ETSE_HOP - 1)) == 0, "the ring and the hop are powers of two");
_Static_assert(FRAMES >= 4 * ETSE_SYNTHESIS && FRAMES >= 8 * ETSE_HOP, "the ring holds eight hops and four synthesis windows");
_Static_assert(FADE > 0 && FADE <= FRAMES / 8 && (FADE & (FADE - 1)) == 0, "the fade is a power of two, an eighth of the ring at most");
#if ATOMIC_INT_LOCK_FREE != 2
#error "an interrupt cannot wait for a lock: this core needs 32-bit atomic loads and stores"
#endif

/* Written by etse_push, read by all. */
ETSE_STATE static int16_t heard[ETSE_EARS][FRAMES];
/* Written by etse_work, read by etse_pull. */
ETSE_STATE static int16_t talker[ETSE_EARS][FRAMES];

/* Each is written in one context: etse_push, etse_pull, and the last five etse_work. */
static atomic_uint pushed;
static atomic_uint played, late_hops, dry_frames, overruns, underruns;
/* Talker lies in [from, made); from is published before a made that needs it. */
static atomic_uint made, from, hops, skipped_hops;

/* etse_pull's own. */
static uint32_t weight, last_late;
/* etse_work's own: input up to here has been processed; whether the hop before it was left out. */
static uint32_t taken;
static int settling;

static uint32_t ears, ahead;

static uint32_t get(atomic_uint *position) { return atomic_load_explicit(position, memory_order_acquire); }
static void set(atomic_uint *position, uint32_t value) { atomic_store_explicit(position, value, memory_order_release); }
/* only where this context is its writer */
static void add(atomic_uint *counter, uint32_t n) { set(counter, get(counter) + n); }
/* how far a is before b; exact while they are less than 2^31 apart */
static int32_t distance(uint32_t a, uint32_t b) { return (int32_t)(b - a); }

int etse_stream_start(int n, uint32_t ahead_frames) {
    if (ahead_frames > FRAMES / 4 - ETSE_DELAY)
        return ETSE_AHEAD_TOO_LONG;
    const etse_status status = etse_init(n);
    if (status != ETSE_OK)
        return status;
    ears = (uint32_t)n;
    ahead = ahead_frames;
    memset(heard, 0, sizeof heard);
    memset(talker, 0, sizeof talker);
    weight = FADE;
    taken = ETSE_STREAM_FIRST;
    settling = 0;
    last_late = UINT32_MAX;
    atomic_uint *const positions[] = {&pushed, &played, &from};
    atomic_uint *const counters[] = {&late_hops, &dry_frames, &overruns, &underruns, &hops, &skipped_hops};
    for (uint32_t i = 0; i < sizeof positions / sizeof *positions; i++)
        set(positions[i], ETSE_STREAM_FIRST);
    for (uint32_t i = 0; i < sizeof counters / sizeof *counters; i++)
        set(counters[i], 0);
    set(&made, ETSE_STREAM_FIRST + ahead);
    return ETSE_OK;
}

void etse_push(const int16_t *samples, size_t frames) {
    const uint32_t at = get(&pushed);
    for (uint32_t e = 0; e < ears; e++) {
        const int16_t *sample = samples + e;
        for (uint32_t i = 0; i < frames; i++, sample += ears)
            heard[e][(at + i) & MASK] = *sample;
    }
    set(&pushed, at + (uint32_t)frames);
}

/* The talker alone. */
static void copy(int16_t *to, uint32_t at, uint32_t frames) {
    for (uint32_t e = 0; e < ears; e++) {
        int16_t *sample = to + e;
        for (uint32_t i = 0; i < frames; i++, sample += ears)
            *sample = talker[e][(at + i) & MASK];
    }
}

/* One frame of the talker, or of what was heard, or of both: a weight that moves by one a frame, and that is down before the
 * talker ends if that is known in time. reach: frames of talker from here on. */
static void play(int16_t *to, uint32_t at, int32_t reach) {
    weight += weight < FADE;
    if (reach < (int32_t)weight)
        weight = reach > 0 ? (uint32_t)reach : 0;
    for (uint32_t e = 0; e < ears; e++) {
        const int32_t dry = heard[e][(at - ahead - ETSE_DELAY) & MASK];
        const int32_t wet = weight > 0 ? talker[e][at & MASK] : dry;
        to[e] = (int16_t)(dry + (wet - dry) * (int32_t)weight / FADE);
    }
}

void etse_pull(int16_t *samples, size_t frames) {
    const uint32_t end = get(&pushed);
    uint32_t at = get(&played);
    /* Not played any more: what has waited too long, and what a block larger than the ring has overwritten. */
    const int32_t behind = distance(at, end);
    const int32_t waiting = behind - (int32_t)frames > TOO_FAR ? behind - (int32_t)frames : 0;
    const int32_t overwritten = behind + (int32_t)(ahead + ETSE_DELAY) - FRAMES;
    const int32_t lost = overwritten > waiting ? overwritten : waiting;
    if (lost > 0) {
        at += (uint32_t)lost;
        weight = 0;
        add(&overruns, (uint32_t)lost);
    }
    /* made before from: whoever sees a hop sees where the talker begins again */
    const uint32_t to = get(&made), begin = get(&from);
    uint32_t i = 0, dry = 0;
    if (weight == FADE && distance(begin, at) >= 0 && distance(at, to) >= FADE) {
        /* What it nearly always is: nothing to fade, nothing to count. */
        const uint32_t sure = (uint32_t)distance(at, to) - FADE + 1, there = (uint32_t)distance(at, end);
        i = (uint32_t)frames < sure ? (uint32_t)frames : sure;
        i = i < there ? i : there;
        copy(samples, at, i);
        at += i;
    }
    /* Never ahead of what has been heard: it would stay ahead, and every hop would be late from then on. */
    for (; i < frames && distance(at, end) > 0; i++, at++) {
        const int32_t reach = distance(begin, at) >= 0 ? distance(at, to) : 0;
        play(samples + i * ears, at, reach);
        const uint32_t hop = (at - ahead) / ETSE_HOP;
        if (reach <= 0 && hop != last_late) {
            last_late = hop;
            add(&late_hops, 1);
        }
        dry += reach <= 0;
    }
    memset(samples + i * ears, 0, (frames - i) * ears * sizeof *samples);
    add(&dry_frames, dry);
    add(&underruns, (uint32_t)frames - i);
    set(&played, at);
}

/* Leave out what can no longer be in time: the newest whole hop is next. */
static void skip_to(uint32_t newest) {
    add(&skipped_hops, (newest - taken) / ETSE_HOP);
    taken = newest;
    settling = 1;
}

int etse_work(void) {
    static int16_t in[ETSE_EARS * ETSE_HOP], out[ETSE_EARS * ETSE_HOP];
    uint32_t end = get(&pushed);
    if (end - taken > TOO_FAR + ETSE_HOP)
        skip_to(taken + (end - taken) / ETSE_HOP * ETSE_HOP - ETSE_HOP);
    if (end - taken < ETSE_HOP || distance(get(&played), taken + ahead + ETSE_HOP) > FRAMES)
        return 0;
    for (uint32_t e = 0; e < ears; e++)
        memcpy(in + e * ETSE_HOP, &heard[e][taken & MASK], ETSE_HOP * sizeof *in);
    atomic_thread_fence(memory_order_acquire);
    end = get(&pushed);
    if (end - taken > FRAMES) /* overwritten while it was read */
        return 1;
    etse_process(in, out);
    const uint32_t at = taken + ahead;
    for (uint32_t e = 0; e < ears; e++)
        for (uint32_t i = 0; i < ETSE_HOP; i++)
            talker[e][(at + i) & MASK] = out[e * ETSE_HOP + i];
    taken += ETSE_HOP;
    add(&hops, 1);
    /* The first hop after a gap is half of one from before it. */
    if (settling)
        set(&from, at + ETSE_HOP);
    else if (distance(get(&from), at) > FRAMES) /* never so long ago that it seems to come */
        set(&from, at - FRAMES);
    settling = 0;
    set(&made, at + ETSE_HOP);
    return 1;
}

uint32_t etse_stream_latency(void) { return ahead + ETSE_DELAY; }

etse_stream_counters etse_stream_count(void) {
    const etse_stream_counters now = {
        .frames_heard = get(&pushed) - ETSE_STREAM_FIRST,
        .frames_played = get(&played) - ETSE_STREAM_FIRST,
        .hops = get(&hops),
        .skipped_hops = get(&skipped_hops),
        .late_hops = get(&late_hops),
        .dry_frames = get(&dry_frames),
        .overruns = get(&overruns),
        .underruns = get(&underruns),
    };
    return now;
}
