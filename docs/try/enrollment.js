"use strict";
/* A voice from a recording, as edge_tse/enrollment and edge_tse/voice.py make it: the same steps in the same order, with sums in
 * double precision where NumPy adds in single. The tests compare the embeddings of both. */

const POOL = 4;
const MIN_SPEECH_S = 2.0;
const ACTIVE_BELOW_PEAK = 0.75, ACTIVE_ABOVE_FLOOR = 0.1;
const SPEECH_MOVES_DB = 5.0;
const HUM_DB = -19.0, RUMBLE_HZ = 65.0, LINE_HZ = 2.0;
const LEAST_SPEECH_SHARE = 0.25;
/** More says no more about a voice, and the transform of it all takes memory. */
const LONGEST_CLIP_S = 60;
const BLOCK_S = 0.02, STRETCH_S = 1.5, CHANGING = 0.5;

/** Percentile between 0 and 100, as NumPy interpolates it. */
function percentile(values, percent) {
  const sorted = Float64Array.from(values).sort(), at = (percent / 100) * (sorted.length - 1), low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

/** Fourier transform in place, of a power of two; sign -1 forward, 1 inverse without its factor. */
function fourier(re, im, sign) {
  const n = re.length, half = n / 2, cosines = new Float64Array(half), sines = new Float64Array(half);
  for (let k = 0; k < half; k++) {
    cosines[k] = Math.cos((2 * Math.PI * k) / n);
    sines[k] = sign * Math.sin((2 * Math.PI * k) / n);
  }
  for (let i = 1, j = 0; i < n; i++) {
    let bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i >= j) continue;
    const r = re[i], m = im[i];
    re[i] = re[j];
    im[i] = im[j];
    re[j] = r;
    im[j] = m;
  }
  for (let reach = 1, turn = half; reach < n; reach *= 2, turn /= 2) {
    for (let start = 0; start < n; start += 2 * reach) {
      for (let a = start, b = start + reach, w = 0; a < start + reach; a++, b++, w += turn) {
        const c = cosines[w], s = sines[w], r = re[b] * c - im[b] * s, m = re[b] * s + im[b] * c;
        re[b] = re[a] - r;
        im[b] = im[a] - m;
        re[a] += r;
        im[a] += m;
      }
    }
  }
}

/** Transform of any length n (Bluestein 1970, as a convolution with a chirp). Returns [re, im]. */
function transform(re, im, sign) {
  const n = re.length;
  let size = 1;
  while (size < 2 * n) size *= 2;
  const chirp = [new Float64Array(n), new Float64Array(n)];
  const a = [new Float64Array(size), new Float64Array(size)], b = [new Float64Array(size), new Float64Array(size)];
  for (let k = 0; k < n; k++) {
    // k * k reduced before it is an angle: its cosine would lose digits otherwise.
    const angle = (Math.PI * ((k * k) % (2 * n))) / n, c = Math.cos(angle), s = sign * Math.sin(angle);
    chirp[0][k] = c;
    chirp[1][k] = s;
    a[0][k] = re[k] * c - im[k] * s;
    a[1][k] = re[k] * s + im[k] * c;
    for (const i of [k, (size - k) % size]) { b[0][i] = c; b[1][i] = -s; }
  }
  fourier(...a, -1);
  fourier(...b, -1);
  for (let k = 0; k < size; k++) {
    const r = a[0][k] * b[0][k] - a[1][k] * b[1][k];
    a[1][k] = a[0][k] * b[1][k] + a[1][k] * b[0][k];
    a[0][k] = r;
  }
  fourier(...a, 1);
  const out = [new Float64Array(n), new Float64Array(n)];
  for (let k = 0; k < n; k++) {
    const r = a[0][k] / size, i = a[1][k] / size;
    out[0][k] = r * chirp[0][k] - i * chirp[1][k];
    out[1][k] = r * chirp[1][k] + i * chirp[0][k];
  }
  return out;
}

/** Hz of bin k of n, negative ones as positive. */
const hzOf = (k, n) => (Math.min(k, n - k) * MODEL.rate_hz) / n;

/** Energy of a constant and of the mains over that of everything else, in dB, of the spectrum of a recording. */
function humDb([re, im]) {
  const n = re.length;
  let lines = 1e-14, rest = 1e-14;
  for (let k = 0; k <= n >> 1; k++) {
    const energy = re[k] ** 2 + im[k] ** 2, hz = hzOf(k, n);
    if ([0, 50, 60].some((line) => Math.abs(hz - line) < LINE_HZ)) lines += energy;
    else rest += energy;
  }
  return 10 * Math.log10(lines / rest);
}

function removeRumble([re, im]) {
  const n = re.length;
  for (let k = 0; k < n; k++) {
    const rise = Math.min(1, Math.max(0, (hzOf(k, n) - 0.9 * RUMBLE_HZ) / (0.3 * RUMBLE_HZ)));
    const gain = Math.sin((Math.PI / 2) * rise) ** 2;
    re[k] *= gain;
    im[k] *= gain;
  }
  return Float32Array.from(transform(re, im, 1)[0], (x) => x / n);
}

function blockLevels(ear, block) {
  const levels = new Float64Array(Math.floor(ear.length / block));
  for (let i = 0; i < levels.length; i++) {
    let sum = 0;
    for (let j = i * block; j < (i + 1) * block; j++) sum += ear[j] ** 2;
    levels[i] = 10 * Math.log10(sum / block + 1e-14);
  }
  return levels;
}

/** A recording without a constant or the mains, and without long stretches in which nobody talks; with a remark on each. */
function prepare(ear) {
  const block = Math.round(BLOCK_S * MODEL.rate_hz), remarks = [];
  if (ear.length < block) return { ear, remarks };
  const spectrum = transform(Float64Array.from(ear), new Float64Array(ear.length), -1);
  const hum = humDb(spectrum);
  let clean = ear;
  if (hum > HUM_DB) {
    clean = removeRumble(spectrum);
    remarks.push(`a constant or hum is ${(-hum).toFixed(0)} dB below the rest and was taken out`);
  }
  const levels = blockLevels(clean, block), peak = percentile(levels, 99);
  const loud = Array.from(levels, (level) => level > peak - 30), share = loud.filter(Boolean).length / loud.length;
  if (share >= LEAST_SPEECH_SHARE) return { ear: clean, remarks };
  remarks.push(`somebody talks in ${Math.round(100 * share)} % of the recording: the rest was cut away`);
  const reach = Math.round(0.3 / BLOCK_S); // words begin and end softly
  const near = loud.map((_, i) => loud.slice(Math.max(0, i - reach), i + reach + 1).some(Boolean));
  const kept = near.flatMap((is, i) => (is ? Array.from(clean.subarray(i * block, (i + 1) * block)) : []));
  return { ear: Float32Array.from(kept), remarks };
}

/** Pooled levels of the frames that hold speech, without their mean: an array of rows of bands. */
function activeLevels(levels) {
  const { bands } = MODEL, frames = Math.floor(levels.length / bands / POOL), pooled = [];
  for (let f = 0; f < frames; f++) {
    const row = new Float64Array(bands);
    for (let i = 0; i < POOL; i++) for (let b = 0; b < bands; b++) row[b] += levels[(f * POOL + i) * bands + b] / POOL;
    pooled.push(row);
  }
  if (!frames) return pooled;
  const loudest = Math.ceil(bands / 4);
  const loudness = pooled.map((row) => Float64Array.from(row).sort().subarray(-loudest).reduce((a, b) => a + b) / loudest);
  const peak = percentile(loudness, 95);
  const active = pooled.filter((_, f) => loudness[f] > peak - ACTIVE_BELOW_PEAK && loudness[f] > -1 + ACTIVE_ABOVE_FLOOR);
  const mean = active.reduce((sum, row) => sum + row.reduce((a, b) => a + b), 0) / (active.length * bands);
  return active.map((row) => row.map((x) => x - mean));
}

/** Standard deviation of levels in dB, without the movement common to all bands and each band's mean. */
function movementDb(rows) {
  const { bands } = MODEL, byBand = new Float64Array(bands);
  const byRow = rows.map((row) => row.reduce((a, b) => a + b) / bands);
  for (const row of rows) row.forEach((x, b) => { byBand[b] += x / rows.length; });
  const mean = byBand.reduce((a, b) => a + b) / bands;
  let square = 0;
  rows.forEach((row, t) => row.forEach((x, b) => { square += (x - byRow[t] - byBand[b] + mean) ** 2; }));
  return 40 * Math.sqrt(square / (rows.length * bands));
}

const weights = new Map();

/** An array of the voice model by name, dequantized: { data, rows, columns }. */
function weight(name) {
  if (!weights.size) {
    const bytes = bytesOf(MODEL.encoder.bytes), { arrays } = MODEL.encoder;
    const read = ({ kind, shape, at }) => {
      const Type = kind === "int8" ? Int8Array : Float32Array;
      return new Type(bytes.buffer, at, shape.reduce((a, b) => a * b, 1));
    };
    for (const [key, place] of Object.entries(arrays)) {
      if (key.endsWith(".scale")) continue;
      const [rows, columns = 1] = place.shape, scale = arrays[`${key}.scale`], data = Float32Array.from(read(place));
      if (scale) {
        const factors = read(scale);
        for (let i = 0; i < data.length; i++) data[i] *= factors[Math.floor(i / columns)];
      }
      weights.set(key, { data, rows, columns });
    }
  }
  return weights.get(name);
}

/** A layer on one vector; four sums at a time, which is what makes it fast. */
function layer(name, x) {
  const { data, rows, columns } = weight(`${name}.weight`), bias = weight(`${name}.bias`).data, out = Float64Array.from(bias);
  for (let o = 0; o + 4 <= rows; o += 4) {
    const first = o * columns, second = first + columns, third = second + columns, fourth = third + columns;
    let a = 0, b = 0, c = 0, d = 0;
    for (let i = 0; i < columns; i++) {
      const v = x[i];
      a += data[first + i] * v;
      b += data[second + i] * v;
      c += data[third + i] * v;
      d += data[fourth + i] * v;
    }
    out[o] += a;
    out[o + 1] += b;
    out[o + 2] += c;
    out[o + 3] += d;
  }
  for (let o = rows - (rows % 4); o < rows; o++) for (let i = 0; i < columns; i++) out[o] += data[o * columns + i] * x[i];
  return out;
}

const relu = (x) => { for (let i = 0; i < x.length; i++) if (x[i] < 0) x[i] = 0; return x; };
const length = (x) => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
const dot = (x, y) => x.reduce((sum, v, i) => sum + v * y[i], 0);

/** Rows of active levels to a unit vector. */
async function embed(rows) {
  let x = rows.map((row) => relu(layer("encoder.stem", row)));
  for (let i = 0; i < MODEL.encoder.blocks; i++) {
    const name = `encoder.block.${i}`, taps = weight(`${name}.depthwise.weight`).data, bias = weight(`${name}.depthwise.bias`).data;
    const dilation = 2 ** i, before = x;
    x = [];
    for (let t = 0; t < before.length; t++) {
      const h = Float64Array.from(bias);
      for (let k = 0; k < 3; k++) {
        const tap = before[t + (k - 1) * dilation];
        if (tap) for (let c = 0; c < h.length; c++) h[c] += tap[c] * taps[3 * c + k];
      }
      const added = layer(`${name}.project`, relu(layer(`${name}.expand`, h)));
      x.push(before[t].map((v, c) => v + added[c]));
      await breathe();
    }
  }
  const scores = x.map((row) => layer("encoder.score", layer("encoder.attend", row).map(Math.tanh)));
  const channels = x[0].length, statistics = new Float64Array(2 * channels);
  for (let c = 0; c < channels; c++) {
    const top = scores.reduce((most, row) => Math.max(most, row[c]), -Infinity);
    let total = 0, mean = 0, square = 0;
    x.forEach((row, t) => {
      const share = Math.exp(scores[t][c] - top);
      total += share;
      mean += share * row[c];
      square += share * row[c] ** 2;
    });
    mean /= total;
    statistics[c] = mean;
    statistics[channels + c] = Math.sqrt(Math.max(square / total - mean ** 2, 1e-5));
  }
  const e = layer("encoder.out", statistics), norm = length(e);
  return Float32Array.from(e, (v) => v / norm);
}

/** Patch for etse_set_voice: the constants of each modulated layer with this voice folded in, as voice_patch makes it. */
async function voicePatch(embedding) {
  const size = MODEL.patch_bytes, patch = new Uint8Array(size), write = new DataView(patch.buffer);
  const channels = (size - 28) / 8;
  patch.set([..."ETSV"].map((letter) => letter.charCodeAt(0)));
  write.setUint32(4, MODEL.patch_schema, true);
  for (let i = 0; i < 16; i++) patch[8 + i] = parseInt(MODEL.id.slice(2 * i, 2 * i + 2), 16);
  const grown = embedding.map((v) => v * Math.fround(Math.sqrt(embedding.length)));
  const code = relu(layer("code", grown));
  let at = 24;
  for (const node of MODEL.folded) {
    const raw = layer(`film.${node.slot}`, code), half = raw.length / 2;
    const own = floatsOf(node.weight_scale), bias = new Int32Array(bytesOf(node.bias).buffer);
    for (let c = 0; c < half; c++) {
      const scale = Math.fround(own[c] * Math.fround(Math.exp(Math.tanh(raw[c]))));
      const factor = Math.fround(Math.fround(Math.fround(node.input_scale) * scale) / Math.fround(node.output_scale));
      write.setFloat32(at + 4 * c, factor, true);
      write.setInt32(at + 4 * (channels + c), bias[c] + nearest(Math.fround(raw[half + c]) / (node.input_scale * scale)), true);
    }
    at += 4 * node.padded;
  }
  write.setUint32(size - 4, (await openEngine()).crc32(patch.subarray(0, size - 4)), true);
  return patch;
}

/** The least alike two stretches of speech; null if there are not two. */
async function leastAlike(rows, speechS) {
  const stretches = Math.max(1, Math.floor(speechS / STRETCH_S));
  if (stretches < 2) return null;
  const size = Math.floor(rows.length / stretches), longer = rows.length % stretches, voices = [];
  for (let i = 0, at = 0; i < stretches; i++) {
    const end = at + size + (i < longer ? 1 : 0);
    voices.push(await embed(rows.slice(at, end)));
    at = end;
  }
  return Math.min(...voices.flatMap((x, i) => voices.slice(0, i).map((y) => dot(x, y))));
}

/**
 * Enroll a recording: an array of channels at the model's rate, float with full scale 1.
 * Gives { embedding, patch, speechS, remarks }; EdgeTseError where it holds too little speech.
 */
async function enroll(channels, name) {
  const clipS = channels[0].length / MODEL.rate_hz;
  if (clipS > LONGEST_CLIP_S) {
    throw new EdgeTseError(`${name} has ${clipS.toFixed(0)} s, at most ${LONGEST_CLIP_S} s are enrolled here: cut it, or use edge-tse enroll`);
  }
  const energies = channels.map((ear) => ear.reduce((sum, v) => sum + v * v, 0));
  const better = channels[energies.indexOf(Math.max(...energies))];
  const { ear, remarks } = prepare(better);
  const rows = ear.length ? activeLevels(await bandLevels([ear])) : [];
  const speechS = (rows.length * POOL * MODEL.hop) / MODEL.rate_hz;
  if (speechS < MIN_SPEECH_S) {
    throw new EdgeTseError(
      `${name}: ${speechS.toFixed(1)} s of speech, at least ${MIN_SPEECH_S.toFixed(1)} s are needed: record a longer or louder clip`);
  }
  const moves = movementDb(rows);
  if (moves < SPEECH_MOVES_DB) {
    throw new EdgeTseError(`${name}: no speech found: band levels vary by ${moves.toFixed(1)} dB, speech varies by at least ` +
      `${SPEECH_MOVES_DB.toFixed(1)} dB: record the talker alone`);
  }
  const embedding = await embed(rows), alike = await leastAlike(rows, speechS);
  if (alike !== null && alike < CHANGING) {
    remarks.push(`two people seem to talk: similarity between segments is ${alike.toFixed(2)}, one talker gives at least ` +
      `${CHANGING.toFixed(2)}: record one talker`);
  }
  return { embedding, patch: await voicePatch(embedding), speechS, remarks };
}
