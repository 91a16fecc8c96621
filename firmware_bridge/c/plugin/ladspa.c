/* The plugin for LADSPA: edge_tse_mono and, where the model has two ears, edge_tse_stereo. */
#include "ladspa_abi.h"
#include "plugin.h"

enum { CONTROL_IN = LADSPA_PORT_CONTROL | LADSPA_PORT_INPUT, CONTROL_OUT = LADSPA_PORT_CONTROL | LADSPA_PORT_OUTPUT };
enum { AUDIO_IN = LADSPA_PORT_AUDIO | LADSPA_PORT_INPUT, AUDIO_OUT = LADSPA_PORT_AUDIO | LADSPA_PORT_OUTPUT };
enum { BOUNDED = LADSPA_HINT_BOUNDED_BELOW | LADSPA_HINT_BOUNDED_ABOVE };

static const LADSPA_PortRangeHint hints[ETSE_FIRST_AUDIO + 4] = {
    [ETSE_STRENGTH] = {BOUNDED | LADSPA_HINT_DEFAULT_1, 0.0f, 1.0f},
    [ETSE_AMBIENT] = {BOUNDED | LADSPA_HINT_DEFAULT_MINIMUM, ETSE_NO_ROOM_DB, 20.0f},
    [ETSE_BYPASS] = {LADSPA_HINT_TOGGLED | LADSPA_HINT_DEFAULT_0, 0.0f, 0.0f},
};
static const int mono_kinds[] = {CONTROL_IN, CONTROL_IN, CONTROL_IN, CONTROL_OUT, AUDIO_IN, AUDIO_OUT};
/* hosts know the last control by this name, and compensate for it */
static const char *const mono_names[] = {"Strength", "Ambient (dB)", "Bypass", "latency", "Input", "Output"};

static void *open_mono(const LADSPA_Descriptor *descriptor, unsigned long rate_hz) {
    (void)descriptor;
    return etse_plugin_open((uint32_t)rate_hz, 1);
}

static void connect(void *plugin, unsigned long port, float *data) { etse_plugin_connect(plugin, (uint32_t)port, data); }
static void start(void *plugin) { etse_plugin_start(plugin); }
static void run(void *plugin, unsigned long frames) { etse_plugin_run(plugin, (uint32_t)frames); }
static void cleanup(void *plugin) { etse_plugin_close(plugin); }

static const LADSPA_Descriptor mono = {
    .UniqueID = 5534001,
    .Label = "edge_tse_mono",
    .Properties = LADSPA_PROPERTY_HARD_RT_CAPABLE,
    .Name = "edge-tse, one enrolled talker (mono)",
    .Maker = "edge-tse",
    .Copyright = "Apache-2.0",
    .PortCount = sizeof mono_kinds / sizeof *mono_kinds,
    .PortDescriptors = mono_kinds,
    .PortNames = mono_names,
    .PortRangeHints = hints,
    .instantiate = open_mono,
    .connect_port = connect,
    .activate = start,
    .run = run,
    .cleanup = cleanup,
};

#if ETSE_EARS == 2
static const int stereo_kinds[] = {CONTROL_IN, CONTROL_IN, CONTROL_IN, CONTROL_OUT, AUDIO_IN, AUDIO_IN, AUDIO_OUT, AUDIO_OUT};
static const char *const stereo_names[] = {"Strength",   "Ambient (dB)", "Bypass",      "latency",
                                           "Left input", "Right input",  "Left output", "Right output"};

static void *open_stereo(const LADSPA_Descriptor *descriptor, unsigned long rate_hz) {
    (void)descriptor;
    return etse_plugin_open((uint32_t)rate_hz, 2);
}

static const LADSPA_Descriptor stereo = {
    .UniqueID = 5534002,
    .Label = "edge_tse_stereo",
    .Properties = LADSPA_PROPERTY_HARD_RT_CAPABLE,
    .Name = "edge-tse, one enrolled talker (two ears)",
    .Maker = "edge-tse",
    .Copyright = "Apache-2.0",
    .PortCount = sizeof stereo_kinds / sizeof *stereo_kinds,
    .PortDescriptors = stereo_kinds,
    .PortNames = stereo_names,
    .PortRangeHints = hints,
    .instantiate = open_stereo,
    .connect_port = connect,
    .activate = start,
    .run = run,
    .cleanup = cleanup,
};
#endif

const LADSPA_Descriptor *ladspa_descriptor(unsigned long index) {
#if ETSE_EARS == 2
    if (index == 1)
        return &stereo;
#endif
    return index == 0 ? &mono : NULL;
}
