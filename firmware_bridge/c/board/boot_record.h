/* Generated from firmware_bridge/flash.py by `python -m firmware_bridge.flash`; do not edit. */
#ifndef ETSE_BOOT_RECORD_H
#define ETSE_BOOT_RECORD_H

#define ETSE_BOOT_MAGIC 0x42455445u

enum {
    ETSE_BOOT_RECORD_MAGIC = 0,
    ETSE_BOOT_RECORD_GENERATION = 4,
    ETSE_BOOT_RECORD_IMAGE_BYTES = 8,
    ETSE_BOOT_RECORD_IMAGE_CRC = 12,
    ETSE_BOOT_RECORD_CRC = 16,
    ETSE_BOOT_RECORD_BYTES = 20,
};

#endif
