/* An emulated earbud: sends a file of sound, packet by packet, at the pace of a crystal that is not quite right.
 *
 *   EAR RATE_HZ SAMPLES PACKET_NS SOUND LINK [GO]
 *
 * SOUND: int16, as this ear's converter took it; LINK: file or pipe to write frames to; GO: pipe of which a byte starts it. A packet of
 * SAMPLES is due every PACKET_NS of the host's clock: 9999000 for 160 samples at 16 kHz is a crystal that is 100 ppm fast. What a real
 * earbud has instead of the file is a converter, whose own interrupt says that a packet is full.
 */
#include "earbud.h"
#include "port.h"

enum { EAR, RATE, SAMPLES, PACKET_NS, SOUND, LINK, WORDS, GO = WORDS };
enum { FAILED = 1, USAGE = 2 };

static uint32_t number(const char *word) {
    uint32_t value = 0;
    for (; *word >= '0' && *word <= '9'; word++)
        value = 10 * value + (uint32_t)(*word - '0');
    return *word ? 0 : value;
}

/* A pipe gives what it has. */
static int whole(int file, void *to, size_t size) {
    size_t got = 0, more;
    for (; got < size && (more = port_read(file, (uint8_t *)to + got, size - got)) > 0; got += more) {
    }
    return got == size;
}

int program(int count, const char **words) {
    static int16_t samples[ETSE_EAR_SAMPLES];
    static uint8_t frame[ETSE_FRAME_BYTES];
    const size_t n = count == WORDS || count == WORDS + 1 ? number(words[SAMPLES]) : 0;
    if (n < 1 || n > ETSE_EAR_SAMPLES) {
        port_print("error usage: EAR RATE_HZ SAMPLES PACKET_NS SOUND LINK [GO]\n");
        return USAGE;
    }
    etse_ear ear = {.ear = (uint8_t)number(words[EAR]), .rate_hz = number(words[RATE])};
    const uint32_t packet_ns = number(words[PACKET_NS]);
    const int from = port_open(words[SOUND], 0), to = port_open(words[LINK], 1);
    if (from < 0 || to < 0) {
        port_print("error cannot open the sound or the link\n");
        return FAILED;
    }
    if (count > WORDS) {
        uint8_t byte;
        const int go = port_open(words[GO], 0);
        if (go < 0 || port_read(go, &byte, 1) != 1)
            return FAILED;
    }
    uint64_t due_ns = port_elapsed_ns() + packet_ns;
    while (whole(from, samples, 2 * n)) {
        uint64_t now_ns;
        while ((now_ns = port_elapsed_ns()) < due_ns)
            port_rest();
        const uint64_t late_ns = now_ns - due_ns;
        const uint32_t waited_us = (late_ns < UINT32_MAX ? (uint32_t)late_ns : UINT32_MAX) / 1000u;
        const size_t size = etse_ear_frame(&ear, samples, n, waited_us, frame);
        if (port_write(to, frame, size) != 0)
            return FAILED;
        due_ns += packet_ns;
    }
    return 0;
}
