#include "boot.h"

#include "wire.h"

static uint32_t field(const uint8_t *record, uint32_t at) {
    return (uint32_t)record[at] | (uint32_t)record[at + 1] << 8 | (uint32_t)record[at + 2] << 16 | (uint32_t)record[at + 3] << 24;
}

static const uint8_t *record_of(const etse_slots *slots, int slot) { return slots->flash + slots->slot_at[slot]; }

const uint8_t *etse_boot_image(const etse_slots *slots, int slot, uint32_t *size) {
    *size = field(record_of(slots, slot), ETSE_BOOT_RECORD_IMAGE_BYTES);
    return record_of(slots, slot) + slots->sector_bytes;
}

static int bootable(const etse_slots *slots, int slot) {
    const uint8_t *const record = record_of(slots, slot);
    uint32_t size;
    const uint8_t *const image = etse_boot_image(slots, slot, &size);
    return field(record, ETSE_BOOT_RECORD_MAGIC) == ETSE_BOOT_MAGIC &&
           field(record, ETSE_BOOT_RECORD_CRC) == etse_crc32(0, record, ETSE_BOOT_RECORD_CRC) &&
           size <= slots->slot_bytes - slots->sector_bytes &&
           field(record, ETSE_BOOT_RECORD_IMAGE_CRC) == etse_crc32(0, image, size);
}

int etse_boot_choose(const etse_slots *slots) {
    const int first = bootable(slots, 0), second = bootable(slots, 1);
    if (!first || !second)
        return first ? 0 : second ? 1 : -1;
    const uint32_t newer = field(record_of(slots, 1), ETSE_BOOT_RECORD_GENERATION) -
                           field(record_of(slots, 0), ETSE_BOOT_RECORD_GENERATION);
    return newer > 0 && newer < 0x80000000u;
}
