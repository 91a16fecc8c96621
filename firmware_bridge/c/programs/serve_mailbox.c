/* The board behind its debug port, as a program of port.h: no UART, no pins, nothing of the chip but its core and its memory. */
#include "mailbox.h"
#include "port.h"
#include "serve_core.h"

int program(int count, const char **words) {
    (void)count;
    (void)words;
    etse_mailbox_begin();
    etse_serve_core(etse_mailbox_read, etse_mailbox_write);
    return 0;
}
