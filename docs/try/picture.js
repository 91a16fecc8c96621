"use strict";
/* Spectrograms of band levels: what the network hears, in its own bands. */

/** Colours from quiet to loud, those of all pictures of this project: cividis, which the colour-blind read as well. */
const COLOURS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
const QUIETEST = -0.55, LOUDEST = 0.85; // -72 to -16 dB
const MARKS_HZ = [500, 1000, 2000, 4000];

const PALETTE = Array.from({ length: 256 }, (_, i) => {
  const at = (i / 255) * (COLOURS.length - 1), low = Math.min(Math.floor(at), COLOURS.length - 2), part = at - low;
  return COLOURS[low].map((value, k) => Math.round(value + part * (COLOURS[low + 1][k] - value)));
});

/** Draw levels [hops * bands] on a canvas as large as it is shown. */
function drawLevels(canvas, levels) {
  const { bands } = MODEL, hops = levels.length / bands, ratio = globalThis.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio)), height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  canvas.width = width;
  canvas.height = height;
  const g = canvas.getContext("2d"), image = g.createImageData(width, height), column = new Float32Array(bands);
  for (let x = 0; x < width; x++) {
    const from = Math.floor((x * hops) / width), to = Math.max(from + 1, Math.floor(((x + 1) * hops) / width));
    column.fill(-1);
    // The loudest moment of a column: means of many hops would look softer on a narrow screen.
    for (let t = from; t < to && t < hops; t++) for (let b = 0; b < bands; b++) column[b] = Math.max(column[b], levels[t * bands + b]);
    for (let y = 0; y < height; y++) {
      const level = column[bands - 1 - Math.floor((y * bands) / height)];
      const colour = PALETTE[Math.max(0, Math.min(255, Math.round((255 * (level - QUIETEST)) / (LOUDEST - QUIETEST))))];
      image.data.set([...colour, 255], 4 * (y * width + x));
    }
  }
  g.putImageData(image, 0, 0);
  const size = parseFloat(getComputedStyle(canvas).fontSize) * ratio;
  g.font = `${0.75 * size}px ${getComputedStyle(canvas).fontFamily}`;
  g.textBaseline = "middle";
  Object.assign(g, { shadowColor: "#000", shadowBlur: 0.4 * size });
  for (const hz of MARKS_HZ) {
    const band = MODEL.band_centres_hz.findIndex((centre) => centre >= hz), y = height * (1 - (band + 0.5) / bands);
    g.fillStyle = "rgba(255, 255, 255, .18)";
    g.fillRect(0, y, width, Math.max(1, ratio / 2));
    g.fillStyle = "rgba(255, 255, 255, .85)";
    g.fillText(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, 0.4 * size, y - 0.55 * size);
  }
}
