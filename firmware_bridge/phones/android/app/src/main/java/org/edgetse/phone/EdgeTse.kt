package org.edgetse.phone

/** The C library and its audio: one model and one stream per process. */
object EdgeTse {
    const val VOICE_PENDING = -1
    const val VOICE_NONE = -2
    const val VOICE_WRONG_SIZE = -3

    init {
        System.loadLibrary("edge_tse")
    }

    /** Open microphone and earphones and let the model run. 0, what the library has against it (> 0) or Oboe (< 0). */
    @JvmStatic
    external fun startAudio(ears: Int): Int

    /** Close both, and end the thread of the model. */
    @JvmStatic
    external fun stopAudio()

    /** Hand over a voice patch, taken from the next hop on. 0, [VOICE_PENDING] or [VOICE_WRONG_SIZE]. */
    @JvmStatic
    external fun offerVoice(patch: ByteArray): Int

    /** What became of it: 0 in force, > 0 refused, [VOICE_PENDING] or [VOICE_NONE]. */
    @JvmStatic
    external fun voice(): Int

    /** Latency in frames, hops, late hops, skipped hops, overruns, underruns. */
    @JvmStatic
    external fun counters(): IntArray

    /** Name of the kernels that are compiled in. */
    @JvmStatic
    external fun kernels(): String

    /** Without [startAudio]: begin a stream whose sound comes from elsewhere, in blocks of at most [block] frames. */
    @JvmStatic
    external fun start(ears: Int, block: Int): Int

    /** A block of it, `[frames][ears]`. Then call [work]. */
    @JvmStatic
    external fun exchange(heard: ShortArray, ears: Int): ShortArray

    /** Make the hops that have been heard; their number. */
    @JvmStatic
    external fun work(): Int

    /** One frame of the network, for golden frames. Not while audio runs. */
    @JvmStatic
    external fun network(features: ByteArray): ByteArray
}
