/* What Kotlin calls of the core: EdgeTse.kt declares it. Arrays are copied, so that nothing of Java's is held while C works. */
#include <jni.h>
#include <stdlib.h>

#include "phone.h"

static void refuse(JNIEnv *env, const char *why) {
    const jclass kind = (*env)->FindClass(env, "java/lang/IllegalArgumentException");
    if (kind)
        (*env)->ThrowNew(env, kind, why);
}

JNIEXPORT jint JNICALL Java_org_edgetse_phone_EdgeTse_start(JNIEnv *env, jclass self, jint ears, jint block) {
    (void)env;
    (void)self;
    return block < 1 ? ETSE_AHEAD_TOO_LONG : phone_start(ears, (uint32_t)block);
}

JNIEXPORT jint JNICALL Java_org_edgetse_phone_EdgeTse_offerVoice(JNIEnv *env, jclass self, jbyteArray patch) {
    (void)self;
    static jbyte bytes[ETSE_VOICE_PATCH_BYTES];
    const jsize size = (*env)->GetArrayLength(env, patch);
    if (size != (jsize)sizeof bytes)
        return PHONE_VOICE_WRONG_SIZE;
    (*env)->GetByteArrayRegion(env, patch, 0, size, bytes);
    return phone_offer_voice((const uint8_t *)bytes, sizeof bytes);
}

JNIEXPORT jint JNICALL Java_org_edgetse_phone_EdgeTse_voice(JNIEnv *env, jclass self) {
    (void)env;
    (void)self;
    return phone_voice();
}

JNIEXPORT jint JNICALL Java_org_edgetse_phone_EdgeTse_work(JNIEnv *env, jclass self) {
    (void)env;
    (void)self;
    return phone_work();
}

/* For sound that does not come from audio.cpp: a file, a test. */
JNIEXPORT jshortArray JNICALL Java_org_edgetse_phone_EdgeTse_exchange(JNIEnv *env, jclass self, jshortArray heard, jint ears) {
    (void)self;
    const jsize size = (*env)->GetArrayLength(env, heard);
    if (ears < 1 || ears != phone_ears() || size % ears) {
        refuse(env, "sound is [frames][ears], with the ears that it was started for");
        return NULL;
    }
    const jshortArray out = (*env)->NewShortArray(env, size);
    jshort *const samples = malloc(2 * sizeof(jshort) * (size_t)size + 1);
    if (out && samples) {
        (*env)->GetShortArrayRegion(env, heard, 0, size, samples);
        phone_exchange(samples, samples + size, (size_t)(size / ears));
        (*env)->SetShortArrayRegion(env, out, 0, size, samples + size);
    }
    free(samples);
    return samples ? out : NULL;
}

/* One frame of the network, to replay golden frames on the phone. Not while audio runs. */
JNIEXPORT jbyteArray JNICALL Java_org_edgetse_phone_EdgeTse_network(JNIEnv *env, jclass self, jbyteArray features) {
    (void)self;
    static int8_t in[ETSE_FEATURES], moves[ETSE_MOVES * ETSE_BANDS];
    if ((*env)->GetArrayLength(env, features) != (jsize)sizeof in) {
        refuse(env, "a frame has ETSE_FEATURES bytes");
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, features, 0, (jsize)sizeof in, (jbyte *)in);
    etse_network(in, moves);
    const jbyteArray out = (*env)->NewByteArray(env, (jsize)sizeof moves);
    if (out)
        (*env)->SetByteArrayRegion(env, out, 0, (jsize)sizeof moves, (const jbyte *)moves);
    return out;
}

/* Latency in frames, hops, late hops, skipped hops, overruns, underruns. */
JNIEXPORT jintArray JNICALL Java_org_edgetse_phone_EdgeTse_counters(JNIEnv *env, jclass self) {
    (void)self;
    const etse_stream_counters now = etse_stream_count();
    const jint values[] = {(jint)etse_stream_latency(), (jint)now.hops,     (jint)now.late_hops,
                           (jint)now.skipped_hops,      (jint)now.overruns, (jint)now.underruns};
    enum { VALUES = sizeof values / sizeof *values };
    const jintArray out = (*env)->NewIntArray(env, VALUES);
    if (out)
        (*env)->SetIntArrayRegion(env, out, 0, VALUES, values);
    return out;
}

JNIEXPORT jstring JNICALL Java_org_edgetse_phone_EdgeTse_kernels(JNIEnv *env, jclass self) {
    (void)self;
    return (*env)->NewStringUTF(env, etse_kernels());
}
