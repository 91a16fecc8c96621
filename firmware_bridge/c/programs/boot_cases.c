/* The boot code on files, for tests and for counting: start from a memory that is a file, and write what it is afterwards.
 *
 *   MEMORY SECTOR_BYTES OUT   the boot region, then two slots, as firmware_bridge/flash.py divides a memory
 */
#include <string.h>

#include "boot.h"
#include "port.h"

enum { FAILED = 1, USAGE = 2, ROOM = 128 * 1024 };

static uint8_t memory[ROOM];
static uint32_t sector_bytes;

static int erase(void *to, uint32_t at) {
    memset((uint8_t *)to + at, 0xff, sector_bytes);
    return 0;
}

static int write(void *to, uint32_t at, const uint8_t *from, uint32_t size) {
    for (uint32_t i = 0; i < size; i++)
        ((uint8_t *)to)[at + i] &= from[i];
    return 0;
}

int program(int count, const char **words) {
    if (count != 3)
        return USAGE;
    for (const char *digit = words[1]; *digit; digit++)
        sector_bytes = 10 * sector_bytes + (uint32_t)(*digit - '0');
    const int from = port_open(words[0], 0), to = port_open(words[2], 1);
    if (from < 0 || to < 0)
        return FAILED;
    const uint32_t size = (uint32_t)port_read(from, memory, sizeof memory);
    const uint32_t slot_bytes = (size / sector_bytes - 2) / 2 * sector_bytes, first = 2 * sector_bytes;
    const etse_slots slots = {.flash = memory,
                              .trust_at = {0, sector_bytes},
                              .slot_at = {first, first + slot_bytes},
                              .slot_bytes = slot_bytes,
                              .sector_bytes = sector_bytes};
    const etse_flash_writer writer = {.memory = memory, .erase = erase, .program = write};
    const int slot = etse_boot_start(&slots, &writer);
    if (port_write(to, memory, size) != 0 || port_close(to) != 0)
        return FAILED;
    port_number("slot", slot);
    port_number("stack_bytes", port_stack_bytes());
    return 0;
}
