// swift-tools-version:5.9
// Not built in this repository's tests, which have no Swift: the C target is compiled there, and its module map read.
import PackageDescription

let package = Package(
    name: "EdgeTse",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "EdgeTse", targets: ["EdgeTse"])],
    targets: [
        // model.zip of `edge-tse compile --target phone-arm64` is unpacked into Sources/CEdgeTse/model, and ../core is copied beside it.
        .target(
            name: "CEdgeTse",
            exclude: ["core/phone_cases.c", "model/sbom.cdx.json"],
            cSettings: [
                .headerSearchPath("model"),
                .headerSearchPath("model/c"),
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
