package org.edgetse.phone

import android.Manifest
import android.app.Activity
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.widget.Button
import android.widget.LinearLayout
import android.widget.TextView

/** Two buttons, Listen and Choose a voice, and a line of counters. */
class MainActivity : Activity() {
    private val handler = Handler(Looper.getMainLooper())
    private lateinit var toggle: Button
    private lateinit var status: TextView
    private var listening = false

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        toggle = Button(this).apply {
            setText(R.string.start)
            setOnClickListener { if (listening) stop() else start() }
        }
        val choose = Button(this).apply {
            setText(R.string.voice)
            setOnClickListener { chooseVoice() }
        }
        status = TextView(this).apply { setText(R.string.earphones) }
        setContentView(
            LinearLayout(this).apply {
                orientation = LinearLayout.VERTICAL
                fitsSystemWindows = true
                addView(toggle)
                addView(choose)
                addView(status)
            },
        )
    }

    override fun onStop() {
        super.onStop()
        stop()
    }

    private fun start() {
        if (checkSelfPermission(Manifest.permission.RECORD_AUDIO) != PackageManager.PERMISSION_GRANTED) {
            requestPermissions(arrayOf(Manifest.permission.RECORD_AUDIO), PERMISSION)
            return
        }
        val refused = EdgeTse.startAudio(EARS)
        if (refused != 0) {
            status.text = "audio: $refused"
            return
        }
        listening = true
        toggle.setText(R.string.stop)
        show()
    }

    private fun stop() {
        if (!listening) return
        EdgeTse.stopAudio()
        listening = false
        toggle.setText(R.string.start)
    }

    private fun show() {
        if (!listening) return
        val (latency, hops, late) = EdgeTse.counters()
        status.text = "${EdgeTse.kernels()}: $hops hops, $late late, ${latency / FRAMES_PER_MS} ms and the audio of the phone; voice ${EdgeTse.voice()}"
        handler.postDelayed(::show, REFRESH_MS)
    }

    private fun chooseVoice() {
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")
        @Suppress("DEPRECATION") // its successor is in a library that nothing else here needs
        startActivityForResult(intent, VOICE)
    }

    override fun onRequestPermissionsResult(request: Int, permissions: Array<String>, results: IntArray) {
        super.onRequestPermissionsResult(request, permissions, results)
        if (request == PERMISSION && results.firstOrNull() == PackageManager.PERMISSION_GRANTED) start()
    }

    @Deprecated("Deprecated in Java")
    override fun onActivityResult(request: Int, result: Int, data: Intent?) {
        @Suppress("DEPRECATION")
        super.onActivityResult(request, result, data)
        val uri = data?.data
        if (request != VOICE || result != RESULT_OK || uri == null) return
        val patch = contentResolver.openInputStream(uri)?.use { it.readBytes() } ?: return
        status.text = "voice: ${EdgeTse.offerVoice(patch)}"
    }

    private companion object {
        const val EARS = 1
        const val FRAMES_PER_MS = 16
        const val PERMISSION = 1
        const val VOICE = 2
        const val REFRESH_MS = 500L
    }
}
