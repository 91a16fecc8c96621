import XCTest

@testable import EdgeTse

final class EdgeTseTests: XCTestCase {
    func testSoundComesBackAndTheSameAgain() throws {
        let samples = EdgeTse.rateHz / 2
        let heard = (0..<samples).map { Int16(3000 * sin(0.05 * Double($0) * (1 + 0.1 * sin(0.001 * Double($0))))) }
        let first = try EdgeTse(ears: 1, block: EdgeTse.hop)
        let once = try first.process(heard)
        XCTAssertEqual(first.counters.lateHops, 0)
        XCTAssertTrue(once.contains { $0 != 0 })
        XCTAssertEqual(try EdgeTse(ears: 1, block: EdgeTse.hop).process(heard), once)
    }

    func testWhatIsRefused() {
        XCTAssertThrowsError(try EdgeTse(ears: 3, block: 64))
        XCTAssertThrowsError(try EdgeTse(ears: 1, block: 64).offer(voice: Data([1, 2, 3])))
    }
}
