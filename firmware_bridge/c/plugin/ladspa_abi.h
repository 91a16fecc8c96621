/* The part of the binary interface of LADSPA 1.1 that a plugin fills in, in its words; a test holds it against ladspa.h. */
#ifndef ETSE_LADSPA_ABI_H
#define ETSE_LADSPA_ABI_H

enum { LADSPA_PROPERTY_HARD_RT_CAPABLE = 4 };
enum { LADSPA_PORT_INPUT = 1, LADSPA_PORT_OUTPUT = 2, LADSPA_PORT_CONTROL = 4, LADSPA_PORT_AUDIO = 8 };
enum {
    LADSPA_HINT_BOUNDED_BELOW = 0x1,
    LADSPA_HINT_BOUNDED_ABOVE = 0x2,
    LADSPA_HINT_TOGGLED = 0x4,
    LADSPA_HINT_DEFAULT_MINIMUM = 0x40,
    LADSPA_HINT_DEFAULT_0 = 0x200,
    LADSPA_HINT_DEFAULT_1 = 0x240,
};

typedef struct {
    int HintDescriptor;
    float LowerBound, UpperBound;
} LADSPA_PortRangeHint;

typedef struct _LADSPA_Descriptor {
    unsigned long UniqueID;
    const char *Label;
    int Properties;
    const char *Name, *Maker, *Copyright;
    unsigned long PortCount;
    const int *PortDescriptors;
    const char *const *PortNames;
    const LADSPA_PortRangeHint *PortRangeHints;
    void *ImplementationData;
    void *(*instantiate)(const struct _LADSPA_Descriptor *descriptor, unsigned long rate_hz);
    void (*connect_port)(void *instance, unsigned long port, float *data);
    void (*activate)(void *instance);
    void (*run)(void *instance, unsigned long frames);
    void (*run_adding)(void *instance, unsigned long frames);
    void (*set_run_adding_gain)(void *instance, float gain);
    void (*deactivate)(void *instance);
    void (*cleanup)(void *instance);
} LADSPA_Descriptor;

const LADSPA_Descriptor *ladspa_descriptor(unsigned long index);

#endif
