/* The chain on files, for tests and for counting: what a board does with sound, an emulated one does here.
 *
 *   network FEATURES OUT          int8 features, frame by frame, to mask, velocity and what else the model has
 *   process EARS SOUND OUT [VOICE]  int16 [hops][EARS][HOP] to the same
 *   parts EARS SOUND OUT [VOICE]    the same, with features, mask, velocity and what else there is before each hop
 */
#include <string.h>

#include "etse.h"
#include "port.h"

enum { FAILED = 1, USAGE = 2 };

/* What is asked for, in the order of MODES. */
typedef enum { NETWORK, PROCESS, PARTS, NOTHING } mode_of_run;

static const char *const MODES[] = {"network", "process", "parts"};

static union {
    int16_t sound[ETSE_EARS * ETSE_HOP];
    int8_t features[ETSE_FEATURES];
} in;
static int16_t out[ETSE_EARS * ETSE_HOP];
static int8_t features[ETSE_FEATURES], moves[ETSE_MOVES * ETSE_BANDS];

static int failed(const char *what, const char *path) {
    port_print("error ");
    port_print(what);
    port_print(" ");
    port_print(path);
    port_print("\n");
    return FAILED;
}

static int set_voice(const char *path) {
    static uint8_t patch[ETSE_VOICE_PATCH_BYTES + 1];
    const int file = port_open(path, 0);
    if (file < 0)
        return failed("cannot open", path);
    const size_t size = port_read(file, patch, sizeof patch);
    port_close(file);
    const etse_status status = etse_set_voice(patch, size);
    port_number("voice", (int32_t)status);
    return status == ETSE_OK ? 0 : FAILED;
}

static mode_of_run mode_named(const char *word) {
    mode_of_run mode = NETWORK;
    while (mode < NOTHING && strcmp(word, MODES[mode]) != 0)
        mode++;
    return mode;
}

static int step(mode_of_run mode, size_t in_bytes, int to) {
    switch (mode) {
    case NETWORK:
        etse_network(in.features, moves);
        return port_write(to, moves, sizeof moves);
    case PROCESS:
        etse_process(in.sound, out);
        return port_write(to, out, in_bytes);
    case PARTS:
        etse_analyze(in.sound, features);
        etse_network(features, moves);
        etse_synthesize(moves, out);
        return port_write(to, features, sizeof features) || port_write(to, moves, sizeof moves) || port_write(to, out, in_bytes);
    case NOTHING:
    default:
        return FAILED;
    }
}

int program(int count, const char **words) {
    const mode_of_run mode = count > 0 ? mode_named(words[0]) : NOTHING;
    const int network = count == 3 && mode == NETWORK;
    const int sound = (count == 4 || count == 5) && (mode == PROCESS || mode == PARTS);
    const int ears = sound ? words[1][0] - '0' : ETSE_EARS;
    if (!(network || sound) || etse_init(ears) != ETSE_OK) {
        port_print("error usage: network FEATURES OUT | process EARS SOUND OUT [VOICE] | parts EARS SOUND OUT [VOICE]\n");
        return USAGE;
    }
    if (count == 5 && set_voice(words[4]) != 0)
        return FAILED;
    const char *const from_path = words[1 + sound], *const to_path = words[2 + sound];
    const int from = port_open(from_path, 0);
    if (from < 0)
        return failed("cannot open", from_path);
    const int to = port_open(to_path, 1);
    if (to < 0)
        return failed("cannot open", to_path);
    const size_t in_bytes = network ? sizeof in.features : sizeof(int16_t) * (size_t)ears * ETSE_HOP;
    int32_t hops = 0;
    for (; port_read(from, &in, in_bytes) == in_bytes; hops++)
        if (step(mode, in_bytes, to) != 0)
            return failed("cannot write", to_path);
    port_close(from);
    if (port_close(to) != 0)
        return failed("cannot write", to_path);
    port_print("kernels ");
    port_print(etse_kernels());
    port_print("\n");
    port_number("hops", hops);
    port_number("stack_bytes", port_stack_bytes());
    return 0;
}
