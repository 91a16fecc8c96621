"use strict";
/* The microphone, in the browser's audio thread: recorded for an enrollment, or through the engine to the headphones. */

/** Text of the worklet. It is loaded from a data URL: a page opened from a disk may load neither a file nor a Blob there. */
function liveProcessors() {
  /** Collects what the microphone hears. */
  registerProcessor("edge-tse-recorder", class extends AudioWorkletProcessor {
    process([channels]) {
      if (channels.length) this.port.postMessage(channels.map((ear) => ear.slice()));
      return true;
    }
  });

  /** The talker, a block of hops at a time; "dry" passes the microphone with the same delay. */
  registerProcessor("edge-tse-engine", class extends AudioWorkletProcessor {
    constructor({ processorOptions: { wasm, patch, model, ears } }) {
      super();
      this.model = model;
      this.ears = ears;
      this.engine = engineOf(new WebAssembly.Instance(new WebAssembly.Module(wasm), {}), model);
      this.engine.start(ears);
      this.engine.setVoice(patch);
      // The talker comes a hop after the sound (the synthesis window is two): so does the dry sound.
      this.last = Array.from({ length: ears }, () => new Float32Array(model.hop));
      this.wet = 1;
      this.aim = 1;
      this.blocks = 0;
      this.peak = [0, 0];
      this.port.onmessage = ({ data }) => {
        if ("talker" in data) this.aim = data.talker ? 1 : 0;
        if ("patch" in data) this.engine.setVoice(data.patch);
      };
    }

    process([input], [output]) {
      const { hop } = this.model, n = output[0].length;
      for (let at = 0; at + hop <= n; at += hop) {
        for (let e = 0; e < this.ears; e++) {
          const source = input[Math.min(e, input.length - 1)];
          for (let i = 0; i < hop; i++) {
            const x = source ? Math.round(source[at + i] * 32768) : 0;
            this.engine.sound[e * hop + i] = Math.max(-32768, Math.min(32767, x));
          }
        }
        this.engine.process();
        for (let i = 0; i < hop; i++) {
          this.wet += (this.aim - this.wet) / 128;
          output.forEach((channel, o) => {
            const e = Math.min(o, this.ears - 1), source = input[Math.min(e, input.length - 1)], now = source ? source[at + i] : 0;
            const talker = this.engine.sound[e * hop + i] / 32768;
            channel[at + i] = this.wet * talker + (1 - this.wet) * this.last[e][i];
            this.peak = [Math.max(this.peak[0], Math.abs(now)), Math.max(this.peak[1], Math.abs(channel[at + i]))];
          });
        }
        for (let e = 0; e < this.ears; e++) {
          const source = input[Math.min(e, input.length - 1)];
          if (source) this.last[e].set(source.subarray(at, at + hop));
          else this.last[e].fill(0);
        }
      }
      if (++this.blocks % 16 === 0) {
        this.port.postMessage({ peak: this.peak, blocks: this.blocks });
        this.peak = [0, 0];
      }
      return true;
    }
  });
}

/** A microphone and an audio thread at the model's rate: { context, source, stop }. */
async function openMicrophone(ears) {
  if (!navigator.mediaDevices?.getUserMedia || !globalThis.AudioWorkletNode) {
    throw new EdgeTseError("this browser gives a page no microphone here: open it from https, from localhost, or from the disk in Chromium");
  }
  let stream;
  try {
    // What browsers do for calls would take the other talkers away before the engine hears them.
    const plain = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: { ...plain, channelCount: ears } });
  } catch (failure) {
    throw new EdgeTseError(failure.name === "NotAllowedError" ? "the microphone was not allowed: allow it in the address bar and try again"
      : failure.name === "NotFoundError" ? "no microphone was found: plug one in and try again"
      : `the microphone does not open: ${failure.message}`);
  }
  const context = new AudioContext({ sampleRate: MODEL.rate_hz, latencyHint: "interactive" });
  const stop = async () => {
    stream.getTracks().forEach((track) => track.stop());
    if (context.state !== "closed") await context.close();
  };
  try {
    const text = `${engineOf}\n${liveProcessors}\nliveProcessors();`;
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(text)}`);
    await begin(context);
    return { context, stop, source: context.createMediaStreamSource(stream) };
  } catch (failure) {
    await stop();
    throw failure instanceof EdgeTseError ? failure : new EdgeTseError(`this browser does not bring the microphone to ${MODEL.rate_hz} Hz (${failure.message}): try Chromium`);
  }
}

/** Record for some seconds: float channels. tell(seconds, peak) is called now and then; ask() true ends it early. */
async function recordVoice(seconds, tell, ask) {
  const { context, source, stop } = await openMicrophone(1), parts = [];
  try {
    const recorder = new AudioWorkletNode(context, "edge-tse-recorder", { numberOfOutputs: 0 });
    let samples = 0, peak = 0;
    recorder.port.onmessage = ({ data: [ear] }) => { parts.push(ear); samples += ear.length; peak = Math.max(peak, peakOf([ear])); };
    source.connect(recorder);
    while (samples < seconds * MODEL.rate_hz && !ask()) {
      tell(samples / MODEL.rate_hz, peak);
      peak = 0;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  } finally {
    await stop();
  }
  const ear = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => { ear.set(part, at); return at + part.length; }, 0);
  return [ear];
}

/** Start listening: { hear(talker), setVoice(patch), stop(), latencyMs }. tell({ peak, blocks }) is called now and then. */
async function startLive(patch, ears, tell) {
  const { context, source, stop } = await openMicrophone(ears);
  compiled.bytes ??= bytesOf(MODEL.wasm);
  const { hop, delay, window, bands, features, moves, patch_bytes } = MODEL, model = { hop, delay, window, bands, features, moves, patch_bytes, ears: MODEL.ears };
  const node = new AudioWorkletNode(context, "edge-tse-engine", {
    numberOfInputs: 1, outputChannelCount: [2], channelCount: 2, channelCountMode: "clamped-max",
    processorOptions: { wasm: compiled.bytes, patch, model, ears },
  });
  node.port.onmessage = ({ data }) => tell(data);
  source.connect(node).connect(context.destination);
  return {
    hear(talker) { node.port.postMessage({ talker }); },
    setVoice(next) { node.port.postMessage({ patch: next }); },
    stop,
    /** From microphone to headphones, without what the microphone's own buffers add: browsers do not say. */
    get latencyMs() { return 1000 * (delay / MODEL.rate_hz + (context.baseLatency ?? 0) + (context.outputLatency ?? 0)); },
  };
}
