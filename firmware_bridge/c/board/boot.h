/* Which of two images boots: what firmware_bridge/flash.py describes. */
#ifndef ETSE_BOOT_H
#define ETSE_BOOT_H

#include <stdint.h>

#include "boot_record.h"

typedef struct {
    /* readable as memory */
    const uint8_t *flash;
    /* of each slot, from the first byte of flash */
    uint32_t slot_at[2];
    uint32_t slot_bytes;
    /* where the image begins in its slot: behind the sector of the boot record */
    uint32_t sector_bytes;
} etse_slots;

/* 0 or 1, -1 if neither slot holds a whole image. */
int etse_boot_choose(const etse_slots *slots);

/* The image in a slot that etse_boot_choose returned, and its length. */
const uint8_t *etse_boot_image(const etse_slots *slots, int slot, uint32_t *size);

#endif
