/* Environment of our own programs: files of the host, a line of text, and an end. The library needs none of it. */
#ifndef ETSE_PORT_H
#define ETSE_PORT_H

#include <stddef.h>
#include <stdint.h>


/* Open a file: a handle, or -1. */
int port_open(const char *path, int write);

/* Read bytes and return their number, which is less than size at the end of the file. */
size_t port_read(int file, void *to, size_t size);

/* Write bytes: 0, or -1 if not all were written. */
int port_write(int file, const void *from, size_t size);

/* Close a file: 0, or -1 if some of its bytes may be missing. */
int port_close(int file);

void port_print(const char *text);

/* Print a line with a name and a number. */
static inline void port_number(const char *name, int32_t value) {
    char digits[12];
    char *end = digits + sizeof digits - 1;
    uint32_t rest = value < 0 ? -(uint32_t)value : (uint32_t)value;
    *end = 0;
    do
        *--end = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0)
        *--end = '-';
    port_print(name);
    port_print(" ");
    port_print(end);
    port_print("\n");
}

/* Highest use of the stack so far, or -1 where nobody knows. */
int32_t port_stack_bytes(void);

/* Nanoseconds of the host since some moment. */
uint64_t port_elapsed_ns(void);

/* Rest for about a millisecond. */
void port_rest(void);

/* The program itself. */
int program(int count, const char **words);

#endif
