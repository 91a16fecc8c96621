#define _GNU_SOURCE /* dladdr, memfd_create */
#include "copy.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "etse.h"

const etse_effect_calls etse_calls = {etse_effect_open, etse_effect_close, etse_effect_start, etse_effect_run, etse_effect_latency};

/* set while the plugin's own memory is in use */
static atomic_flag taken = ATOMIC_FLAG_INIT;

/* Path of the plugin. */
static const char *own_path(void) {
    Dl_info found;
    return dladdr(&etse_calls, &found) ? found.dli_fname : "";
}

/* A file in memory with the bytes of another: returns its descriptor, or -1. */
static int duplicate(const char *path) {
    char block[65536];
    const int from = open(path, O_RDONLY | O_CLOEXEC), to = memfd_create("edge-tse", MFD_CLOEXEC);
    ssize_t size = -1;
    while (from >= 0 && to >= 0 && (size = read(from, block, sizeof block)) > 0)
        if (write(to, block, (size_t)size) != size) {
            size = -1;
            break;
        }
    if (from >= 0)
        close(from);
    if (size == 0)
        return to;
    if (to >= 0)
        close(to);
    return -1;
}

/* The file stays open: the system takes two of one name for one. */
static int load_copy(etse_instance *instance) {
    char path[64];
    instance->file = duplicate(own_path());
    if (instance->file < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", instance->file);
    instance->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    instance->calls = instance->library ? dlsym(instance->library, "etse_calls") : NULL;
    return instance->calls != NULL;
}

/* Path of the voice patch, or NULL where there is none. */
static const char *voice_path(char *beside, size_t size) {
    const char *const given = getenv("EDGE_TSE_VOICE"), *const own = own_path(), *const slash = strrchr(own, '/');
    if (ETSE_VOICE_CHANNELS == 0)
        return NULL;
    if (given && *given)
        return given;
    const int folder = slash ? (int)(slash - own + 1) : 0;
    return snprintf(beside, size, "%.*svoice.etsv", folder, own) < (int)size && access(beside, R_OK) == 0 ? beside : NULL;
}

int etse_instance_open(etse_instance *instance, uint32_t rate_hz, uint32_t ears) {
    char beside[4096];
    const char *const voice = voice_path(beside, sizeof beside);
    const char *reason = "a second instance needs a copy of the plugin, which cannot be loaded";
    *instance = (etse_instance){.calls = &etse_calls, .file = -1};
    if (ETSE_VOICE_CHANNELS != 0 && !voice)
        reason = "no voice: set EDGE_TSE_VOICE to a voice patch (.etsv), or put voice.etsv beside the plugin";
    else if ((instance->own = !atomic_flag_test_and_set(&taken)) || load_copy(instance))
        instance->effect = instance->calls->open(rate_hz, ears, voice, &reason);
    if (instance->effect)
        return 1;
    fprintf(stderr, "edge-tse: %s%s%s\n", voice ? voice : "", voice ? ": " : "", reason);
    etse_instance_close(instance);
    return 0;
}

void etse_instance_close(etse_instance *instance) {
    if (instance->effect)
        instance->calls->close(instance->effect);
    if (instance->library)
        dlclose(instance->library);
    if (instance->file >= 0)
        close(instance->file);
    if (instance->own)
        atomic_flag_clear(&taken);
}
