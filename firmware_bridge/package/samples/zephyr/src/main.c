/* A second of noise through the model, and the cycles of its slowest hop. Sound from a driver goes through etse_stream.h instead. */
#include <zephyr/kernel.h>

#include "etse.h"

int main(void) {
    static int16_t sound[ETSE_HOP];
    uint32_t noise = 1, slowest = 0;
    etse_init(1);
    for (uint32_t hop = 0; hop < ETSE_SAMPLE_RATE_HZ / ETSE_HOP; hop++) {
        for (uint32_t i = 0; i < ETSE_HOP; i++) {
            noise = noise * 1664525u + 1013904223u;
            sound[i] = (int16_t)((int32_t)noise >> 18);
        }
        const uint32_t began = k_cycle_get_32();
        etse_process(sound, sound);
        const uint32_t took = k_cycle_get_32() - began;
        slowest = took > slowest ? took : slowest;
    }
    const uint32_t period = (uint32_t)((uint64_t)sys_clock_hw_cycles_per_sec() * ETSE_HOP / ETSE_SAMPLE_RATE_HZ);
    printk("slowest hop: %u of %u cycles\n", (unsigned int)slowest, (unsigned int)period);
    return 0;
}
