/* What Swift sees of the C library: no header of the model, so that importing needs no search path. CEdgeTse.c checks it against them. */
#ifndef C_EDGE_TSE_H
#define C_EDGE_TSE_H

#include <stddef.h>
#include <stdint.h>

/* Geometry of the model. */
typedef struct {
    int32_t rate_hz, hop, ears, features, answers;
    size_t voice_bytes;
} edge_tse_geometry;

/* Counters of the stream since it began. */
typedef struct {
    uint32_t latency, hops, late_hops, skipped_hops, overruns, underruns;
} edge_tse_counters;

edge_tse_geometry edge_tse_model(void);
edge_tse_counters edge_tse_count(void);

/* As the calls of phone.h: the same threads may call them. */
int32_t edge_tse_start(int32_t ears, uint32_t block);
void edge_tse_exchange(const int16_t *heard, int16_t *played, size_t frames);
int32_t edge_tse_offer_voice(const uint8_t *patch, size_t size);
int32_t edge_tse_voice(void);
int32_t edge_tse_work(void);

/* One frame of the network, to replay golden frames. Not while audio runs. */
void edge_tse_network(const int8_t *features, int8_t *answers);

#endif
