/* A host opens as many instances of a plugin as its user wants, and the library has one memory: the first instance gets the plugin's
 * own, each further one that of a copy of the plugin, which the system loads beside it. */
#ifndef ETSE_COPY_H
#define ETSE_COPY_H

#include "effect.h"

/* What a copy is called by. */
typedef struct {
    etse_effect *(*open)(uint32_t rate_hz, uint32_t ears, const char *voice, const char **reason);
    void (*close)(etse_effect *effect);
    void (*start)(etse_effect *effect);
    void (*run)(etse_effect *effect, const float *const *in, float *const *out, uint32_t frames, const etse_controls *controls);
    uint32_t (*latency)(const etse_effect *effect);
} etse_effect_calls;

/* Exported, so that a copy can be asked for its own. */
extern const etse_effect_calls etse_calls;

typedef struct {
    const etse_effect_calls *calls;
    etse_effect *effect;
    /* whether it has the plugin's own memory; otherwise the handle and the file of its copy, else NULL and -1 */
    int own;
    void *library;
    int file;
} etse_instance;

/* Open an instance with the voice of $EDGE_TSE_VOICE or, without it, of voice.etsv beside the plugin. Returns 0 where that fails, and
 * has said on standard error why: there is no other way to tell a host. */
int etse_instance_open(etse_instance *instance, uint32_t rate_hz, uint32_t ears);
void etse_instance_close(etse_instance *instance);

#endif
