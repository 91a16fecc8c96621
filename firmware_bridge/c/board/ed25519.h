/* Ed25519 (RFC 8032), verification of signatures. It handles no secret, so its run time need not be constant. */
#ifndef ETSE_ED25519_H
#define ETSE_ED25519_H

#include <stddef.h>
#include <stdint.h>

#include "sha2.h"

/* Verify: 1 if the owner of the key signed these parts, one behind the other; at most ETSE_ED25519_PARTS of them. */
enum { ETSE_ED25519_PARTS = 2 };
int etse_ed25519_verify(const uint8_t signature[64], const etse_part *message, size_t count, const uint8_t key[32]);

#endif
