// swift-tools-version:5.9
// Not built in this repository's tests, which have no Swift: the C target is compiled there, and its module map read.
import PackageDescription

let package = Package(
    name: "EdgeTse",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "EdgeTse", targets: ["EdgeTse"])],
    targets: [
        // src/ of the model.zip that `edge-tse compile --target phone-arm64` writes lies in Sources/CEdgeTse/model, and a copy of ../core beside it.
        .target(
            name: "CEdgeTse",
            exclude: ["core/phone_cases.c"],
            cSettings: [
                .headerSearchPath("model/src"),
                .headerSearchPath("core"),
                .define("ETSE_STREAM_FRAMES", to: "8192"),
                // A fused multiply-add rounds once where every other core rounds twice.
                .unsafeFlags(["-ffp-contract=off", "-fno-math-errno"]),
            ]
        ),
        .target(name: "EdgeTse", dependencies: ["CEdgeTse"]),
        .testTarget(name: "EdgeTseTests", dependencies: ["EdgeTse"]),
    ],
    cLanguageStandard: .c11
)
