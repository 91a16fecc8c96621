/* Generated from the messages of firmware_bridge/wire.py by `python -m firmware_bridge.wire`; do not edit. */
#ifndef ETSE_PROTOCOL_H
#define ETSE_PROTOCOL_H

enum {
    ETSE_PROTOCOL = 1,
    ETSE_MAX_PAYLOAD_BYTES = 1024,
};

/* Capabilities */
enum {
    ETSE_CAN_SOUND = 1,
    ETSE_CAN_VOICE = 2,
};

/* Statuses */
enum {
    ETSE_STATUS_EARS_UNSUPPORTED = 1,
    ETSE_STATUS_VOICE_MALFORMED = 2,
    ETSE_STATUS_VOICE_FOREIGN = 3,
    ETSE_STATUS_VOICE_OUT_OF_RANGE = 4,
    ETSE_STATUS_VOICE_DAMAGED = 5,
    ETSE_STATUS_VOICE_FOLDED = 6,
    ETSE_STATUS_UNKNOWN_COMMAND = 16,
    ETSE_STATUS_WRONG_SIZE = 17,
    ETSE_STATUS_VOICE_OUT_OF_ORDER = 18,
    ETSE_STATUS_VOICE_INCOMPLETE = 19,
};

/* Request: who is there? */
enum {
    ETSE_MESSAGE_HELLO_REQUEST = 0x01,
    ETSE_HELLO_REQUEST_BYTES = 0,
};

/* A board and its model. */
enum {
    ETSE_MESSAGE_HELLO = 0x81,
    ETSE_HELLO_PROTOCOL = 0,
    ETSE_HELLO_MAX_PAYLOAD_BYTES = 2,
    ETSE_HELLO_CAPABILITIES = 4,
    ETSE_HELLO_MODEL = 8,
    ETSE_HELLO_SAMPLE_RATE_HZ = 24,
    ETSE_HELLO_HOP = 28,
    ETSE_HELLO_WINDOW = 30,
    ETSE_HELLO_SYNTHESIS = 32,
    ETSE_HELLO_FEATURES = 34,
    ETSE_HELLO_BANDS = 36,
    ETSE_HELLO_EARS = 38,
    ETSE_HELLO_VOICE_PATCH_BYTES = 39,
    ETSE_HELLO_KERNELS = 43,
    ETSE_HELLO_CORE = 59,
    ETSE_HELLO_TARGET = 91,
    ETSE_HELLO_BYTES = 123,
};

/* A part of a voice; the first has offset 0, the last one ends at ``size_bytes`` and puts the voice in force. */
enum {
    ETSE_MESSAGE_SET_VOICE = 0x02,
    ETSE_SET_VOICE_OFFSET = 0,
    ETSE_SET_VOICE_SIZE_BYTES = 4,
    ETSE_SET_VOICE_DATA = 8,
    ETSE_SET_VOICE_BYTES = 8,
};

/* Progress of a voice that is being sent. */
enum {
    ETSE_MESSAGE_VOICE_TAKEN = 0x82,
    ETSE_VOICE_TAKEN_TAKEN_BYTES = 0,
    ETSE_VOICE_TAKEN_IN_FORCE = 4,
    ETSE_VOICE_TAKEN_BYTES = 5,
};

/* Forget the past, keep the voice. */
enum {
    ETSE_MESSAGE_RESET = 0x03,
    ETSE_RESET_EARS = 0,
    ETSE_RESET_BYTES = 1,
};

/* The next frame is the first. */
enum {
    ETSE_MESSAGE_RESET_DONE = 0x83,
    ETSE_RESET_DONE_EARS = 0,
    ETSE_RESET_DONE_BYTES = 1,
};

/* One step of the network alone. */
enum {
    ETSE_MESSAGE_NETWORK_FRAME = 0x04,
    ETSE_NETWORK_FRAME_FEATURES = 0,
    ETSE_NETWORK_FRAME_BYTES = 0,
};

/* Outputs of the network for a frame. */
enum {
    ETSE_MESSAGE_GAINS = 0x84,
    ETSE_GAINS_MOVES = 0,
    ETSE_GAINS_BYTES = 0,
};

/* One step of the whole chain. */
enum {
    ETSE_MESSAGE_SOUND_FRAME = 0x05,
    ETSE_SOUND_FRAME_SAMPLES = 0,
    ETSE_SOUND_FRAME_BYTES = 0,
};

/* The enrolled talker. */
enum {
    ETSE_MESSAGE_TALKER = 0x85,
    ETSE_TALKER_SAMPLES = 0,
    ETSE_TALKER_BYTES = 0,
};

/* Request: how is it going? */
enum {
    ETSE_MESSAGE_STATS_REQUEST = 0x06,
    ETSE_STATS_REQUEST_BYTES = 0,
};

/* Statistics since the last start, as seen from the board. */
enum {
    ETSE_MESSAGE_STATS = 0x86,
    ETSE_STATS_COUNTER = 0,
    ETSE_STATS_LAST_COUNT = 16,
    ETSE_STATS_WORST_COUNT = 24,
    ETSE_STATS_TOTAL_COUNT = 32,
    ETSE_STATS_COUNTS_PER_S = 40,
    ETSE_STATS_FRAMES = 44,
    ETSE_STATS_DEADLINE_MISSES = 48,
    ETSE_STATS_DAMAGED_FRAMES = 52,
    ETSE_STATS_STACK_BYTES = 56,
    ETSE_STATS_STACK_HIGH_WATER_BYTES = 60,
    ETSE_STATS_ARENA_BYTES = 64,
    ETSE_STATS_STATE_BYTES = 68,
    ETSE_STATS_WEIGHT_BYTES = 72,
    ETSE_STATS_BYTES = 76,
};

/* Sound of one ear, which an earbud sends unasked, packet after packet; the frame's sequence number counts the packets. */
enum {
    ETSE_MESSAGE_EAR_SOUND = 0xc0,
    ETSE_EAR_SOUND_COUNTER = 0,
    ETSE_EAR_SOUND_RATE_HZ = 8,
    ETSE_EAR_SOUND_WAITED_US = 12,
    ETSE_EAR_SOUND_EAR = 16,
    ETSE_EAR_SOUND_CHANNELS = 17,
    ETSE_EAR_SOUND_SAMPLES = 18,
    ETSE_EAR_SOUND_BYTES = 18,
};

/* Answer: the request was refused; nothing changed. */
enum {
    ETSE_MESSAGE_ERROR = 0xff,
    ETSE_ERROR_STATUS = 0,
    ETSE_ERROR_TEXT = 2,
    ETSE_ERROR_BYTES = 2,
};

#endif
