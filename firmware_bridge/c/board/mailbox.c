#include "mailbox.h"

#include <string.h>

/* A frame of the wire (wire.h) fits twice, so that neither side waits within one. */
enum { RING_BYTES = 2048, ID_BYTES = 16 };
enum { BLOCK_IF_FULL = 2 };

/* Addresses are words here: the host that reads them has 32-bit ones. */
typedef struct {
    uint32_t name, ring, size;
    volatile uint32_t written, read;
    uint32_t flags;
} channel;

/* Behind the channels, and unknown to other hosts, is the record of a fault. */
typedef struct {
    volatile char id[ID_BYTES];
    uint32_t up_channels, down_channels;
    channel up, down;
    volatile uint32_t faults, pc, cfsr, hfsr, address;
    uint8_t to_host[RING_BYTES], from_host[RING_BYTES];
} mailbox;

_Static_assert(sizeof(channel) == 24, "a channel of Real Time Transfer has 24 bytes");
_Static_assert(offsetof(mailbox, up) == 24 && offsetof(mailbox, down) == 48 && offsetof(mailbox, faults) == 72,
               "firmware_bridge/mailbox.py reads these places");

__attribute__((section(".bss.etse.mailbox"))) static mailbox box;

static const char up_name[] = "edge-tse to host", down_name[] = "edge-tse from host";

/* What was copied is in memory before the other side is told, and what it told is read before what it copied. */
static void settle(void) {
#if defined(__arm__)
    __asm__ volatile("dmb" ::: "memory");
#endif
}

static uint32_t address_of(const void *what) { return (uint32_t)(uintptr_t)what; }

static void open_channel(channel *which, const char *name, const uint8_t *ring) {
    which->name = address_of(name);
    which->ring = address_of(ring);
    which->size = RING_BYTES;
    which->written = which->read = 0;
    which->flags = BLOCK_IF_FULL;
}

void etse_mailbox_begin(void) {
    static const char id[ID_BYTES] = "SEGGER RTT";
    for (size_t i = 0; i < ID_BYTES; i++)
        box.id[i] = 0;
    box.up_channels = box.down_channels = 1;
    box.faults = 0;
    open_channel(&box.up, up_name, box.to_host);
    open_channel(&box.down, down_name, box.from_host);
    settle();
    /* From the last byte on: it is an ID when it is whole, and then all that is behind it is too. */
    for (size_t i = ID_BYTES; i-- > 0;)
        box.id[i] = id[i];
    settle();
}

size_t etse_mailbox_read(void *link, uint8_t *to, size_t size) {
    (void)link;
    uint32_t at = box.down.read, end;
    while ((end = box.down.written) == at) {
    }
    settle();
    size_t got = 0;
    for (; got < size && at != end; got++) {
        to[got] = box.from_host[at];
        at = at + 1 < RING_BYTES ? at + 1 : 0;
    }
    settle();
    box.down.read = at;
    return got;
}

void etse_mailbox_write(void *link, const uint8_t *from, size_t size) {
    (void)link;
    uint32_t at = box.up.written;
    for (size_t i = 0; i < size; i++) {
        const uint32_t next = at + 1 < RING_BYTES ? at + 1 : 0;
        if (next == box.up.read) {
            /* Full: what is in it has to be seen to be taken. */
            settle();
            box.up.written = at;
            while (next == box.up.read) {
            }
            settle();
        }
        box.to_host[at] = from[i];
        at = next;
    }
    settle();
    box.up.written = at;
}

/* Fault status and address registers (Armv7-M and Armv8-M architecture reference manuals). */
#define CFSR (*(volatile uint32_t *)0xE000ED28u)
#define HFSR (*(volatile uint32_t *)0xE000ED2Cu)
#define BFAR (*(volatile uint32_t *)0xE000ED38u)
enum { FRAME_PC = 6 };

void etse_mailbox_fault(const uint32_t *frame) {
    box.cfsr = CFSR;
    box.hfsr = HFSR;
    box.address = BFAR;
    box.pc = frame[FRAME_PC];
    settle();
    box.faults++;
    settle();
}
