/* The plugin for LV2; edge-tse.ttl beside it describes the ports. ETSE_URI is the part of its names that tells models apart. */
#include "lv2_abi.h"
#include "plugin.h"

static void *open_mono(const LV2_Descriptor *descriptor, double rate_hz, const char *bundle, const LV2_Feature *const *features) {
    (void)descriptor, (void)bundle, (void)features;
    return etse_plugin_open((uint32_t)(rate_hz + 0.5), 1);
}

static void connect(void *plugin, uint32_t port, void *data) { etse_plugin_connect(plugin, port, data); }
static void start(void *plugin) { etse_plugin_start(plugin); }
static void run(void *plugin, uint32_t frames) { etse_plugin_run(plugin, frames); }
static void cleanup(void *plugin) { etse_plugin_close(plugin); }

static const LV2_Descriptor mono = {ETSE_URI ":mono", open_mono, connect, start, run, NULL, cleanup, NULL};

#if ETSE_EARS == 2
static void *open_stereo(const LV2_Descriptor *descriptor, double rate_hz, const char *bundle, const LV2_Feature *const *features) {
    (void)descriptor, (void)bundle, (void)features;
    return etse_plugin_open((uint32_t)(rate_hz + 0.5), 2);
}

static const LV2_Descriptor stereo = {ETSE_URI ":stereo", open_stereo, connect, start, run, NULL, cleanup, NULL};
#endif

const LV2_Descriptor *lv2_descriptor(uint32_t index) {
#if ETSE_EARS == 2
    if (index == 1)
        return &stereo;
#endif
    return index == 0 ? &mono : NULL;
}
