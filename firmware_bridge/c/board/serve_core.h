/* A Cortex-M that serves its host: the part that is the same for every link. */
#ifndef ETSE_SERVE_CORE_H
#define ETSE_SERVE_CORE_H

#include <stddef.h>
#include <stdint.h>

/* Answer the host until the link ends; read and write as in server.h. */
void etse_serve_core(size_t (*read)(void *link, uint8_t *to, size_t size),
                     void (*write)(void *link, const uint8_t *from, size_t size));

#endif
