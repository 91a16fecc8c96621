#include "CEdgeTse.h"

#include "phone.h"

edge_tse_geometry edge_tse_model(void) {
    const edge_tse_geometry model = {
        .rate_hz = ETSE_SAMPLE_RATE_HZ,
        .hop = ETSE_HOP,
        .ears = ETSE_EARS,
        .features = ETSE_FEATURES,
        .answers = ETSE_MOVES * ETSE_BANDS,
        .voice_bytes = ETSE_VOICE_PATCH_BYTES,
    };
    return model;
}

edge_tse_counters edge_tse_count(void) {
    const etse_stream_counters now = etse_stream_count();
    const edge_tse_counters counted = {
        .latency = etse_stream_latency(),
        .hops = now.hops,
        .late_hops = now.late_hops,
        .skipped_hops = now.skipped_hops,
        .overruns = now.overruns,
        .underruns = now.underruns,
    };
    return counted;
}

int32_t edge_tse_start(int32_t ears, uint32_t block) { return phone_start(ears, block); }

void edge_tse_exchange(const int16_t *heard, int16_t *played, size_t frames) { phone_exchange(heard, played, frames); }

int32_t edge_tse_offer_voice(const uint8_t *patch, size_t size) { return phone_offer_voice(patch, size); }

int32_t edge_tse_voice(void) { return phone_voice(); }

int32_t edge_tse_work(void) { return phone_work(); }

void edge_tse_network(const int8_t *features, int8_t *answers) { etse_network(features, answers); }
