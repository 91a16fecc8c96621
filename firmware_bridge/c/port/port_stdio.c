/* Programs on a system with files. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <time.h>

#include "port.h"

enum { FILES = 8 };
static FILE *files[FILES];

int port_open(const char *path, int write) {
    for (int i = 0; i < FILES; i++)
        if (!files[i]) {
            files[i] = fopen(path, write ? "wb" : "rb");
            return files[i] ? i : -1;
        }
    return -1;
}

size_t port_read(int file, void *to, size_t size) { return fread(to, 1, size, files[file]); }

int port_write(int file, const void *from, size_t size) { return fwrite(from, 1, size, files[file]) == size ? 0 : -1; }

int port_close(int file) {
    const int failed = fclose(files[file]);
    files[file] = NULL;
    return failed ? -1 : 0;
}

void port_print(const char *text) { (void)fputs(text, stdout); }

uint64_t port_elapsed_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What was written goes out first. */
void port_rest(void) {
    (void)fflush(NULL);
    const struct timespec millisecond = {.tv_nsec = 1000000};
    nanosleep(&millisecond, NULL);
}

int32_t port_stack_bytes(void) { return -1; }

int main(int count, char **words) { return program(count - 1, (const char **)(words + 1)); }
