#include "server.h"

#include <string.h>

#include "etse.h"
#include "network.h"
#include "protocol.h"
#include "wire.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "samples and features go over the wire as they lie in memory: little-endian"
#endif

/* firmware_bridge/wire.py numbers its statuses as etse.h does. */
_Static_assert((int)ETSE_EARS_UNSUPPORTED == (int)ETSE_STATUS_EARS_UNSUPPORTED, "statuses differ");
_Static_assert((int)ETSE_VOICE_MALFORMED == (int)ETSE_STATUS_VOICE_MALFORMED, "statuses differ");
_Static_assert((int)ETSE_VOICE_FOREIGN == (int)ETSE_STATUS_VOICE_FOREIGN, "statuses differ");
_Static_assert((int)ETSE_VOICE_DAMAGED == (int)ETSE_STATUS_VOICE_DAMAGED, "statuses differ");
_Static_assert((int)ETSE_VOICE_FOLDED == (int)ETSE_STATUS_VOICE_FOLDED, "statuses differ");
_Static_assert((int)ETSE_VOICE_OUT_OF_RANGE == (int)ETSE_STATUS_VOICE_OUT_OF_RANGE, "statuses differ");

enum { HOP_BYTES = ETSE_EARS * ETSE_HOP * 2, GAINS_BYTES = ETSE_MOVES * ETSE_BANDS };
_Static_assert(ETSE_FEATURES <= ETSE_MAX_PAYLOAD_BYTES, "features do not fit a frame");
_Static_assert((int)HOP_BYTES <= (int)ETSE_MAX_PAYLOAD_BYTES, "a hop does not fit a frame");
_Static_assert((int)GAINS_BYTES <= (int)ETSE_MAX_PAYLOAD_BYTES, "gains do not fit a frame");

static etse_wire_decoder decoder;
static uint8_t raw[ETSE_FRAME_RAW_BYTES];
static uint8_t *const answer = raw + ETSE_FRAME_HEAD_BYTES;

/* The last answer, for a host that did not hear it. */
static uint8_t reply[ETSE_FRAME_BYTES];
static size_t reply_bytes;
static uint32_t request_crc;
static uint8_t request_head[ETSE_FRAME_HEAD_BYTES];

static uint8_t voice[ETSE_VOICE_PATCH_BYTES];
static uint32_t voice_bytes;
static int voice_in_force;

static uint32_t ears;
static uint32_t frames, deadline_misses;
static uint64_t last_count, worst_count, total_count;

static void put(size_t at, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; i++)
        answer[at + i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static void put_text(size_t at, const char *text, size_t room) {
    for (size_t i = 0; i < room; i++)
        answer[at + i] = text && *text ? (uint8_t)*text++ : 0;
}

/* Each command fills in the answer and returns its length; its code is set by then unless it is an error. */
static size_t refuse(uint32_t status, const char *why) {
    size_t size = strlen(why);
    raw[0] = (uint8_t)ETSE_MESSAGE_ERROR;
    put(ETSE_ERROR_STATUS, status, 2);
    memcpy(answer + ETSE_ERROR_TEXT, why, size);
    return ETSE_ERROR_TEXT + size;
}

static size_t wrong_size(void) { return refuse(ETSE_STATUS_WRONG_SIZE, "the payload has another length than this message"); }

static size_t hello(const etse_board *board) {
    put(ETSE_HELLO_PROTOCOL, ETSE_PROTOCOL, 2);
    put(ETSE_HELLO_MAX_PAYLOAD_BYTES, ETSE_MAX_PAYLOAD_BYTES, 2);
    put(ETSE_HELLO_CAPABILITIES, ETSE_CAN_SOUND | (ETSE_VOICE_CHANNELS > 0 ? ETSE_CAN_VOICE : 0), 4);
    memcpy(answer + ETSE_HELLO_MODEL, etse_model_id, 16);
    put(ETSE_HELLO_SAMPLE_RATE_HZ, ETSE_SAMPLE_RATE_HZ, 4);
    put(ETSE_HELLO_HOP, ETSE_HOP, 2);
    put(ETSE_HELLO_WINDOW, ETSE_WINDOW, 2);
    put(ETSE_HELLO_SYNTHESIS, ETSE_SYNTHESIS, 2);
    put(ETSE_HELLO_FEATURES, ETSE_FEATURES, 2);
    put(ETSE_HELLO_BANDS, ETSE_BANDS, 2);
    put(ETSE_HELLO_EARS, ETSE_EARS, 1);
    put(ETSE_HELLO_VOICE_PATCH_BYTES, ETSE_VOICE_CHANNELS > 0 ? ETSE_VOICE_PATCH_BYTES : 0, 4);
    put_text(ETSE_HELLO_KERNELS, etse_kernels(), 16);
    put_text(ETSE_HELLO_CORE, board->core, 32);
    put_text(ETSE_HELLO_TARGET, board->target, 32);
    return ETSE_HELLO_BYTES;
}

/* The parts gather aside, so that a voice is heard when it is whole and not before. */
static size_t set_voice(const uint8_t *payload, size_t size) {
    if (size < ETSE_SET_VOICE_BYTES)
        return wrong_size();
    const uint32_t offset = get32(payload + ETSE_SET_VOICE_OFFSET), whole = get32(payload + ETSE_SET_VOICE_SIZE_BYTES);
    const uint32_t part = (uint32_t)(size - ETSE_SET_VOICE_DATA);
    if (ETSE_VOICE_CHANNELS == 0)
        return refuse(ETSE_STATUS_VOICE_FOLDED, "this model has a voice built in: make the image without one");
    if (whole != ETSE_VOICE_PATCH_BYTES || part > whole || offset > whole - part)
        return refuse(ETSE_STATUS_VOICE_MALFORMED, "a voice of this model has another size");
    if (offset != 0 && offset != voice_bytes)
        return refuse(ETSE_STATUS_VOICE_OUT_OF_ORDER, "a part of the voice is missing: send it from its beginning");
    memcpy(voice + offset, payload + ETSE_SET_VOICE_DATA, part);
    voice_bytes = offset + part;
    const int whole_now = voice_bytes == whole;
    if (whole_now) {
        const etse_status status = etse_set_voice(voice, whole);
        if (status != ETSE_OK) {
            voice_bytes = 0;
            return refuse((uint32_t)status, status == ETSE_VOICE_DAMAGED ? "the voice was damaged: make the patch again"
                                                                       : "the voice is malformed, out of range, or another model's");
        }
        voice_in_force = 1;
    }
    put(ETSE_VOICE_TAKEN_TAKEN_BYTES, voice_bytes, 4);
    put(ETSE_VOICE_TAKEN_IN_FORCE, (uint64_t)whole_now, 1);
    return ETSE_VOICE_TAKEN_BYTES;
}

static size_t reset(const uint8_t *payload, size_t size) {
    if (size != ETSE_RESET_BYTES)
        return wrong_size();
    const uint32_t wanted = payload[ETSE_RESET_EARS] ? payload[ETSE_RESET_EARS] : ears;
    if (wanted > ETSE_EARS)
        return refuse(ETSE_STATUS_EARS_UNSUPPORTED, "this model has fewer ears");
    if (wanted == ears) {
        etse_reset();
    } else {
        if (voice_in_force && voice_bytes != ETSE_VOICE_PATCH_BYTES)
            return refuse(ETSE_STATUS_VOICE_INCOMPLETE, "a voice is on its way: finish it first");
        /* forgets the voice */
        etse_init((int)wanted);
        if (voice_in_force)
            etse_set_voice(voice, ETSE_VOICE_PATCH_BYTES);
        ears = wanted;
    }
    put(ETSE_RESET_DONE_EARS, ears, 1);
    return ETSE_RESET_DONE_BYTES;
}

static void counted(const etse_board *board, uint64_t since) {
    frames++;
    if (!board->count)
        return;
    last_count = board->count() - since;
    total_count += last_count;
    if (last_count > worst_count)
        worst_count = last_count;
    if (board->counts_per_s)
        deadline_misses += last_count * ETSE_SAMPLE_RATE_HZ > (uint64_t)board->counts_per_s * ETSE_HOP;
}

static size_t network_frame(const etse_board *board, const uint8_t *payload, size_t size) {
    if (size != ETSE_FEATURES)
        return wrong_size();
    const uint64_t since = board->count ? board->count() : 0;
    etse_network((const int8_t *)payload, (int8_t *)answer);
    counted(board, since);
    return GAINS_BYTES;
}

static size_t sound_frame(const etse_board *board, const uint8_t *payload, size_t size) {
    static int16_t samples[ETSE_EARS * ETSE_HOP];
    if (size != ears * ETSE_HOP * 2)
        return wrong_size();
    /* the payload begins at an odd address */
    memcpy(samples, payload, size);
    const uint64_t since = board->count ? board->count() : 0;
    etse_process(samples, samples);
    counted(board, since);
    memcpy(answer, samples, size);
    return size;
}

static size_t stats(const etse_board *board) {
    put_text(ETSE_STATS_COUNTER, board->count ? board->counter : NULL, 16);
    put(ETSE_STATS_LAST_COUNT, last_count, 8);
    put(ETSE_STATS_WORST_COUNT, worst_count, 8);
    put(ETSE_STATS_TOTAL_COUNT, total_count, 8);
    put(ETSE_STATS_COUNTS_PER_S, board->count ? board->counts_per_s : 0, 4);
    put(ETSE_STATS_FRAMES, frames, 4);
    put(ETSE_STATS_DEADLINE_MISSES, deadline_misses, 4);
    put(ETSE_STATS_DAMAGED_FRAMES, decoder.damaged, 4);
    put(ETSE_STATS_STACK_BYTES, board->stack_bytes, 4);
    put(ETSE_STATS_STACK_HIGH_WATER_BYTES, board->stack_high_water_bytes ? board->stack_high_water_bytes() : 0, 4);
    put(ETSE_STATS_ARENA_BYTES, ETSE_ARENA_BYTES, 4);
    put(ETSE_STATS_STATE_BYTES, ETSE_STATE_BYTES, 4);
    put(ETSE_STATS_WEIGHT_BYTES, ETSE_WEIGHT_BYTES, 4);
    return ETSE_STATS_BYTES;
}

static size_t execute(const etse_board *board, uint8_t code, const uint8_t *payload, size_t size) {
    switch (code) {
    case ETSE_MESSAGE_HELLO_REQUEST:
        return hello(board);
    case ETSE_MESSAGE_SET_VOICE:
        return set_voice(payload, size);
    case ETSE_MESSAGE_RESET:
        return reset(payload, size);
    case ETSE_MESSAGE_NETWORK_FRAME:
        return network_frame(board, payload, size);
    case ETSE_MESSAGE_SOUND_FRAME:
        return sound_frame(board, payload, size);
    case ETSE_MESSAGE_STATS_REQUEST:
        return stats(board);
    default:
        return refuse(ETSE_STATUS_UNKNOWN_COMMAND, "this firmware does not know the command: is it older than the host?");
    }
}

static void respond(const etse_board *board) {
    const uint8_t *const payload = decoder.bytes + ETSE_FRAME_HEAD_BYTES;
    const uint32_t crc = etse_crc32(0, decoder.bytes, ETSE_FRAME_HEAD_BYTES + decoder.payload_bytes);
    /* The very same request is one that was not heard: executed again, a frame would advance the network twice. */
    if (!reply_bytes || crc != request_crc || memcmp(request_head, decoder.bytes, sizeof request_head) != 0) {
        request_crc = crc;
        memcpy(request_head, decoder.bytes, sizeof request_head);
        memcpy(raw, decoder.bytes, ETSE_FRAME_HEAD_BYTES);
        raw[0] |= 0x80;
        const size_t size = execute(board, decoder.bytes[0], payload, decoder.payload_bytes);
        reply_bytes = etse_wire_encode(raw, size, reply);
    }
    board->write(board->link, reply, reply_bytes);
}

void etse_server_begin(const etse_board *board) {
    (void)board;
    memset(&decoder, 0, sizeof decoder);
    reply_bytes = 0;
    voice_bytes = 0;
    voice_in_force = 0;
    ears = ETSE_EARS;
    frames = deadline_misses = 0;
    last_count = worst_count = total_count = 0;
    etse_init(ETSE_EARS);
}

void etse_server_take(const etse_board *board, const uint8_t *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (etse_wire_take(&decoder, bytes[i]))
            respond(board);
}

void etse_serve(const etse_board *board) {
    static uint8_t bytes[64];
    etse_server_begin(board);
    for (size_t size; (size = board->read(board->link, bytes, sizeof bytes)) > 0;)
        etse_server_take(board, bytes, size);
}
