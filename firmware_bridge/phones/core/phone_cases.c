/* The core of the applications on files, for tests:
 *
 *   network FEATURES OUT               int8 features, frame by frame, to what the network answers
 *   exchange EARS BLOCK SOUND OUT [VOICE]   int16 [frames][EARS] through the audio callback, BLOCK frames at a time
 */
#include <string.h>

#include "phone.h"
#include "port.h"

enum { FAILED = 1, USAGE = 2, MOST = 512 };

static int replay(const char *from_path, const char *to_path) {
    static int8_t features[ETSE_FEATURES], moves[ETSE_MOVES * ETSE_BANDS];
    const int from = port_open(from_path, 0), to = port_open(to_path, 1);
    if (from < 0 || to < 0)
        return FAILED;
    int32_t frames = 0;
    etse_init(ETSE_EARS);
    for (; port_read(from, features, sizeof features) == sizeof features; frames++) {
        etse_network(features, moves);
        if (port_write(to, moves, sizeof moves) != 0)
            return FAILED;
    }
    port_number("frames", frames);
    port_close(from);
    return port_close(to) == 0 ? 0 : FAILED;
}

static int offer(const char *path) {
    static uint8_t patch[ETSE_VOICE_PATCH_BYTES + 1];
    const int file = port_open(path, 0);
    if (file < 0)
        return FAILED;
    const size_t size = port_read(file, patch, sizeof patch);
    port_close(file);
    port_number("offered", phone_offer_voice(patch, size));
    port_number("again", phone_offer_voice(patch, size));
    return 0;
}

static int exchange(int ears, int block, const char *from_path, const char *to_path, const char *voice_path) {
    static int16_t heard[ETSE_EARS * MOST], played[ETSE_EARS * MOST];
    const int status = block < 1 || block > MOST ? FAILED : phone_start(ears, (uint32_t)block);
    port_number("start", status);
    if (status != ETSE_OK)
        return FAILED;
    port_number("latency", (int32_t)etse_stream_latency());
    if (voice_path && offer(voice_path) != 0)
        return FAILED;
    const int from = port_open(from_path, 0), to = port_open(to_path, 1);
    if (from < 0 || to < 0)
        return FAILED;
    const size_t frame_bytes = sizeof(int16_t) * (size_t)ears;
    /* Started before the worker has seen the voice, as where it is chosen while nothing runs, and once more after that. */
    for (int i = 0; i < 2; i++) {
        if (phone_start(ears, (uint32_t)block) != ETSE_OK)
            return FAILED;
        phone_work();
    }
    for (size_t got; (got = port_read(from, heard, frame_bytes * (size_t)block) / frame_bytes) > 0;) {
        phone_exchange(heard, played, got);
        phone_work();
        if (port_write(to, played, got * frame_bytes) != 0)
            return FAILED;
    }
    const etse_stream_counters counted = etse_stream_count();
    port_number("voice", phone_voice());
    port_number("hops", (int32_t)counted.hops);
    port_number("late", (int32_t)counted.late_hops);
    port_print("kernels ");
    port_print(etse_kernels());
    port_print("\n");
    port_close(from);
    return port_close(to) == 0 ? 0 : FAILED;
}

static int number_in(const char *digits) {
    int value = 0;
    for (; *digits >= '0' && *digits <= '9' && value < 100000; digits++)
        value = 10 * value + *digits - '0';
    return value;
}

int program(int count, const char **words) {
    if (count == 3 && strcmp(words[0], "network") == 0)
        return replay(words[1], words[2]);
    if ((count == 5 || count == 6) && strcmp(words[0], "exchange") == 0)
        return exchange(number_in(words[1]), number_in(words[2]), words[3], words[4], count == 6 ? words[5] : NULL);
    port_print("error usage: network FEATURES OUT | exchange EARS BLOCK SOUND OUT [VOICE]\n");
    return USAGE;
}
