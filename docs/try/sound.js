"use strict";
/* Sound files in and out, all at the model's rate, and a player that changes between takes of the same moment. */

const LONGEST_S = 600;
const SILENCE = 10 ** (-90 / 20);

/** Rates at which every browser decodes, and the one for files that do not state theirs in a way that is read here. */
const DECODED_HZ = [8000, 96000], USUAL_HZ = 48000;

/** Zero crossings of the filter on each side, its cutoff as a share of the lower half rate, and the shape of its Kaiser window. */
const CROSSINGS = 48, CUTOFF = 0.96, KAISER = 10;

/** The rate that a WAV or FLAC file states, or null. */
function statedRate(bytes) {
  const head = new DataView(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 64));
  const letters = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length >= 28 && letters(0) === "RIFF" && letters(12) === "fmt ") return head.getUint32(24, true);
  if (bytes.length >= 22 && letters(0) === "fLaC") return head.getUint32(18) >>> 12;
  return null;
}

function besselI0(x) {
  let sum = 1, term = 1;
  for (let k = 1; term > 1e-12 * sum; k++) { term *= (x / (2 * k)) ** 2; sum += term; }
  return sum;
}

/**
 * A channel at another rate: windowed sinc, one row of taps for each of the phases; nothing moves in time. The browsers' own
 * resamplers take the highest of the bands away, and a voice with them (cosine 0.997 with that of Python, and 0.99999 with this one).
 */
async function resample(ear, fromHz, toHz) {
  if (fromHz === toHz) return ear;
  const common = ((a, b) => { while (b) [a, b] = [b, a % b]; return a; })(fromHz, toHz);
  const phases = toHz / common, step = fromHz / common, cutoff = CUTOFF * Math.min(1, toHz / fromHz);
  const reach = Math.ceil(CROSSINGS / cutoff), width = 2 * reach, rows = new Float32Array(phases * width);
  for (let phase = 0; phase < phases; phase++) {
    for (let i = 0; i < width; i++) {
      const x = i - reach + 1 - ((phase * step) % phases) / phases, inside = 1 - (x / reach) ** 2;
      const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
      rows[phase * width + i] = inside > 0 ? (cutoff * sinc * besselI0(KAISER * Math.sqrt(inside))) / besselI0(KAISER) : 0;
    }
  }
  const out = new Float32Array(Math.ceil((ear.length * toHz) / fromHz));
  for (let n = 0; n < out.length; n++) {
    const first = Math.floor((n * step) / phases) - reach + 1, row = (n % phases) * width;
    let sum = 0;
    for (let i = Math.max(0, -first), end = Math.min(width, ear.length - first); i < end; i++) sum += rows[row + i] * ear[first + i];
    out[n] = sum;
    if (n % 8192 === 8191) await breathe();
  }
  return out;
}

/** A sound file as channels at the model's rate: { channels, remarks }. EdgeTseError for what is none, too long, or silent. */
async function decode(bytes, name) {
  const { rate_hz, ears } = MODEL, remarks = [];
  if (!bytes.length) throw new EdgeTseError(`${name} is empty: 0 bytes; choose another file`);
  const stated = statedRate(bytes), decodedHz = stated >= DECODED_HZ[0] && stated <= DECODED_HZ[1] ? stated : USUAL_HZ;
  let buffer;
  try {
    buffer = await new OfflineAudioContext(1, 1, decodedHz).decodeAudioData(bytes.slice().buffer);
  } catch {
    throw new EdgeTseError(`${name} is not a sound file that this browser reads: give WAV, FLAC, MP3 or Ogg`);
  }
  if (buffer.numberOfChannels > ears) {
    throw new EdgeTseError(`${name} has ${buffer.numberOfChannels} channels, at most ${ears} (left, right) are possible: keep two`);
  }
  if (buffer.duration > LONGEST_S) {
    throw new EdgeTseError(`${name} has ${buffer.duration.toFixed(0)} s, at most ${LONGEST_S} s are taken here: cut it, or use edge-tse extract`);
  }
  if (!buffer.length) throw new EdgeTseError(`${name} is empty: 0 samples; record it again`);
  const channels = [];
  for (let i = 0; i < buffer.numberOfChannels; i++) channels.push(await resample(buffer.getChannelData(i), decodedHz, rate_hz));
  checkHeard(channels, name);
  if (stated !== null && stated !== rate_hz) remarks.push(`resampled from ${stated} to ${rate_hz} Hz`);
  return { channels, remarks };
}

const peakOf = (channels) => channels.reduce((most, ear) => ear.reduce((m, x) => Math.max(m, Math.abs(x)), most), 0);

function checkHeard(channels, name) {
  if (peakOf(channels) < SILENCE) throw new EdgeTseError(`${name} is silent: every sample is below -90 dBFS; look at the microphone`);
}

/** Ears further apart than this are no pair (edge_tse/condition.py): the dead one's noise would be taken for a direction. */
const DEAD_DB = 18;

/** Float channels as 16 bits within full scale, mono where one ear is dead: { sound, remarks }. */
function roundTo16Bits(channels) {
  const remarks = [], peak = peakOf(channels), gain = Math.min(1, 1 / Math.max(peak, 1e-9));
  if (channels.length === 2) {
    const [left, right] = channels.map((ear) => ear.reduce((sum, x) => sum + x * x, 1e-14));
    const apart = 10 * Math.log10(left / right);
    if (Math.abs(apart) >= DEAD_DB) {
      remarks.push(`the ${apart > 0 ? "right" : "left"} ear is ${Math.abs(apart).toFixed(0)} dB below the other and was left out`);
      channels = [channels[apart > 0 ? 0 : 1]];
    }
  }
  const full = (x) => Math.max(-RADIX, Math.min(RADIX - 1, nearest(x * gain * RADIX)));
  return { sound: channels.map((ear) => Int16Array.from(ear, full)), remarks };
}

/** WAV file of 16-bit channels. */
function wavOf(sound, rateHz) {
  const [n, ears] = [sound[0].length, sound.length], bytes = 2 * n * ears, out = new DataView(new ArrayBuffer(44 + bytes));
  const letters = (at, text) => [...text].forEach((letter, i) => out.setUint8(at + i, letter.charCodeAt(0)));
  letters(0, "RIFF");
  out.setUint32(4, 36 + bytes, true);
  letters(8, "WAVEfmt ");
  out.setUint32(16, 16, true);
  out.setUint16(20, 1, true);
  out.setUint16(22, ears, true);
  out.setUint32(24, rateHz, true);
  out.setUint32(28, 2 * rateHz * ears, true);
  out.setUint16(32, 2 * ears, true);
  out.setUint16(34, 16, true);
  letters(36, "data");
  out.setUint32(40, bytes, true);
  for (let i = 0, at = 44; i < n; i++) for (let e = 0; e < ears; e++, at += 2) out.setInt16(at, sound[e][i], true);
  return new Blob([out.buffer], { type: "audio/wav" });
}

/** SI-SDR in dB of 16-bit channels (equation 2 of Le Roux et al. 2019), mean over the ears; null for a silent reference. */
function siSdr(estimate, reference) {
  const ears = reference.map((target, e) => {
    let power = 0, shared = 0;
    for (let i = 0; i < target.length; i++) { power += target[i] ** 2; shared += target[i] * estimate[e][i]; }
    const scale = shared / power;
    let rest = 0;
    for (let i = 0; i < target.length; i++) rest += (estimate[e][i] - scale * target[i]) ** 2;
    return 10 * Math.log10((scale ** 2 * power) / rest);
  });
  const mean = ears.reduce((a, b) => a + b) / ears.length;
  return Number.isFinite(mean) ? mean : null;
}

const OPENING_S = 5;

/** Let an AudioContext run. Where there is nothing to play on, browsers wait for it without an end and without a word. */
async function begin(context) {
  const late = new Promise((_, reject) => setTimeout(reject, 1000 * OPENING_S, new EdgeTseError(
    `the sound output did not open within ${OPENING_S} s: connect headphones and try again`)));
  await Promise.race([context.resume(), late]);
}

/** A player of takes that run side by side, of which one is heard; changing cross-fades within 10 ms, at the same moment. */
class Player {
  #context = null;
  #takes = new Map();
  #sources = [];
  #gains = new Map();
  #heard = "";
  #at = 0;
  #began = null;

  /** ended: called when the sound is over. */
  constructor(ended) { this.ended = ended; }

  /** New takes, { name: 16-bit channels }, all of one length; from the beginning. */
  load(takes, heard) {
    this.pause();
    this.#takes = new Map(Object.entries(takes));
    this.#heard = heard;
    this.#at = 0;
  }

  get heard() { return this.#heard; }
  get playing() { return this.#began !== null; }
  get durationS() { const [take] = this.#takes.values(); return take ? take[0].length / MODEL.rate_hz : 0; }
  get positionS() {
    return this.playing ? Math.min(this.durationS, this.#at + this.#context.currentTime - this.#began) : this.#at;
  }

  async play() {
    if (this.playing || !this.#takes.size) return;
    this.#context ??= new AudioContext();
    await begin(this.#context);
    if (this.playing) return; // asked for twice while it began
    if (this.#at >= this.durationS) this.#at = 0;
    const start = this.#context.currentTime + 0.02;
    for (const [name, take] of this.#takes) {
      const buffer = this.#context.createBuffer(take.length, take[0].length, MODEL.rate_hz);
      take.forEach((ear, e) => buffer.copyToChannel(Float32Array.from(ear, (x) => x / RADIX), e));
      const source = new AudioBufferSourceNode(this.#context, { buffer });
      const gain = new GainNode(this.#context, { gain: name === this.#heard ? 1 : 0 });
      source.connect(gain).connect(this.#context.destination);
      source.start(start, this.#at);
      this.#sources.push(source);
      this.#gains.set(name, gain);
    }
    this.#began = start;
    this.#sources[0].onended = () => { this.pause(); this.#at = this.durationS; this.ended(); };
  }

  pause() {
    if (!this.playing) return;
    this.#at = Math.max(0, this.positionS);
    this.#began = null;
    for (const source of this.#sources) { source.onended = null; source.stop(); }
    this.#sources = [];
    this.#gains.clear();
  }

  hear(name) {
    this.#heard = name;
    for (const [take, gain] of this.#gains) gain.gain.setTargetAtTime(take === name ? 1 : 0, this.#context.currentTime, 0.003);
  }

  async seek(seconds) {
    const on = this.playing;
    this.pause();
    this.#at = Math.max(0, Math.min(this.durationS, seconds));
    if (on) await this.play();
  }
}
