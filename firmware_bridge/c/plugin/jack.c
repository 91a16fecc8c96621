/* edge-tse-jack: the effect as a client of JACK, or of PipeWire by its JACK library.
 *
 *   edge-tse-jack [--voice FILE.etsv] [--strength S] [--ambient-db DB] [--mono] [--name NAME]
 *
 * Its ports are left_in, right_in, left_out and right_out (in and out with --mono); it connects none of them. libjack is found when the
 * program starts, so that it can be compiled where there is none. */
#define _GNU_SOURCE /* sigwait and its kin */
#include <dlfcn.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "effect.h"
#include "etse.h"

typedef struct {
    uint32_t min, max;
} latency_range;

enum { INPUT = 1, OUTPUT = 2, NO_START_SERVER = 1, CAPTURE = 0, PLAYBACK = 1 };

/* The calls that are used, as jack/jack.h declares them. */
static struct {
    void *(*client_open)(const char *name, int options, int *status, ...);
    int (*client_close)(void *client);
    const char *(*get_client_name)(void *client);
    uint32_t (*get_sample_rate)(void *client);
    void *(*port_register)(void *client, const char *name, const char *type, unsigned long flags, unsigned long size);
    void *(*port_get_buffer)(void *port, uint32_t frames);
    int (*set_process_callback)(void *client, int (*call)(uint32_t, void *), void *argument);
    int (*set_latency_callback)(void *client, void (*call)(int, void *), void *argument);
    void (*on_shutdown)(void *client, void (*call)(void *), void *argument);
    void (*port_get_latency_range)(void *port, int mode, latency_range *range);
    void (*port_set_latency_range)(void *port, int mode, latency_range *range);
    int (*activate)(void *client);
} jack;

static const struct {
    const char *name;
    void *to;
} CALLS[] = {
    {"jack_client_open", &jack.client_open},
    {"jack_client_close", &jack.client_close},
    {"jack_get_client_name", &jack.get_client_name},
    {"jack_get_sample_rate", &jack.get_sample_rate},
    {"jack_port_register", &jack.port_register},
    {"jack_port_get_buffer", &jack.port_get_buffer},
    {"jack_set_process_callback", &jack.set_process_callback},
    {"jack_set_latency_callback", &jack.set_latency_callback},
    {"jack_on_shutdown", &jack.on_shutdown},
    {"jack_port_get_latency_range", &jack.port_get_latency_range},
    {"jack_port_set_latency_range", &jack.port_set_latency_range},
    {"jack_activate", &jack.activate},
};

static etse_effect *effect;
static etse_controls controls = {.strength = 1.0f, .ambient_db = ETSE_NO_ROOM_DB};
static uint32_t ears = ETSE_EARS;
static void *inputs[ETSE_EARS], *outputs[ETSE_EARS];

static int failed(const char *what, const char *why) {
    fprintf(stderr, "edge-tse-jack: %s: %s\n", what, why);
    return 2;
}

static int load_jack(void) {
    void *const library = dlopen("libjack.so.0", RTLD_NOW);
    for (size_t i = 0; i < sizeof CALLS / sizeof *CALLS; i++) {
        void *const found = library ? dlsym(library, CALLS[i].name) : NULL;
        if (!found)
            return 0;
        memcpy(CALLS[i].to, &found, sizeof found);
    }
    return 1;
}

static int process(uint32_t frames, void *argument) {
    const float *in[ETSE_EARS];
    float *out[ETSE_EARS];
    (void)argument;
    for (uint32_t e = 0; e < ears; e++) {
        in[e] = jack.port_get_buffer(inputs[e], frames);
        out[e] = jack.port_get_buffer(outputs[e], frames);
    }
    etse_effect_run(effect, in, out, frames, &controls);
    return 0;
}

/* What lies beyond the ports on the one side lies further away, by our latency, as seen from the other. */
static void tell_latency(int mode, void *argument) {
    void *const *const from = mode == CAPTURE ? inputs : outputs, *const *const to = mode == CAPTURE ? outputs : inputs;
    (void)argument;
    for (uint32_t e = 0; e < ears; e++) {
        latency_range range;
        jack.port_get_latency_range(from[e], mode, &range);
        range.min += etse_effect_latency(effect);
        range.max += etse_effect_latency(effect);
        jack.port_set_latency_range(to[e], mode, &range);
    }
}

static void end(void *argument) {
    (void)argument;
    _Exit(failed("JACK", "the server is gone"));
}

static int registered(void *client) {
    static const char *const MONO[] = {"in", "out"}, *const TWO[] = {"left_in", "right_in", "left_out", "right_out"};
    const char *const *const names = ears == 1 ? MONO : TWO;
    for (uint32_t e = 0; e < ears; e++) {
        inputs[e] = jack.port_register(client, names[e], "32 bit float mono audio", INPUT, 0);
        outputs[e] = jack.port_register(client, names[ears + e], "32 bit float mono audio", OUTPUT, 0);
        if (!inputs[e] || !outputs[e])
            return 0;
    }
    return 1;
}

static int serve(const char *name, const char *voice) {
    const char *reason;
    void *const client = jack.client_open(name, NO_START_SERVER, NULL);
    if (!client)
        return failed("JACK", "no server answers: start one, or run this by pw-jack");
    const uint32_t rate_hz = jack.get_sample_rate(client);
    effect = etse_effect_open(rate_hz, ears, voice, &reason);
    if (!effect)
        return failed(voice ? voice : "voice", reason);
    jack.set_process_callback(client, process, NULL);
    jack.set_latency_callback(client, tell_latency, NULL);
    jack.on_shutdown(client, end, NULL);
    if (!registered(client) || jack.activate(client))
        return failed("JACK", "it takes no ports");
    const unsigned int latency = (unsigned int)etse_effect_latency(effect);
    printf("%s: %u Hz, latency %u frames\n", jack.get_client_name(client), (unsigned int)rate_hz, latency);
    fflush(stdout);
    sigset_t signals;
    int caught;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigwait(&signals, &caught);
    jack.client_close(client);
    etse_effect_close(effect);
    return 0;
}

/* A number that is nothing but one. */
static int number(const char *word, float *value) {
    char *rest;
    *value = strtof(word, &rest);
    return rest != word && *rest == '\0' && *value == *value;
}

int main(int count, char **words) {
    const char *name = "edge-tse", *voice = NULL;
    for (int i = 1; i < count; i++) {
        const char *const word = words[i], *const value = i + 1 < count ? words[i + 1] : NULL;
        int taken = value != NULL;
        if (strcmp(word, "--mono") == 0) {
            ears = 1;
            continue;
        }
        if (strcmp(word, "--voice") == 0)
            voice = value;
        else if (strcmp(word, "--name") == 0)
            name = value;
        else if (strcmp(word, "--strength") == 0)
            taken = taken && number(value, &controls.strength);
        else if (strcmp(word, "--ambient-db") == 0)
            taken = taken && number(value, &controls.ambient_db);
        else
            taken = 0;
        if (!taken)
            return failed(word, "edge-tse-jack [--voice FILE.etsv] [--strength S] [--ambient-db DB] [--mono] [--name NAME]");
        i++;
    }
    if (ETSE_VOICE_CHANNELS != 0 && !voice)
        return failed("no voice", "give --voice FILE.etsv, or compile it with --voice");
    if (!load_jack())
        return failed("libjack.so.0", "is not installed: apt-get install libjack-jackd2-0, or run this by pw-jack");
    /* before there are threads, which inherit it */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return serve(name, voice);
}
