#include "plugin.h"

#include <stdlib.h>

etse_plugin *etse_plugin_open(uint32_t rate_hz, uint32_t ears) {
    etse_plugin *const plugin = calloc(1, sizeof *plugin);
    if (!plugin)
        return NULL;
    plugin->ears = ears;
    if (etse_instance_open(&plugin->instance, rate_hz, ears))
        return plugin;
    free(plugin);
    return NULL;
}

void etse_plugin_close(etse_plugin *plugin) {
    etse_instance_close(&plugin->instance);
    free(plugin);
}

void etse_plugin_connect(etse_plugin *plugin, uint32_t port, float *data) {
    if (port < ETSE_FIRST_AUDIO + 2 * plugin->ears)
        plugin->ports[port] = data;
}

void etse_plugin_start(etse_plugin *plugin) { plugin->instance.calls->start(plugin->instance.effect); }

static float control(const etse_plugin *plugin, uint32_t port, float otherwise) {
    return plugin->ports[port] ? *plugin->ports[port] : otherwise;
}

void etse_plugin_run(etse_plugin *plugin, uint32_t frames) {
    const etse_effect_calls *const calls = plugin->instance.calls;
    const etse_controls controls = {
        .strength = control(plugin, ETSE_STRENGTH, 1.0f),
        .ambient_db = control(plugin, ETSE_AMBIENT, ETSE_NO_ROOM_DB),
        .bypass = control(plugin, ETSE_BYPASS, 0.0f) > 0.0f,
    };
    const float *in[ETSE_EARS];
    float *out[ETSE_EARS];
    for (uint32_t e = 0; e < plugin->ears; e++) {
        in[e] = plugin->ports[ETSE_FIRST_AUDIO + e];
        out[e] = plugin->ports[ETSE_FIRST_AUDIO + plugin->ears + e];
    }
    calls->run(plugin->instance.effect, in, out, frames, &controls);
    if (plugin->ports[ETSE_LATENCY])
        *plugin->ports[ETSE_LATENCY] = (float)calls->latency(plugin->instance.effect);
}
