plugins {
    id("com.android.application")
    id("org.jetbrains.kotlin.android")
}

android {
    namespace = "org.edgetse.phone"
    compileSdk = 35

    defaultConfig {
        applicationId = "org.edgetse.phone"
        minSdk = 26 // AAudio, the low-latency way that Oboe takes
        targetSdk = 35
        versionCode = 1
        versionName = "0.2.0"
        ndk {
            abiFilters += "arm64-v8a"
        }
        externalNativeBuild {
            cmake {
                // The folder that the C archive was unpacked into: -Pmodel=FOLDER
                arguments += listOf("-DANDROID_STL=c++_shared", "-DETSE_MODEL=${providers.gradleProperty("model").getOrElse("")}")
            }
        }
    }

    externalNativeBuild {
        cmake {
            path = file("src/main/cpp/CMakeLists.txt")
            version = "3.22.1"
        }
    }

    buildFeatures {
        prefab = true
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }

    kotlinOptions {
        jvmTarget = "17"
    }
}

dependencies {
    implementation("com.google.oboe:oboe:1.9.3")
}
