/* The part of the binary interface of LV2 that a plugin fills in, in its words; a test holds it against lv2/core/lv2.h. */
#ifndef ETSE_LV2_ABI_H
#define ETSE_LV2_ABI_H

#include <stdint.h>

typedef struct _LV2_Feature LV2_Feature;

typedef struct _LV2_Descriptor {
    const char *URI;
    void *(*instantiate)(const struct _LV2_Descriptor *descriptor, double rate_hz, const char *bundle, const LV2_Feature *const *features);
    void (*connect_port)(void *instance, uint32_t port, void *data);
    void (*activate)(void *instance);
    void (*run)(void *instance, uint32_t frames);
    void (*deactivate)(void *instance);
    void (*cleanup)(void *instance);
    const void *(*extension_data)(const char *uri);
} LV2_Descriptor;

const LV2_Descriptor *lv2_descriptor(uint32_t index);

#endif
