#include "boot.h"

#include <string.h>

#include "crc32.h"
#include "ed25519.h"
#include "sha2.h"

enum { KEY_BYTES = 32, DIGEST_BYTES = 32 };

static uint32_t field(const uint8_t *record, uint32_t at) {
    return (uint32_t)record[at] | (uint32_t)record[at + 1] << 8 | (uint32_t)record[at + 2] << 16 | (uint32_t)record[at + 3] << 24;
}

static void set_field(uint8_t *record, uint32_t at, uint32_t value) {
    for (uint32_t i = 0; i < 4; i++)
        record[at + i] = (uint8_t)(value >> (8 * i));
}

static int erased(const uint8_t *bytes, uint32_t size) {
    for (uint32_t i = 0; i < size; i++)
        if (bytes[i] != 0xff)
            return 0;
    return 1;
}

/* whether the second generation follows the first, modulo 2^32 */
static int newer(uint32_t first, uint32_t second) {
    const uint32_t by = second - first;
    return by > 0 && by < 0x80000000u;
}

/* The boot region: which of its two records counts, NULL if neither is whole. */
static const uint8_t *trust_of(const etse_slots *slots) {
    const uint8_t *found[2];
    for (int i = 0; i < 2; i++) {
        const uint8_t *const record = slots->flash + slots->trust_at[i];
        const int is_whole = field(record, ETSE_TRUST_RECORD_MAGIC) == ETSE_TRUST_MAGIC &&
                             field(record, ETSE_TRUST_RECORD_KEY_COUNT) <= ETSE_TRUST_KEYS &&
                             field(record, ETSE_TRUST_RECORD_CRC) == etse_crc32(0, record, ETSE_TRUST_RECORD_CRC);
        found[i] = is_whole ? record : NULL;
    }
    if (!found[0] || !found[1])
        return found[0] ? found[0] : found[1];
    return found[newer(field(found[0], ETSE_TRUST_RECORD_GENERATION), field(found[1], ETSE_TRUST_RECORD_GENERATION))];
}

/* Slots */

static const uint8_t *record_of(const etse_slots *slots, int slot) { return slots->flash + slots->slot_at[slot]; }

const uint8_t *etse_boot_image(const etse_slots *slots, int slot, uint32_t *size) {
    *size = field(record_of(slots, slot), ETSE_BOOT_RECORD_IMAGE_BYTES);
    return record_of(slots, slot) + slots->sector_bytes;
}

static int whole(const etse_slots *slots, int slot) {
    const uint8_t *const record = record_of(slots, slot);
    uint32_t size;
    const uint8_t *const image = etse_boot_image(slots, slot, &size);
    return field(record, ETSE_BOOT_RECORD_MAGIC) == ETSE_BOOT_MAGIC &&
           field(record, ETSE_BOOT_RECORD_CRC) == etse_crc32(0, record, ETSE_BOOT_RECORD_CRC) && size > 0 &&
           size <= slots->slot_bytes - slots->sector_bytes &&
           field(record, ETSE_BOOT_RECORD_IMAGE_CRC) == etse_crc32(0, image, size);
}

static int confirmed(const etse_slots *slots, int slot) {
    static const uint8_t mark[ETSE_BOOT_MARK_BYTES] = ETSE_BOOT_CONFIRMED;
    return memcmp(record_of(slots, slot) + ETSE_BOOT_CONFIRMED_AT, mark, sizeof mark) == 0;
}

static int tried(const etse_slots *slots, int slot) {
    return !erased(record_of(slots, slot) + ETSE_BOOT_TRIED_AT, ETSE_BOOT_MARK_BYTES);
}

static int failed(const etse_slots *slots, int slot) { return tried(slots, slot) && !confirmed(slots, slot); }

/* Whether the image is what one of the trusted keys signed, and not older than what the board has kept. */
static int signed_by_one(const uint8_t *trust, const uint8_t *image, uint32_t size) {
    static const uint8_t magic[ETSE_IMAGE_HEADER_SCHEMA] = ETSE_IMAGE_MAGIC;
    static const uint8_t domain[] = ETSE_IMAGE_DOMAIN;
    if (size < ETSE_IMAGE_HEADER_BYTES || memcmp(image, magic, sizeof magic) != 0)
        return 0;
    /* two fields of 16 bits */
    const uint32_t schema = field(image, ETSE_IMAGE_HEADER_SCHEMA) & 0xffff, kind = field(image, ETSE_IMAGE_HEADER_SCHEMA) >> 16;
    if (schema != ETSE_IMAGE_SCHEMA || kind < 1 || kind > ETSE_IMAGE_KINDS ||
        field(image, ETSE_IMAGE_HEADER_HEADER_BYTES) != ETSE_IMAGE_HEADER_BYTES ||
        field(image, ETSE_IMAGE_HEADER_PAYLOAD_BYTES) != size - ETSE_IMAGE_HEADER_BYTES ||
        field(image, ETSE_IMAGE_HEADER_COUNTER) < field(trust, ETSE_TRUST_RECORD_MINIMUM_COUNTER))
        return 0;
    uint32_t key = 0;
    while (key < field(trust, ETSE_TRUST_RECORD_KEY_COUNT) &&
           memcmp(trust + ETSE_TRUST_RECORD_KEYS + KEY_BYTES * key, image + ETSE_IMAGE_HEADER_KEY, KEY_BYTES) != 0)
        key++;
    if (key == field(trust, ETSE_TRUST_RECORD_KEY_COUNT))
        return 0;
    const etse_part covered[] = {{image, ETSE_IMAGE_HEADER_DIGEST},
                                 {image + ETSE_IMAGE_HEADER_BYTES, size - ETSE_IMAGE_HEADER_BYTES}};
    uint8_t digest[DIGEST_BYTES];
    etse_sha256(covered, 2, digest);
    if (memcmp(digest, image + ETSE_IMAGE_HEADER_DIGEST, sizeof digest) != 0)
        return 0;
    const etse_part message[] = {{domain, sizeof domain}, {digest, sizeof digest}};
    return etse_ed25519_verify(image + ETSE_IMAGE_HEADER_SIGNATURE, message, 2, image + ETSE_IMAGE_HEADER_KEY);
}

static int trusted(const etse_slots *slots, int slot) {
    const uint8_t *const trust = trust_of(slots);
    /* Never completely written: nobody was ever trusted, and any image is. Damaged in both places: none is. */
    if (!trust)
        return erased(slots->flash + slots->trust_at[0], ETSE_TRUST_RECORD_BYTES) ||
               erased(slots->flash + slots->trust_at[1], ETSE_TRUST_RECORD_BYTES);
    uint32_t size;
    const uint8_t *const image = etse_boot_image(slots, slot, &size);
    return signed_by_one(trust, image, size);
}

int etse_boot_choose(const etse_slots *slots) {
    const int is_whole[2] = {whole(slots, 0), whole(slots, 1)}, has_failed[2] = {failed(slots, 0), failed(slots, 1)};
    /* What is no failed trial before what is, then the newer; the signature, which takes longest, only of what would boot. */
    int first;
    if (!is_whole[0] || !is_whole[1])
        first = is_whole[1];
    else if (has_failed[0] != has_failed[1])
        first = has_failed[0];
    else
        first = newer(field(record_of(slots, 0), ETSE_BOOT_RECORD_GENERATION),
                      field(record_of(slots, 1), ETSE_BOOT_RECORD_GENERATION));
    for (int i = 0; i < 2; i++) {
        const int slot = i == 0 ? first : 1 - first;
        if (is_whole[slot] && trusted(slots, slot))
            return slot;
    }
    return -1;
}

/* Both records, one after the other: one of them is whole whenever power ends. */
static void raise_counter(const etse_slots *slots, const etse_flash_writer *writer, const uint8_t *trust, uint32_t counter) {
    uint8_t record[ETSE_TRUST_RECORD_BYTES];
    memcpy(record, trust, sizeof record);
    set_field(record, ETSE_TRUST_RECORD_GENERATION, field(trust, ETSE_TRUST_RECORD_GENERATION) + 1);
    set_field(record, ETSE_TRUST_RECORD_MINIMUM_COUNTER, counter);
    set_field(record, ETSE_TRUST_RECORD_CRC, etse_crc32(0, record, ETSE_TRUST_RECORD_CRC));
    /* first the one that does not count, or that is the same */
    const int first = memcmp(slots->flash + slots->trust_at[0], trust, sizeof record) == 0;
    for (int i = 0; i < 2; i++) {
        const uint32_t at = slots->trust_at[i == 0 ? first : 1 - first];
        if (writer->erase(writer->memory, at) != 0 || writer->program(writer->memory, at, record, sizeof record) != 0 ||
            memcmp(slots->flash + at, record, sizeof record) != 0)
            return;
    }
}

int etse_boot_start(const etse_slots *slots, const etse_flash_writer *writer) {
    static const uint8_t mark[ETSE_BOOT_MARK_BYTES];
    const int slot = etse_boot_choose(slots);
    if (slot < 0)
        return slot;
    if (!confirmed(slots, slot)) {
        if (!tried(slots, slot))
            (void)writer->program(writer->memory, slots->slot_at[slot] + ETSE_BOOT_TRIED_AT, mark, sizeof mark);
        return slot;
    }
    const uint8_t *const trust = trust_of(slots);
    if (trust) {
        uint32_t size;
        const uint32_t counter = field(etse_boot_image(slots, slot, &size), ETSE_IMAGE_HEADER_COUNTER);
        if (counter > field(trust, ETSE_TRUST_RECORD_MINIMUM_COUNTER))
            raise_counter(slots, writer, trust, counter);
    }
    return slot;
}

int etse_boot_confirm(const etse_slots *slots, const etse_flash_writer *writer, int slot) {
    static const uint8_t mark[ETSE_BOOT_MARK_BYTES] = ETSE_BOOT_CONFIRMED;
    if (!confirmed(slots, slot))
        (void)writer->program(writer->memory, slots->slot_at[slot] + ETSE_BOOT_CONFIRMED_AT, mark, sizeof mark);
    return confirmed(slots, slot) ? 0 : -1;
}
