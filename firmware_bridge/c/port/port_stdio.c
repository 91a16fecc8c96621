/* Programs on a system with files. */
#include <stdio.h>

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

int32_t port_stack_bytes(void) { return -1; }

int main(int count, char **words) { return program(count - 1, (const char **)(words + 1)); }
