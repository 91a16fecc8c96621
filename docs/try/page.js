"use strict";
/* The page: what is chosen, what is heard, and what is said about it. */

const $ = (id) => document.getElementById(id);

if (typeof SOUNDS === "undefined") {
  refuse("these are the sources of the page: run `make try` and open build/try/index.html");
  throw new Error("sounds.js is not here");
}

const sounds = SOUNDS.mixtures.map((mixture) => ({
  name: mixture.name, title: mixture.title, about: mixture.about, talkers: mixture.heard, ears: () => earsOf(mixture.sound, mixture.ears),
  alone: (talker) => aloneIn(mixture, talker),
}));
const talkers = SOUNDS.talkers.map(({ name, title, patch }) => ({ name, title, patch: bytesOf(patch) }));
const chosen = { sound: sounds[0], talker: talkers[0] };
const shown = { before: null, after: null, made: null };
let running = 0; // the newest extraction; older ones throw their result away

/** The talker alone in a built-in mixture, or null: of two, each is the mixture less the other. */
function aloneIn(mixture, talker) {
  if (!mixture.heard.includes(talker)) return null;
  const reference = earsOf(mixture.reference, mixture.ears);
  if (talker === mixture.talker) return reference;
  return earsOf(mixture.sound, mixture.ears).map((ear, e) => ear.map((value, i) => value - reference[e][i]));
}

const player = new Player(showPosition);

function say(text) {
  $("status").textContent = text;
  refuse("");
}

function refuse(text) {
  $("refusal").textContent = text;
  $("refusal").hidden = !text;
}

/** Run what a person asked for; an error of theirs or of the world is one line, anything else is ours and says so. */
async function attempt(task) {
  try {
    refuse("");
    return await task();
  } catch (failure) {
    $("progress").hidden = true;
    $("status").textContent = "";
    if (!(failure instanceof EdgeTseError)) console.error(failure);
    refuse(failure instanceof EdgeTseError ? failure.message : `a mistake of this page: ${failure.message}; reload it, and please report it`);
    return null;
  }
}

function showProgress(part) {
  $("progress").hidden = part >= 1;
  $("progress").value = part;
}

/** Radio buttons for a list of things with a name and a title. One that had the keyboard's focus passes it on to its successor. */
function showOptions(place, name, list, current, choose) {
  const focused = place.contains(document.activeElement);
  place.replaceChildren(...list.map((thing) => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, { type: "radio", name, value: thing.name, checked: thing === current });
    input.addEventListener("change", () => choose(thing));
    label.append(input, thing.title);
    return label;
  }));
  if (focused) place.querySelector("input:checked").focus();
}

function showChoices() {
  showOptions($("sounds").querySelector(".options"), "sound", sounds, chosen.sound, chooseSound);
  showOptions($("talkers").querySelector(".options"), "talker", talkers, chosen.talker, chooseTalker);
  const { sound, talker } = chosen;
  const absent = sound.talkers.length && talkers.indexOf(talker) < SOUNDS.talkers.length && !sound.talkers.includes(talker.name);
  $("about").textContent = absent ? `${talker.title} is not in this sound: all that is heard is what the engine could not remove.` : sound.about;
}

function chooseSound(sound) {
  chosen.sound = sound;
  const builtIn = SOUNDS.talkers.some(({ name }) => name === chosen.talker.name);
  if (builtIn && sound.talkers.length && !sound.talkers.includes(chosen.talker.name)) {
    chosen.talker = talkers.find(({ name }) => sound.talkers.includes(name)) ?? chosen.talker;
  }
  showChoices();
  return attempt(run);
}

function chooseTalker(talker) {
  chosen.talker = talker;
  showChoices();
  live?.session.setVoice(talker.patch);
  return attempt(run);
}

/** Extract what is chosen, and show it. */
async function run() {
  const own = ++running, { sound, talker } = chosen, before = sound.ears();
  player.pause();
  showPlaying();
  say(`Extracting from ${(before[0].length / MODEL.rate_hz).toFixed(1)} s of sound…`);
  const made = await extract(before, talker.patch, (part) => own === running && showProgress(part));
  if (own !== running) return;
  const alone = sound.alone(talker.name);
  const heard = player.heard || "mixture", takes = { mixture: before, talker: made.sound, ...(alone && { alone }) };
  player.load(takes, heard in takes ? heard : "mixture");
  showTakes(Object.keys(takes));
  shown.made = made.sound;
  for (const id of ["play", "position", "save"]) $(id).disabled = false;
  $("position").max = player.durationS;
  showPosition();
  const levels = { before: await bandLevels(before), after: await bandLevels(made.sound) };
  if (own !== running) return;
  Object.assign(shown, levels);
  draw();
  showFigures(made, alone && [siSdr(before, alone), siSdr(made.sound, alone)]);
  say(`${talker.title} out of “${sound.title}”: ready. Press Play, then change from mixture to talker.`);
}

function showFigures({ sound, stepMs, hops }, scores) {
  const middle = stepMs[Math.floor(stepMs.length / 2)], total = stepMs.reduce((a, b) => a + b) / stepMs.length;
  const hopMs = (1000 * MODEL.hop) / MODEL.rate_hz, signed = (db) => `${db < 0 ? "−" : "+"}${Math.abs(db).toFixed(1)} dB`;
  const figures = [
    [`${middle.toFixed(2)} ms`, `compute per ${hopMs} ms hop, p50 of ${hops.toLocaleString("en")} hops, ${sound.length === 1 ? "one ear" : "two ears"}`],
    [`${(hopMs / total).toFixed(0)} ×`, "faster than real time, this browser"],
    [`${(1000 * MODEL.synthesis) / MODEL.rate_hz} ms`, "algorithmic latency"],
    [`${Math.ceil(MODEL.weight_bytes / 1000).toLocaleString("en")} kB`, "int8 constants"],
  ];
  if (scores?.every((db) => db !== null)) figures.unshift([signed(scores[1] - scores[0]), "SI-SDR, talker over mixture"]);
  $("figures").replaceChildren(...figures.map(([value, label]) => {
    const card = document.createElement("div"), strong = document.createElement("strong"), span = document.createElement("span");
    strong.textContent = value;
    span.textContent = label;
    card.append(strong, span);
    return card;
  }));
}

const TAKES = { mixture: "A: mixture", talker: "B: talker", alone: "C: alone" };

function showTakes(names) {
  const takes = names.map((name) => ({ name, title: TAKES[name] }));
  showOptions($("takes"), "take", takes, takes.find(({ name }) => name === player.heard), ({ name }) => player.hear(name));
}

function draw() {
  if (!shown.after) return;
  drawLevels($("before"), shown.before);
  drawLevels($("after"), shown.after);
  showPosition();
}

function showPosition() {
  const at = player.positionS, all = player.durationS;
  if (document.activeElement !== $("position") || player.playing) $("position").value = at;
  $("position").setAttribute("aria-valuetext", `${at.toFixed(1)} of ${all.toFixed(1)} seconds`);
  $("time").textContent = `${at.toFixed(1)} of ${all.toFixed(1)} s`;
  for (const line of document.querySelectorAll(".picture i")) line.style.transform = `translateX(${(at / (all || 1)) * line.parentElement.clientWidth}px)`;
  showPlaying();
}

function showPlaying() {
  $("play").textContent = player.playing ? "Pause" : "Play";
}

let drawing = 0; // one follower, however often one asks for it

function follow() {
  cancelAnimationFrame(drawing);
  if (!player.playing) return;
  showPosition();
  drawing = requestAnimationFrame(follow);
}

function seek(seconds) {
  return attempt(async () => {
    await player.seek(seconds);
    showPosition();
    follow();
  });
}

async function playOrPause() {
  if (player.playing) player.pause();
  else await player.play();
  showPlaying();
  follow();
}

function hear(name) {
  const input = document.querySelector(`#takes input[value="${name}"]`);
  if (!input) return;
  input.checked = true;
  player.hear(name);
}

/** A file to hear the talker in. */
function openSound(file) {
  return attempt(async () => {
    say(`Reading ${file.name}…`);
    const { channels, remarks } = await decode(new Uint8Array(await file.arrayBuffer()), file.name);
    const { sound, remarks: more } = roundTo16Bits(channels);
    const own = { name: `file ${sounds.length}`, title: file.name, about: tell([...remarks, ...more]), talkers: [], ears: () => sound, alone: () => null };
    sounds.push(own);
    await chooseSound(own);
  });
}

const tell = (remarks) => (remarks.length ? `${remarks.join("; ")}.` : "");

/** A recording of one talker alone: float channels. */
async function enrollTalker(channels, title, remarks = []) {
  say(`Enrolling from ${title}…`);
  const began = performance.now(), made = await enroll(channels, title);
  const talker = { name: `own ${talkers.length}`, title, patch: made.patch };
  talkers.push(talker);
  const took = ((performance.now() - began) / 1000).toFixed(1);
  await chooseTalker(talker);
  $("about").textContent = `A voice from ${made.speechS.toFixed(1)} s of speech in ${title}, enrolled here in ${took} s. ` +
    tell([...remarks, ...made.remarks]);
}

function openTalker(file) {
  return attempt(async () => {
    say(`Reading ${file.name}…`);
    const { channels, remarks } = await decode(new Uint8Array(await file.arrayBuffer()), file.name);
    await enrollTalker(channels, file.name, remarks);
  });
}

const RECORDING_S = 10;
let recording = null; // the one that goes on, and whether it was asked to end

async function record() {
  if (recording) { recording.over = true; return; }
  const own = recording = { over: false };
  await attempt(async () => {
    try {
      const channels = await recordVoice(RECORDING_S, (seconds, peak) => {
        // Once, and what changes beside it: a status is read aloud whenever it changes, into the recording.
        if ($("record").textContent !== "Stop") say("Recording: talk as usual, alone and near the microphone.");
        $("record").textContent = "Stop";
        $("record-level").textContent = `${Math.max(0, RECORDING_S - seconds).toFixed(0)} s left, ` +
          `peak ${peak > 0 ? (20 * Math.log10(peak)).toFixed(0) : "below -90"} dBFS`;
      }, () => own.over);
      showRecorder();
      if (own.over && !channels[0].length) { say(""); return; } // ended before it began
      if (!channels[0].length) throw new EdgeTseError("the microphone gave no sound: look at it and try again");
      checkHeard(channels, "the recording");
      await enrollTalker(channels, `my recording ${talkers.length - SOUNDS.talkers.length + 1}`);
    } finally {
      recording = null;
      showRecorder();
    }
  });
}

function showRecorder() {
  $("record").textContent = `Record ${RECORDING_S} s`;
  $("record-level").textContent = "";
}

let live = null, opening = false;

async function listen() {
  if (opening) return; // the browser still asks for the microphone: a second one would never be closed
  if (live) {
    const { session } = live;
    live = null;
    $("live").textContent = "Start listening";
    $("meters").hidden = true;
    $("live-ears").disabled = false;
    await session.stop();
    return;
  }
  opening = true;
  await attempt(async () => {
    const dbfs = (peak) => Math.max(-60, 20 * Math.log10(peak + 1e-9)), ears = $("live-ears").checked ? 2 : 1;
    // A meter rises at once and falls so slowly that an eye can follow.
    const meter = (id, peak) => { $(id).value = Math.max(dbfs(peak), $(id).value - 3); };
    const session = await startLive(chosen.talker.patch, ears, ({ peak }) => {
      meter("meter-in", peak[0]);
      meter("meter-out", peak[1]);
    });
    live = { session };
    session.setVoice(chosen.talker.patch); // another, if it was chosen meanwhile
    session.hear($("live-talker").checked);
    $("live").textContent = "Stop listening";
    $("meters").hidden = false;
    $("live-ears").disabled = true;
    $("live-status").textContent = `${ears === 1 ? "one ear" : "two ears"}; this browser states ${session.latencyMs.toFixed(0)} ms from the engine to the headphones`;
  });
  opening = false;
}

async function check() {
  $("check").disabled = true;
  $("check-progress").hidden = false;
  const began = performance.now();
  const part = (i) => (done) => { $("check-progress").value = (i + done) / 3; };
  await attempt(async () => {
    const golden = await checkGolden(part(0)), sound = await checkSound(part(1)), voices = await checkVoices(part(2));
    const frames = golden.frames + sound.frames, differ = golden.differ + sound.framesDiffer, number = (n) => n.toLocaleString("en");
    const rows = [
      ["Together", `${number(differ)} of ${number(frames)} frames differ on this browser`, differ === 0],
      ["Golden frames", `${number(golden.differ)} of ${number(golden.frames)} differ in any of ${MODEL.moves} integers`, golden.differ === 0],
      ["Sound of the C library", `${number(sound.samplesDiffer)} of ${number(sound.samples)} samples differ, in ${number(sound.framesDiffer)} of ${number(sound.frames)} frames`, sound.samplesDiffer === 0],
      ["Voices of Python", `${voices.voices} talkers enrolled here: cosine ${(Math.floor(voices.least * 1e7) / 1e7).toFixed(7)} at least (0.9999 is expected)`, voices.least >= 0.9999],
      ["Engine", `model ${MODEL.name}, ${MODEL.id.slice(0, 12)}, in ${((performance.now() - began) / 1000).toFixed(1)} s`, true],
    ];
    $("checks").tBodies[0].replaceChildren(...rows.map(([name, value, good]) => {
      const row = document.createElement("tr");
      row.className = good ? "" : "no";
      for (const text of [name, value]) row.insertCell().textContent = text;
      return row;
    }));
    $("checks").hidden = false;
  });
  $("check").disabled = false;
  $("check-progress").hidden = true;
}

function takeDrops(place, open) {
  for (const kind of ["dragenter", "dragover"]) place.addEventListener(kind, (event) => { event.preventDefault(); place.classList.add("over"); });
  for (const kind of ["dragleave", "drop"]) place.addEventListener(kind, () => place.classList.remove("over"));
  place.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) open(file);
  });
}

function wire() {
  showChoices();
  for (const [id, open] of [["sound-file", openSound], ["talker-file", openTalker]]) {
    $(id).addEventListener("change", async (event) => {
      const [file] = event.target.files;
      if (file) await open(file);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
  takeDrops($("sounds"), openSound);
  takeDrops($("talkers"), openTalker);
  // A file that misses both fields would replace the page.
  for (const kind of ["dragover", "drop"]) globalThis.addEventListener(kind, (event) => event.preventDefault());
  $("play").addEventListener("click", () => attempt(playOrPause));
  $("record").addEventListener("click", record);
  $("live").addEventListener("click", listen);
  $("live-talker").addEventListener("change", (event) => live?.session.hear(event.target.checked));
  $("check").addEventListener("click", check);
  $("position").addEventListener("input", (event) => seek(Number(event.target.value)));
  $("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(wavOf(shown.made, MODEL.rate_hz));
    link.download = "talker.wav";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
  for (const id of ["before", "after"]) {
    $(id).addEventListener("click", (event) => seek((event.offsetX / event.target.clientWidth) * player.durationS));
  }
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || $("play").disabled) return;
    const take = { a: "mixture", b: "talker", c: "alone" }[event.key.toLowerCase()];
    if (take) hear(take);
    // Space presses the button or ticks the box that has the focus.
    else if (event.key === " " && !event.target.closest("button, input, label, summary")) {
      event.preventDefault();
      attempt(playOrPause);
    }
  });
  new ResizeObserver(draw).observe($("before"));
  $("made").textContent = `Model ${MODEL.name}, ${MODEL.id.slice(0, 12)}.`;
  attempt(run);
}

wire();
