/* Which of two images boots: what firmware_bridge/flash.py and trust.py describe. Needs boot.c, ed25519.c, sha2.c and crc32.c, of the
 * C library memcpy, memset and memcmp, and about 3 KiB of stack. */
#ifndef ETSE_BOOT_H
#define ETSE_BOOT_H

#include <stdint.h>

#include "boot_record.h"

typedef struct {
    /* readable as memory */
    const uint8_t *flash;
    /* From the first byte of flash: the two sectors of the boot region, which nothing but the boot code may be able to write, ... */
    uint32_t trust_at[2];
    /* ... and the two slots. */
    uint32_t slot_at[2];
    uint32_t slot_bytes;
    /* where the image begins in its slot: behind the sector of the boot record */
    uint32_t sector_bytes;
} etse_slots;

/* How flash is written; each returns 0 once it is done. */
typedef struct {
    void *memory;
    /* the sector that begins there, to all ones */
    int (*erase)(void *memory, uint32_t at);
    /* erased bytes */
    int (*program)(void *memory, uint32_t at, const uint8_t *from, uint32_t size);
} etse_flash_writer;

/* 0 or 1, -1 if neither slot holds a whole image that is trusted. Changes nothing. */
int etse_boot_choose(const etse_slots *slots);

/* The same at a start: an image on trial is marked as tried, so that the next start takes the other one unless it was confirmed; a
 * confirmed image raises the security counter below which nothing boots any more. */
int etse_boot_start(const etse_slots *slots, const etse_flash_writer *writer);

/* Called by the running image once it has seen that it works. 0 once that is remembered. */
int etse_boot_confirm(const etse_slots *slots, const etse_flash_writer *writer, int slot);

/* The image in a slot that etse_boot_choose returned, and its length. */
const uint8_t *etse_boot_image(const etse_slots *slots, int slot, uint32_t *size);

#endif
