"use strict";
/* The C library as WebAssembly, and its memory as arrays. One engine has one past and one voice: every task opens its own. */

/** An error of the person or the world: one line with the subject, the numbers and the remedy. */
class EdgeTseError extends Error {}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
const floatsOf = (base64) => new Float32Array(bytesOf(base64).buffer);
const samplesOf = (base64) => new Int16Array(bytesOf(base64).buffer);

const RADIX = 32768;

/** Half to even, as NumPy and the C library round. */
const nearest = (x) => {
  const down = Math.floor(x), over = x - down;
  if (over !== 0.5) return over < 0.5 ? down : down + 1;
  return down % 2 === 0 ? down : down + 1;
};

/** An instance of the module with its exports as functions on arrays. Also the text of the worklet: it uses nothing from outside. */
function engineOf(instance, model) {
  const c = instance.exports;
  const view = (Type, name, length) => new Type(c.memory.buffer, c[name].value, length);
  const sound = view(Int16Array, "web_sound", model.ears * model.hop);
  const features = view(Int8Array, "web_features", model.features);
  const moves = view(Int8Array, "web_moves", model.moves);
  const patch = view(Uint8Array, "web_patch", model.patch_bytes);
  const refusals = { 2: "it is malformed", 3: "it was made for another model", 4: "a value is out of range", 5: "it is damaged" };
  return {
    sound, features, moves,
    window: view(Float32Array, "web_window", model.window),
    levels: view(Float32Array, "web_levels", model.bands),
    /** Channels per hop from now on; forgets voice and past. */
    start(ears) { c.etse_init(ears); },
    reset() { c.etse_reset(); },
    setVoice(bytes) {
      patch.set(bytes.subarray(0, patch.length));
      const status = c.etse_set_voice(patch.byteOffset, bytes.length);
      if (status) throw new Error(`the voice is refused: ${refusals[status] ?? status}`);
    },
    /** One hop in `sound`, in place. */
    process() { c.etse_process(sound.byteOffset, sound.byteOffset); },
    /** One step of the network, from `features` to `moves`. */
    network() { c.etse_network(features.byteOffset, moves.byteOffset); },
    /** Band levels of `window`, to `levels`. */
    measure() { c.web_measure(); },
    crc32(bytes) {
      patch.set(bytes);
      return c.etse_crc32(0, patch.byteOffset, bytes.length) >>> 0;
    },
  };
}

const compiled = { bytes: null, module: null };

async function openEngine() {
  if (!("WebAssembly" in globalThis)) throw new EdgeTseError("this browser has no WebAssembly: open the page in one of 2023 or later");
  compiled.bytes ??= bytesOf(MODEL.wasm);
  try {
    compiled.module ??= await WebAssembly.compile(compiled.bytes);
  } catch (failure) {
    throw new EdgeTseError(`this browser cannot run the engine (${failure.message}): open the page in one of 2023 or later`);
  }
  return engineOf(await WebAssembly.instantiate(compiled.module, {}), MODEL);
}

const SLICE_MS = 24;
let breathed = performance.now();

/** Let the browser draw and answer keys, if it could not for a while: a pause costs some milliseconds itself. */
async function breathe() {
  if (performance.now() - breathed < SLICE_MS) return;
  await new Promise((resolve) => setTimeout(resolve));
  breathed = performance.now();
}

/** Steps that are timed together: browsers round their clock to 0.1 ms, which is longer than a step. */
const TIMED = 16;

/** Run step(i) for i < count in slices, and return the milliseconds of a step, one figure for every TIMED of them. */
async function inSlices(count, step, progress = () => {}) {
  const times = [];
  for (let i = 0; i < count; ) {
    const end = Math.min(count, i + TIMED), began = performance.now();
    const size = end - i;
    for (; i < end; i++) step(i);
    times.push((performance.now() - began) / size);
    progress(i / count);
    await breathe();
  }
  progress(1);
  return Float64Array.from(times).sort();
}

/**
 * The talker in a sound, hop by hop and aligned with it.
 * sound: an Int16Array per ear. Gives { sound, stepMs: sorted times of a step, hops }.
 */
async function extract(sound, patch, progress) {
  const engine = await openEngine(), { hop, delay } = MODEL, n = sound[0].length;
  engine.start(sound.length);
  engine.setVoice(patch);
  const hops = Math.ceil((n + delay) / hop);
  const padded = sound.map((ear) => { const room = new Int16Array(hops * hop); room.set(ear); return room; });
  const stepMs = await inSlices(hops, (t) => {
    padded.forEach((ear, e) => engine.sound.set(ear.subarray(t * hop, (t + 1) * hop), e * hop));
    engine.process();
    padded.forEach((ear, e) => ear.set(engine.sound.subarray(e * hop, (e + 1) * hop), t * hop));
  }, progress);
  return { sound: padded.map((ear) => ear.slice(delay, delay + n)), stepMs, hops };
}

/** Band levels of a sound (-1: -90 dB, 1: -10 dB), as [hops * bands]; its ears' levels are averaged. */
async function bandLevels(sound) {
  const engine = await openEngine(), { hop, window, bands } = MODEL;
  const hops = Math.ceil(sound[0].length / hop), out = new Float32Array(hops * bands);
  for (const ear of sound) {
    const scale = ear instanceof Int16Array ? 1 : RADIX;
    const padded = new Float32Array(window - hop + hops * hop);
    for (let i = 0; i < ear.length; i++) padded[window - hop + i] = ear[i] * scale;
    await inSlices(hops, (t) => {
      engine.window.set(padded.subarray(t * hop, t * hop + window));
      engine.measure();
      for (let b = 0; b < bands; b++) out[t * bands + b] += engine.levels[b] / sound.length;
    });
  }
  return out;
}
