/* The board as a program of port.h: words are the files to read commands from and to write answers to, named pipes of the host. */
#include "port.h"
#include "serve_core.h"

static int files[2];

static size_t receive(void *link, uint8_t *to, size_t size) {
    (void)link;
    return port_read(files[0], to, size);
}

static void transmit(void *link, const uint8_t *from, size_t size) {
    (void)link;
    (void)port_write(files[1], from, size);
}

int program(int count, const char **words) {
    if (count != 2)
        return 2;
    files[0] = port_open(words[0], 0);
    files[1] = port_open(words[1], 1);
    if (files[0] < 0 || files[1] < 0)
        return 1;
    etse_serve_core(receive, transmit);
    return 0;
}
