"use strict";
// The page asks the studio for everything and decides nothing about sound: what a control does is a command of docs/live.md.

const token = new URLSearchParams(location.search).get("token");
const $ = id => document.getElementById(id);
const BANDS_HZ = [250, 500, 1000, 1500, 2000, 3000, 4000, 6000];
const thresholds = [BANDS_HZ.map(() => 0), BANDS_HZ.map(() => 0)];
const GONE = "the studio does not answer: start it again, and open the address that it prints";
let socket = null, settings = {}, taken = false, resting = 0;

async function ask(path, asked) {
  const options = asked === undefined ? {} : { method: "POST", body: asked instanceof File ? asked : JSON.stringify(asked) };
  const answer = await fetch(path, { ...options, headers: { "x-token": token } }).catch(() => { throw new Error(GONE); });
  const found = await answer.json().catch(() => ({ error: `a mistake of the studio (status ${answer.status}): please report it` }));
  if (!answer.ok) throw new Error(found.error);
  return found;
}

function trouble(text) {
  $("trouble").textContent = text;
  $("trouble").hidden = !text;
}

async function attempt(work, button) {
  trouble("");
  if (button) button.disabled = true;
  try { return await work(); }
  catch (failure) { trouble(failure.message); }
  finally { if (button) button.disabled = false; }
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// What there is to choose from

async function refresh() {
  const state = await ask("/api/state");
  const chosen = new Set(pickedVoices());
  $("voices").replaceChildren(...state.voices.map((name, i) => {
    const row = element("div"), label = element("label"), box = element("input", undefined, { type: "checkbox", value: name });
    box.checked = chosen.size ? chosen.has(name) : i === 0;
    label.append(box, " " + name);
    const remove = element("button", "Delete", { type: "button", "aria-label": `Delete the voice ${name}` });
    remove.onclick = () => confirm(`Overwrite and delete the voice ${name}?`) &&
      attempt(async () => { await ask("/api/delete-voice", { name }); await refresh(); }, remove);
    row.append(label, remove);
    return row;
  }));
  if (!state.voices.length) $("voices").textContent = "No voice yet: record one, or import a file.";
  choices("input", state.devices.filter(d => d.inputs), d => d.default_input);
  choices("output", state.devices.filter(d => d.outputs), d => d.default_output);
  if (!$("artifact").options.length) {
    $("artifact").append(...state.models.map(name => element("option", name, { value: name })));
    $("artifact").value = state.models.includes("small") ? "small" : state.models[0];
  }
  running(state.running);
  if (state.running && !socket) connect();
}

function choices(id, devices, preferred) {
  const kept = $(id).value;
  $(id).replaceChildren(...devices.map(d => element("option", `${d.name} (${d.host})`, { value: d.index })));
  const first = devices.find(preferred) || devices[0];
  $(id).value = kept || (first ? first.index : "");
  if (!devices.length) $(id).append(element("option", "no device: connect one, reload", { value: "" }));
}

const pickedVoices = () => [...document.querySelectorAll("#voices input:checked")].map(box => box.value);

$("record-voice").onsubmit = event => {
  event.preventDefault();
  const form = event.target, name = form.elements.name.value.trim();
  attempt(async () => {
    $("remarks").replaceChildren(element("li", `Recording ${name}: talk now, alone and as you usually do.`));
    const asked = { name, seconds: Number(form.elements.seconds.value), artifact: $("artifact").value };
    if ($("input").value) asked.input = $("input").value;
    await remarksOf(ask("/api/record-voice", asked));
  }, form.querySelector("button"));
};

$("bring").onchange = event => attempt(async () => {
  const [file] = event.target.files, name = $("record-voice").elements.name.value.trim() || file.name.replace(/\.\w+$/, "");
  event.target.value = "";
  const query = new URLSearchParams({ name, file: file.name, artifact: $("artifact").value });
  await remarksOf(ask(`/api/import-voice?${query}`, file));
});

async function remarksOf(made) {
  const { voice, remarks, quality } = await made;
  const score = typeof quality === "number" ? `, quality ${quality.toFixed(2)} of 1` : "";
  $("remarks").replaceChildren(element("li", `${voice} is enrolled${score}.`), ...remarks.map(text => element("li", text)));
  $("record-voice").elements.name.value = "";
  await refresh();
}

// Audiogram: points that the mouse or the arrow keys move

const AT = { left: 42, right: 425, top: 14, bottom: 220, low: -10, high: 110 };
const x = hz => AT.left + (AT.right - AT.left) * Math.log2(hz / 200) / Math.log2(7500 / 200);
const y = db => AT.top + (AT.bottom - AT.top) * (db - AT.low) / (AT.high - AT.low);

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawAudiogram(focus) {
  const chart = $("audiogram");
  chart.replaceChildren();
  for (let db = 0; db <= 100; db += 20) {
    chart.append(svg("line", { x1: AT.left, x2: AT.right, y1: y(db), y2: y(db) }), svg("text", { x: 8, y: y(db) + 4 }, db));
  }
  for (const hz of BANDS_HZ) chart.append(svg("text", { x: x(hz), y: 238, "text-anchor": "middle" }, hz >= 1000 ? hz / 1000 + "k" : hz));
  ["left", "right"].forEach((side, ear) => {
    chart.append(svg("polyline", { class: "ear" + ear, points: BANDS_HZ.map((hz, i) => `${x(hz)},${y(thresholds[ear][i])}`).join(" ") }));
    BANDS_HZ.forEach((hz, i) => {
      const db = thresholds[ear][i];
      const point = svg("circle", {
        class: "ear" + ear, cx: x(hz) + (ear ? 4 : -4), cy: y(db), r: 7, tabindex: 0, role: "slider", "aria-valuemin": -10, "aria-valuemax": 110,
        "aria-valuenow": db, "aria-label": `${side} ear, ${hz} Hz, dB HL`, id: `point-${ear}-${i}`,
      });
      const move = to => { thresholds[ear][i] = Math.max(-10, Math.min(110, Math.round(to / 5) * 5)); drawAudiogram(point.id); prescribe(); tellLoss(); };
      point.onkeydown = event => {
        const step = { ArrowUp: -5, ArrowDown: 5 }[event.key];
        if (step) { event.preventDefault(); move(thresholds[ear][i] + step); }
      };
      point.onpointerdown = event => {
        event.preventDefault();
        const drag = moved => {
          const box = chart.getBoundingClientRect(), at = (moved.clientY - box.top) * 250 / box.height;
          move(AT.low + (AT.high - AT.low) * (at - AT.top) / (AT.bottom - AT.top));
        };
        const ends = ["pointerup", "pointercancel"];
        const end = () => { removeEventListener("pointermove", drag); ends.forEach(kind => removeEventListener(kind, end)); };
        addEventListener("pointermove", drag);
        ends.forEach(kind => addEventListener(kind, end));
      };
      chart.append(point);
    });
  });
  chart.append(svg("text", { x: AT.right - 70, y: 214, class: "ear0" }, "left"), svg("text", { x: AT.right - 35, y: 214, class: "ear1" }, "right"),
    svg("text", { x: AT.left + 4, y: 214 }, "threshold in dB HL, over Hz"));
  if (focus) $(focus).focus();
}

const audiogram = () => thresholds.map(ear => BANDS_HZ.map((hz, i) => `${hz}:${ear[i]}`).join(",")).join(" / ");

function prescribe() {
  const asked = audiogram();
  attempt(async () => {
    const { hz, gain_db } = await ask("/api/prescribe", { audiogram: asked });
    if (asked !== audiogram() || !$("loss").checked) return; // the hand has moved on
    const said = gain_db.map((gains, ear) => `${["left", "right"][ear]} ${gains.map((gain, i) => `${hz[i]} Hz ${gain.toFixed(0)}`).join(", ")}`);
    $("prescribed").textContent = `Gain by NAL-R, dB: ${said.join("; ")}`;
  });
}

// A running session is told once the hand rests
let telling = 0;
function tellLoss() {
  clearTimeout(telling);
  telling = setTimeout(() => set({ audiogram: $("loss").checked ? audiogram() : "off" }), 150);
}

$("loss").onchange = () => {
  $("audiogram").toggleAttribute("hidden", !$("loss").checked);
  if ($("loss").checked) { drawAudiogram(); prescribe(); } else $("prescribed").textContent = "";
  tellLoss();
};

// The session

$("start").onclick = () => attempt(async () => {
  const asked = { voices: pickedVoices(), artifact: $("artifact").value, "margin-ms": Number($("margin-ms").value) };
  for (const id of ["input", "output"]) if ($(id).value) asked[id] = $(id).value;
  if ($("loss").checked) asked.audiogram = audiogram();
  $("lines").replaceChildren();
  tell("report", {});
  $("state").textContent = "starting";
  await ask("/api/start", asked).finally(() => { $("state").textContent = "not running"; });
  connect();
  running(true);
}, $("start")).then(() => { $("start").disabled = !$("stop").disabled; });

$("stop").onclick = () => attempt(async () => {
  const { report } = await ask("/api/stop", {});
  show(report);
  running(false);
}, $("stop")).then(() => { $("stop").disabled = $("live").hidden; });

function running(is) {
  $("start").disabled = is;
  $("stop").disabled = !is;
  $("live").hidden = !is;
  $("state").textContent = is ? "running" : "not running";
  if (!is && socket) { socket.close(); socket = null; }
}

function connect() {
  const opened = socket = new WebSocket(`ws://${location.host}/api/session?token=${encodeURIComponent(token)}`);
  // Not by us: the studio has ended, and says so by its silence.
  socket.onclose = () => { if (socket === opened) { running(false); attempt(refresh); } };
  socket.onmessage = event => {
    const told = JSON.parse(event.data);
    if (told.answer && !told.answer.ok) trouble(told.answer.error);
    for (const line of told.lines || []) { $("lines").append(element("li", line)); $("lines").lastChild.scrollIntoView({ block: "nearest" }); }
    if (told.status) meet(told.status);
    if (told.running === false) { running(false); attempt(async () => show((await ask("/api/stop", {})).report)); }
  };
}

const say = command => socket && socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(command));
const set = changed => say({ set: changed });
const pressed = (id, is) => $(id).setAttribute("aria-pressed", String(is));

function meet(status) {
  settings = status.settings;
  meters(status);
  picture("heard", status.spectra_db.heard);
  picture("played", status.spectra_db.played);
  if (!taken) {
    $("talker").value = settings.talker_db;
    $("ambient").value = settings.ambient_db === "off" ? -61 : settings.ambient_db;
    levels();
  }
  pressed("bypass", settings.bypass);
  pressed("mute", settings.mute);
  pressed("record", status.recording);
  switches(status);
  const health = status.health;
  const rows = {
    "in reserve": `${status.reserve_ms.toFixed(1)} of ${status.margin_ms.toFixed(0)} ms since the last look`,
    "microphone to ear": `${status.latency_ms.toFixed(1)} ms`,
    late: `${health.late_blocks} of ${health.blocks} blocks`,
    "not extracted": `${health.skipped_hops + health.failed_hops} of ${health.hops} hops`,
    "device lost sound": `${health.input_overruns + health.output_underruns} times`,
    time: `${status.seconds.toFixed(0)} s`,
  };
  tell("figures", rows);
}

// What is there is made anew when its names change; else only its text changes, so that a screen reader keeps its place
function renew(id, names, make) {
  const list = $(id), key = JSON.stringify(names);
  if (list.dataset.named !== key) {
    list.dataset.named = key;
    list.replaceChildren(...names.flatMap(make));
  }
  return list.children;
}

const write = (node, text) => { if (node.textContent !== text) node.textContent = text; };

function tell(id, rows) {
  const shown = renew(id, Object.keys(rows), term => [element("dt", term), element("dd")]);
  Object.values(rows).forEach((value, i) => write(shown[2 * i + 1], value));
}

function meters(status) {
  const ears = ["heard", "played"].flatMap(name => status.levels_db[name].map((db, ear) => ({ name, db, ear })));
  const shown = renew("meters", ears.map(({ name, ear }) => `${name} ${["left", "right"][ear]}`), label =>
    [element("span", label), element("meter", undefined, { min: -80, max: 0, high: -6, optimum: -30, "aria-label": label }), element("span")]);
  ears.forEach(({ name, db, ear }, i) => {
    const full = status.full_scale_db_spl;
    shown[3 * i + 1].value = db;
    write(shown[3 * i + 2], full ? `${(db + full[name][ear]).toFixed(0)} dB SPL` : `${db.toFixed(0)} dB FS`);
  });
}

function switches(status) {
  const named = [...status.voices.map(name => ["voice", name]), ...status.presets.map(name => ["preset", name])];
  const buttons = renew("switches", named, ([kind, name]) => {
    const button = element("button", kind === "voice" ? `Hear ${name}` : `Preset ${name}`, { "data-kind": kind, "data-name": name });
    button.onclick = () => kind === "voice" ? set({ voice: name }) : say({ preset: name });
    return button;
  });
  for (const button of buttons) if (button.dataset.kind === "voice") button.setAttribute("aria-pressed", String(button.dataset.name === settings.voice));
}

// A column for each look, 300 of them: the colours of levels are cividis, from -90 to -20 dB
const CIVIDIS = ["#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"];

function picture(id, bands) {
  const canvas = $(id), pen = canvas.getContext("2d"), width = 2, height = canvas.height / bands.length;
  pen.drawImage(canvas, -width, 0);
  bands.forEach((db, i) => {
    const at = Math.max(0, Math.min(CIVIDIS.length - 1, Math.floor((db + 90) / 70 * CIVIDIS.length)));
    pen.fillStyle = CIVIDIS[at];
    pen.fillRect(canvas.width - width, canvas.height - (i + 1) * height, width, Math.ceil(height));
  });
}

function levels() {
  $("talker-out").textContent = `${$("talker").value} dB`;
  $("ambient-out").textContent = $("ambient").value < -60 ? "off" : `${$("ambient").value} dB`;
}

for (const [id, name] of [["talker", "talker_db"], ["ambient", "ambient_db"]]) {
  $(id).oninput = () => {
    taken = true;
    clearTimeout(resting);
    levels();
    const value = Number($(id).value);
    set({ [name]: value < -60 ? "off" : value });
  };
  $(id).onchange = () => { resting = setTimeout(() => { taken = false; }, 300); };
}
$("bypass").onclick = () => set({ bypass: !settings.bypass });
$("mute").onclick = () => set({ mute: !settings.mute });
$("mark").onclick = () => say({ mark: new Date().toISOString() });
$("record").onclick = () => {
  const on = $("record").getAttribute("aria-pressed") === "true";
  say({ record: on ? null : `session-${new Date().toISOString().slice(0, 19).replace(/:/g, "")}.flac` });
};
addEventListener("keydown", event => {
  if (event.target.matches("input:not([type=range], [type=checkbox]), select") || event.ctrlKey || event.metaKey || event.altKey || $("live").hidden) return;
  if (event.key === "b") $("bypass").click();
  if (event.key === "m") $("mute").click();
});

function show(report) {
  if (!report || !report.health) return;
  const { health, latency, compute } = report;
  const rows = {
    ran: `${report.seconds.toFixed(1)} s, ${report.ended}`,
    late: `${health.late_blocks} of ${health.blocks} blocks`,
    "not extracted": `${health.skipped_hops} skipped, ${health.failed_hops} failed of ${health.hops} hops`,
    "microphone to ear": `${latency.total_ms.toFixed(1)} ms`,
    "a hop": compute ? `p50 ${compute.p50_ms.toFixed(3)} ms, p99 ${compute.p99_ms.toFixed(3)} ms` : "none",
  };
  tell("report", rows);
}

attempt(refresh);
