/* Boot code: the choice between two images, as firmware_bridge/flash.py and trust.py describe it. It needs boot.c, ed25519.c,
 * sha2.c and crc32.c; memcpy, memset and memcmp of the C library; and about 3 KiB of stack. */
#ifndef ETSE_BOOT_H
#define ETSE_BOOT_H

#include <stdint.h>

#include "boot_record.h"

typedef struct {
    /* flash memory, readable as memory */
    const uint8_t *flash;
    /* offsets of the two sectors of the boot region, which only the boot code may be able to write, */
    uint32_t trust_at[2];
    /* and of the two slots, from the first byte of flash */
    uint32_t slot_at[2];
    uint32_t slot_bytes;
    /* size of a sector; the image begins behind the sector of the boot record in its slot */
    uint32_t sector_bytes;
} etse_slots;

/* Functions that write flash; each returns 0 once it is done. */
typedef struct {
    void *memory;
    /* erase the sector that begins there, to all ones */
    int (*erase)(void *memory, uint32_t at);
    /* program bytes that are erased */
    int (*program)(void *memory, uint32_t at, const uint8_t *from, uint32_t size);
} etse_flash_writer;

/* Choose the slot to boot: 0 or 1, or -1 if neither holds a whole image that is trusted. It changes nothing. */
int etse_boot_choose(const etse_slots *slots);

/* Choose the slot at a start: an image on trial is marked as tried, so that the next start takes the other one unless it was
 * confirmed; a confirmed image raises the security counter below which no image boots any more. */
int etse_boot_start(const etse_slots *slots, const etse_flash_writer *writer);

/* Confirm the running image: call it from the image once it has seen that it works. Returns 0 once that is remembered. */
int etse_boot_confirm(const etse_slots *slots, const etse_flash_writer *writer, int slot);

/* Find the image in a slot that etse_boot_choose returned, and its length. */
const uint8_t *etse_boot_image(const etse_slots *slots, int slot, uint32_t *size);

#endif
