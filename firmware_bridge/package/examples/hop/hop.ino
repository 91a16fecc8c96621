// One hop after the other through the model, and how long it takes. Put your microphone and your earphone where the comment is.
#include <etse.h>

static int16_t sound[ETSE_HOP];

void setup() {
    Serial.begin(115200);
    etse_init(1);
}

void loop() {
    // ETSE_HOP samples at ETSE_SAMPLE_RATE_HZ belong in sound[] here, and the talker to the earphone below.
    const unsigned long began = micros();
    etse_process(sound, sound);
    Serial.println(micros() - began);
}
