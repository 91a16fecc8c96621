"use strict";
/* The page checks itself: integers of the golden frames, sound that C made elsewhere, voices that Python made. */

/** Golden frames through the network: how many of them differ anywhere. */
async function checkGolden(progress) {
  const engine = await openEngine(), features = new Int8Array(bytesOf(GOLDEN.features).buffer);
  const wanted = new Int8Array(bytesOf(GOLDEN.moves).buffer), n = MODEL.features, m = MODEL.moves;
  engine.start(1);
  let differ = 0;
  await inSlices(GOLDEN.frames, (t) => {
    engine.features.set(features.subarray(t * n, (t + 1) * n));
    engine.network();
    if (engine.moves.some((value, i) => value !== wanted[t * m + i])) differ++;
  }, progress);
  return { frames: GOLDEN.frames, differ };
}

/** The built-in mixtures through the whole chain: how many hops and samples differ from what C made when the page was built. */
async function checkSound(progress) {
  let frames = 0, framesDiffer = 0, samples = 0, samplesDiffer = 0;
  for (const [i, mixture] of SOUNDS.mixtures.entries()) {
    const talker = SOUNDS.talkers.find(({ name }) => name === mixture.talker);
    const made = await extract(earsOf(mixture.sound, mixture.ears), bytesOf(talker.patch), (part) => progress((i + part) / SOUNDS.mixtures.length));
    frames += made.hops;
    const differing = new Set();
    earsOf(mixture.made_by_c, mixture.ears).forEach((ear, e) => ear.forEach((wanted, at) => {
      samples++;
      if (made.sound[e][at] === wanted) return;
      samplesDiffer++;
      differing.add(Math.floor(at / MODEL.hop));
    }));
    framesDiffer += differing.size;
  }
  return { frames, framesDiffer, samples, samplesDiffer };
}

/** The built-in talkers enrolled here: the least cosine with the voices that Python made. */
async function checkVoices(progress) {
  let least = 1;
  for (const [i, talker] of SOUNDS.talkers.entries()) {
    const { channels } = await decode(bytesOf(talker.clip), `${talker.name}-enroll.flac`);
    const { embedding } = await enroll(channels, talker.name);
    least = Math.min(least, dot(embedding, floatsOf(talker.embedding)));
    progress((i + 1) / SOUNDS.talkers.length);
  }
  return { voices: SOUNDS.talkers.length, least };
}

/** Planar samples of a generated file as an array of ears. */
function earsOf(base64, ears) {
  const samples = samplesOf(base64), n = samples.length / ears;
  return Array.from({ length: ears }, (_, e) => samples.slice(e * n, (e + 1) * n));
}
