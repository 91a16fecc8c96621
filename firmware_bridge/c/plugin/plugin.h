/* A plugin as both LADSPA and LV2 see it: ports by number, each a place of the host's. */
#ifndef ETSE_PLUGIN_H
#define ETSE_PLUGIN_H

#include <stdint.h>

#include "copy.h"
#include "etse.h"

/* The first audio port is an input; outputs follow behind the inputs. */
enum { ETSE_STRENGTH, ETSE_AMBIENT, ETSE_BYPASS, ETSE_LATENCY, ETSE_FIRST_AUDIO, ETSE_PORTS = ETSE_FIRST_AUDIO + 2 * ETSE_EARS };

typedef struct {
    etse_instance instance;
    uint32_t ears;
    float *ports[ETSE_PORTS];
} etse_plugin;

/* NULL where it fails, and standard error says why. */
etse_plugin *etse_plugin_open(uint32_t rate_hz, uint32_t ears);
void etse_plugin_close(etse_plugin *plugin);
void etse_plugin_connect(etse_plugin *plugin, uint32_t port, float *data);
void etse_plugin_start(etse_plugin *plugin);
void etse_plugin_run(etse_plugin *plugin, uint32_t frames);

#endif
