/* The board behind a serial port, as a program of port.h: the polled UART of Arm's MPS2 and MPS3 boards (CMSDK APB UART, Arm DDI
 * 0479). Another UART needs other registers here, and nothing else anywhere. */
#include "port.h"
#include "serve_core.h"

#ifndef ETSE_UART
/* secure UART0 of MPS3, AN547 */
#define ETSE_UART 0x59303000u
#endif
#ifndef ETSE_UART_DIVIDER
/* of a clock of 25 MHz to 115200 baud */
#define ETSE_UART_DIVIDER 217u
#endif

/* registers, a word each */
enum { DATA = 0, STATE = 1, CONTROL = 2, DIVIDER = 4 };
enum { TRANSMIT_FULL = 1, RECEIVE_FULL = 2, TRANSMIT_ON = 1, RECEIVE_ON = 2 };

static volatile uint32_t *const uart = (volatile uint32_t *)ETSE_UART;

static size_t receive(void *link, uint8_t *to, size_t size) {
    (void)link;
    size_t got = 0;
    while (!(uart[STATE] & RECEIVE_FULL)) {
    }
    while (got < size && (uart[STATE] & RECEIVE_FULL))
        to[got++] = (uint8_t)uart[DATA];
    return got;
}

static void transmit(void *link, const uint8_t *from, size_t size) {
    (void)link;
    for (size_t i = 0; i < size; i++) {
        while (uart[STATE] & TRANSMIT_FULL) {
        }
        uart[DATA] = from[i];
    }
}

int program(int count, const char **words) {
    (void)count;
    (void)words;
    uart[DIVIDER] = ETSE_UART_DIVIDER;
    uart[CONTROL] = TRANSMIT_ON | RECEIVE_ON;
    etse_serve_core(receive, transmit);
    return 0;
}
