// Microphone and earphones through Oboe, one callback for both, and the thread that runs the model.
//
// Not compiled in this repository's tests: Oboe and the NDK come with Gradle. Oboe converts the phone's rate to the model's.
#include <jni.h>
#include <oboe/Oboe.h>
#include <semaphore.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "phone.h"

namespace {

class Audio : public oboe::AudioStreamDataCallback {
public:
    explicit Audio(int ears) : ears_(ears), heard_(static_cast<size_t>(kBlock) * ears) { sem_init(&heard_some_, 0, 0); }

    ~Audio() override {
        stop();
        sem_destroy(&heard_some_);
    }

    // 0, an etse_status (positive) or an error of Oboe (negative).
    int start() {
        const int status = phone_start(ears_, kBlock);
        if (status != ETSE_OK) return status;
        oboe::AudioStreamBuilder builder;
        builder.setPerformanceMode(oboe::PerformanceMode::LowLatency)
            ->setSharingMode(oboe::SharingMode::Exclusive)
            ->setFormat(oboe::AudioFormat::I16)
            ->setFormatConversionAllowed(true)
            ->setChannelConversionAllowed(true)
            ->setChannelCount(ears_)
            ->setSampleRate(ETSE_SAMPLE_RATE_HZ)
            ->setSampleRateConversionQuality(oboe::SampleRateConversionQuality::Medium);
        builder.setDirection(oboe::Direction::Input)->setInputPreset(oboe::InputPreset::Unprocessed);
        oboe::Result result = builder.openStream(input_);
        if (result != oboe::Result::OK) return static_cast<int>(result);
        builder.setDirection(oboe::Direction::Output)->setDataCallback(this)->setFramesPerDataCallback(kBlock);
        result = builder.openStream(output_);
        if (result != oboe::Result::OK) return static_cast<int>(result);
        runs_ = true;
        worker_ = std::thread([this] {
            while (runs_) {
                sem_wait(&heard_some_);
                phone_work();
            }
        });
        result = input_->requestStart();
        if (result == oboe::Result::OK) result = output_->requestStart();
        return static_cast<int>(result);
    }

    void stop() {
        if (output_) output_->close();
        if (input_) input_->close();
        runs_ = false;
        sem_post(&heard_some_);
        if (worker_.joinable()) worker_.join();
    }

    oboe::DataCallbackResult onAudioReady(oboe::AudioStream *, void *played, int32_t frames) override {
        auto *out = static_cast<int16_t *>(played);
        for (int32_t at = 0; at < frames; at += kBlock) {
            const int32_t n = std::min(kBlock, frames - at);
            const auto got = input_->read(heard_.data(), n, 0);
            const int32_t had = got ? got.value() : 0;
            // What the microphone has not delivered yet is silence: the two directions stay in step.
            std::fill(heard_.begin() + static_cast<ptrdiff_t>(had) * ears_, heard_.begin() + static_cast<ptrdiff_t>(n) * ears_, 0);
            phone_exchange(heard_.data(), out + static_cast<ptrdiff_t>(at) * ears_, static_cast<size_t>(n));
        }
        sem_post(&heard_some_);
        return oboe::DataCallbackResult::Continue;
    }

private:
    static constexpr int32_t kBlock = 4 * ETSE_HOP;

    const int ears_;
    std::vector<int16_t> heard_;
    sem_t heard_some_{};
    std::atomic<bool> runs_{false};
    std::thread worker_;
    std::shared_ptr<oboe::AudioStream> input_, output_;
};

std::unique_ptr<Audio> audio;

} // namespace

extern "C" JNIEXPORT jint JNICALL Java_org_edgetse_phone_EdgeTse_startAudio(JNIEnv *, jclass, jint ears) {
    audio = std::make_unique<Audio>(ears);
    const int status = audio->start();
    if (status != 0) audio.reset();
    return status;
}

extern "C" JNIEXPORT void JNICALL Java_org_edgetse_phone_EdgeTse_stopAudio(JNIEnv *, jclass) { audio.reset(); }
