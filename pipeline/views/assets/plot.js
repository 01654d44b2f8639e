"use strict";
// Lines over the frames of a video, one per object, with a band of marks where the object is prompted.
const PLOT = { left: 40, right: 8, top: 8, bottom: 22 };

// lines: [[value of (object, position), dash], ...]; colour gives an object's CSS colour.
function plot(canvas, { frames, frame, objects, colour }, most, lines) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  pen.scale(ratio, ratio);
  const { left, right, top, bottom } = PLOT, ground = height - bottom;
  const x = (t) => left + (width - left - right) * (frames > 1 ? t / (frames - 1) : 0.5);
  const y = (v) => ground - (ground - top) * v / most;
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  for (const v of [0, most / 2, most]) {
    pen.fillStyle = style.getPropertyValue("--muted");
    pen.fillText(most >= 1 ? v.toFixed(1) : (100 * v).toPrecision(2) + "%", 4, Math.max(y(v), 8));
    pen.fillStyle = style.getPropertyValue("--line");
    pen.fillRect(left, y(v), width - left - right, 1);
  }
  const marked = new Map();
  for (const each of objects) {
    pen.strokeStyle = pen.fillStyle = colour(each);
    pen.lineWidth = 1.75;
    for (const [value, dash] of lines) {
      pen.setLineDash(dash);
      pen.beginPath();
      let drawn = false;
      each.frames.forEach((t, i) => {
        const v = value(each, i);
        if (v === null || v === undefined) { drawn = false; return; }
        if (drawn) pen.lineTo(x(t), y(v)); else pen.moveTo(x(t), y(v));
        drawn = true;
      });
      pen.stroke();
    }
    pen.setLineDash([]);
    for (const t of each.prompted) { // side by side where several objects are prompted on a frame
      const at = x(t) + 7 * (marked.get(t) || 0);
      marked.set(t, (marked.get(t) || 0) + 1);
      pen.beginPath();
      pen.moveTo(at, ground + 5);
      pen.lineTo(at - 4, ground + 14);
      pen.lineTo(at + 4, ground + 14);
      pen.fill();
    }
  }
  pen.fillStyle = style.getPropertyValue("--ink");
  pen.fillRect(x(frame) - 0.5, 0, 1, ground);
}

// The frame under a pointer.
function plotFrame(canvas, clientX, frames) {
  const box = canvas.getBoundingClientRect();
  return Math.round((clientX - box.left - PLOT.left) / (box.width - PLOT.left - PLOT.right) * (frames - 1));
}
