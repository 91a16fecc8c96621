import CEdgeTse
import Foundation

/// What the C library has against a call.
public enum EdgeTseError: Error, Equatable {
    /// The stream does not begin: an `etse_status`.
    case refused(Int32)
    /// A voice patch of another size than the model's, or one before it that is still to be taken.
    case voice(Int32)
    /// Sound that is not `[frames][ears]`.
    case shape
}

/// One model and one stream per process: make one of these.
///
/// `exchange` belongs to the audio callback, `work` to one thread of its own, everything else to any other.
public final class EdgeTse {
    public struct Counters: Equatable {
        public let latencyFrames, hops, lateHops, skippedHops, overruns, underruns: UInt32
    }

    public let ears: Int

    /// Samples a second that the model hears and says: let `AVAudioConverter` make them of the phone's.
    public static var rateHz: Int { Int(edge_tse_model().rate_hz) }

    /// Frames of a hop.
    public static var hop: Int { Int(edge_tse_model().hop) }

    /// - Parameters:
    ///   - ears: channels, 1 or 2
    ///   - block: most frames of an audio callback
    public init(ears: Int, block: Int) throws {
        let status = edge_tse_start(Int32(ears), UInt32(block))
        guard status == 0 else { throw EdgeTseError.refused(status) }
        self.ears = ears
    }

    /// Listen to this talker from the next hop on. `voiceStatus` tells what became of it.
    public func offer(voice patch: Data) throws {
        let status = patch.withUnsafeBytes { edge_tse_offer_voice($0.bindMemory(to: UInt8.self).baseAddress, patch.count) }
        guard status == 0 else { throw EdgeTseError.voice(status) }
    }

    /// 0 in force, above 0 refused, -1 not taken yet, -2 none.
    public var voiceStatus: Int { Int(edge_tse_voice()) }

    /// One audio callback, `[frames][ears]` of 16 bits each way. Takes no lock and allocates nothing.
    public func exchange(heard: UnsafePointer<Int16>, played: UnsafeMutablePointer<Int16>, frames: Int) {
        edge_tse_exchange(heard, played, frames)
    }

    /// Make the hops that have been heard; their number.
    @discardableResult
    public func work() -> Int { Int(edge_tse_work()) }

    /// A whole sound at once, for files and tests: what is played while it is heard.
    public func process(_ heard: [Int16], block: Int = EdgeTse.hop) throws -> [Int16] {
        guard heard.count % ears == 0 else { throw EdgeTseError.shape }
        var played = [Int16](repeating: 0, count: heard.count)
        heard.withUnsafeBufferPointer { from in
            played.withUnsafeMutableBufferPointer { to in
                guard let source = from.baseAddress, let target = to.baseAddress else { return }
                for at in stride(from: 0, to: heard.count / ears, by: block) {
                    let frames = min(block, heard.count / ears - at)
                    exchange(heard: source + at * ears, played: target + at * ears, frames: frames)
                    work()
                }
            }
        }
        return played
    }

    public var counters: Counters {
        let now = edge_tse_count()
        return Counters(
            latencyFrames: now.latency,
            hops: now.hops,
            lateHops: now.late_hops,
            skippedHops: now.skipped_hops,
            overruns: now.overruns,
            underruns: now.underruns
        )
    }
}
