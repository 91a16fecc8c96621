/* A board without a UART: two rings in its memory, which a debug probe reads and writes.
 *
 * The layout is that of SEGGER's Real Time Transfer (J-Link User Guide UM08001, "RTT"), with one channel each way, so that OpenOCD,
 * pyOCD, probe-rs and J-Link move its bytes too. firmware_bridge/mailbox.py is the other side of it over GDB's remote protocol.
 *
 * The linker script puts .bss.etse.mailbox at the start of a memory that no cache lies in front of. */
#ifndef ETSE_MAILBOX_H
#define ETSE_MAILBOX_H

#include <stddef.h>
#include <stdint.h>

/* Empty both rings, then let the host find them. */
void etse_mailbox_begin(void);

/* As etse_board of server.h asks for: wait for bytes; write all bytes. A ring that is full waits for the host. */
size_t etse_mailbox_read(void *link, uint8_t *to, size_t size);
void etse_mailbox_write(void *link, const uint8_t *from, size_t size);

/* Leave a record of a fault for the host. frame: what the core pushed on the stack when it took the exception. */
void etse_mailbox_fault(const uint32_t *frame);

#endif
