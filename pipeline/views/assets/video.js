"use strict";
// One video: its clip, its masks drawn from COCO's run lengths, and plots that follow.
const $ = (id) => document.getElementById(id);
let data = null, frame = 0, hidden = new Set(), playing = false, clock = 0;

function show(given) {
  data = given;
  document.title = data.id;
  $("title").textContent = data.id;
  $("facts").textContent = [data.frames + " frames", data.width + " × " + data.height,
    data.fps ? data.fps.toFixed(2) + " frames/s" : "", data.rate ? "labelled at " + data.rate : "", data.model || ""].filter(Boolean).join(", ");
  const stage = $("stage");
  stage.style.aspectRatio = data.width + " / " + data.height;
  stage.style.maxWidth = "calc(70vh * " + data.width / data.height + ")";
  const scale = Math.min(1, 960 / data.width);
  $("masks").width = Math.round(data.width * scale);
  $("masks").height = Math.round(data.height * scale);
  $("scrub").max = Math.max(0, data.frames - 1);
  for (const each of data.objects) each.at = new Map(each.frames.map((t, i) => [t, i]));
  $("objects").replaceChildren(...data.objects.map(chip));
  const clip = $("clip");
  if (data.source) {
    clip.addEventListener("error", () => {
      $("note").textContent = "The clip cannot be played here; masks are shown alone.";
    });
    clip.addEventListener("seeked", draw);
    clip.src = data.source;
    if (clip.requestVideoFrameCallback) clip.requestVideoFrameCallback(onVideoFrame);
  } else {
    clip.remove();
    $("note").textContent = "Masks alone: this report holds no clip of this video.";
  }
  const start = /[?&]frame=(\d+)/.exec(location.search);
  go(start ? Number(start[1]) : 0);
}

function chip(each) {
  const item = document.createElement("li"), label = document.createElement("label");
  const box = document.createElement("input"), colour = document.createElement("i");
  const name = document.createElement("span"), why = document.createElement("small");
  box.type = "checkbox";
  box.checked = true;
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(each.id); else hidden.add(each.id);
    draw();
  });
  colour.style.background = css(each);
  const category = document.createElement("bdi"); // a name must not turn the text around it
  category.textContent = each.category || "";
  name.append(each.id + " ", category, each.doubt === null ? "" : ", doubt " + each.doubt.toFixed(2));
  why.textContent = each.why.join("; ");
  label.append(box, " ", colour, name);
  item.append(label, why);
  return item;
}

const css = (each, alpha = 1) => "hsl(" + Number(each.hue) + " 85% 55% / " + alpha + ")";

function rgb(each) {
  const h = each.hue / 60, c = 0.765, x = c * (1 - Math.abs((h % 2) - 1)), m = 0.1675;
  const [r, g, b] = [[c, x, 0], [x, c, 0], [0, c, x], [0, x, c], [x, 0, c], [c, 0, x]][Math.floor(h) % 6];
  return [r, g, b].map((v) => Math.round((v + m) * 255));
}

// COCO's compressed counts to run lengths: 5 bits a character, differences to the run before last from the fourth on.
function runs(counts) {
  const found = [];
  for (let p = 0; p < counts.length;) {
    let value = 0, places = 0, more = true;
    while (more && p < counts.length) {
      const c = counts.charCodeAt(p++) - 48;
      value += (c & 31) * 2 ** (5 * places++);
      more = (c & 32) !== 0;
      if (!more && c & 16) value -= 2 ** (5 * places);
    }
    found.push(found.length > 2 ? value + found[found.length - 2] : value);
  }
  return found;
}

function paint(picture, counts, colour) {
  const { width, height } = picture, sx = width / data.width, sy = height / data.height, h = data.height;
  const pixels = new Uint32Array(picture.data.buffer);
  const [r, g, b] = colour, ink = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  let at = 0, inside = false;
  for (const run of runs(counts)) {
    if (inside && run > 0) {
      for (let from = at; from < at + run;) { // a run may span columns
        const x = Math.floor(from / h), top = from - x * h, bottom = Math.min(h, top + at + run - from);
        const px = Math.floor(x * sx), end = Math.max(Math.ceil(bottom * sy), 1);
        if (px < width) for (let y = Math.floor(top * sy); y < end && y < height; y++) pixels[y * width + px] = ink;
        from += bottom - top;
      }
    }
    at += run;
    inside = !inside;
  }
}

function nearestLabelled(t) { // a video labelled at a rate has masks on some frames only
  const all = data.labelled;
  if (!all || !all.length) return t;
  let low = 0, high = all.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle] < t) low = middle + 1; else high = middle;
  }
  return low > 0 && t - all[low - 1] <= all[low] - t ? all[low - 1] : all[low];
}

function draw() {
  if (!data) return;
  const canvas = $("masks"), pen = canvas.getContext("2d");
  const picture = pen.createImageData(canvas.width, canvas.height);
  const near = nearestLabelled(frame);
  for (const each of data.objects) {
    const i = each.at.get(near);
    if (i !== undefined && !hidden.has(each.id)) paint(picture, each.counts[i], rgb(each));
  }
  canvas.style.opacity = data.source ? 0.5 : 1;
  pen.putImageData(picture, 0, 0);
  const time = data.times[frame];
  $("scrub").value = frame;
  $("now").textContent = "frame " + frame + (time === null || time === undefined ? "" : ", " + time.toFixed(2) + " s") +
    (near === frame ? "" : "; masks of frame " + near + ", the nearest labelled one");
  const most = Math.max(...data.objects.map((o) => Math.max(0, ...o.area))) / (data.width * data.height) || 1;
  plot($("area"), most, [[(o, i) => o.area[i] / (data.width * data.height), []]]);
  plot($("score"), 1, [[(o, i) => o.iou[i], []], [(o, i) => o.stability[i], [4, 4]]]);
}

function plot(canvas, most, lines) {
  const ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  pen.scale(ratio, ratio);
  const left = 40, right = 8, top = 8, bottom = 8;
  const x = (t) => left + (width - left - right) * (data.frames > 1 ? t / (data.frames - 1) : 0.5);
  const y = (v) => height - bottom - (height - top - bottom) * v / most;
  pen.font = "12px system-ui, sans-serif";
  pen.textBaseline = "middle";
  for (const v of [0, most / 2, most]) {
    pen.fillStyle = style.getPropertyValue("--muted");
    pen.fillText(most >= 1 ? v.toFixed(1) : (100 * v).toPrecision(2) + "%", 4, Math.min(Math.max(y(v), 8), height - 8));
    pen.fillStyle = style.getPropertyValue("--line");
    pen.fillRect(left, y(v), width - left - right, 1);
  }
  for (const [value, dash] of lines) {
    for (const each of data.objects) {
      if (hidden.has(each.id)) continue;
      pen.strokeStyle = css(each);
      pen.lineWidth = 1.75;
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
      pen.setLineDash([]);
      pen.fillStyle = css(each);
      for (const t of each.prompted) { pen.beginPath(); pen.arc(x(t), height - bottom, 3.5, 0, 7); pen.fill(); }
    }
  }
  pen.fillStyle = style.getPropertyValue("--ink");
  pen.fillRect(x(frame) - 0.5, 0, 1, height);
}

const timeOf = (t) => (data.times[t] ?? t / (data.fps || 24)) - (data.source && data.source.startsWith("clips/") ? data.times.find((v) => v !== null) || 0 : 0);

function go(t, seek = true) {
  frame = Math.min(Math.max(t, 0), Math.max(0, data.frames - 1));
  if (seek && data.source) $("clip").currentTime = timeOf(frame) + 0.001;
  draw();
}

function frameAt(time) {
  let low = 0, high = data.frames - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (timeOf(middle) <= time + 0.002) low = middle; else high = middle - 1;
  }
  return low;
}

function onVideoFrame(now, shown) {
  if (playing) go(frameAt(shown.mediaTime), false);
  $("clip").requestVideoFrameCallback(onVideoFrame);
}

function tick(now) { // no clip: the masks keep their own time
  if (!playing || data.source) return;
  if (now - clock >= 1000 / (data.fps || 24)) { clock = now; go(frame + 1 < data.frames ? frame + 1 : 0); }
  requestAnimationFrame(tick);
}

function toggle(on) {
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  if (data.source) { if (on) $("clip").play().catch(() => toggle(false)); else $("clip").pause(); }
  else if (on) requestAnimationFrame(tick);
}

function seekFrom(event) {
  const box = event.currentTarget.getBoundingClientRect();
  toggle(false);
  go(Math.round((event.clientX - box.left - 40) / (box.width - 48) * (data.frames - 1)));
}

$("play").addEventListener("click", () => toggle(!playing));
$("clip").addEventListener("ended", () => toggle(false));
$("scrub").addEventListener("input", () => { toggle(false); go(Number($("scrub").value)); });
for (const id of ["area", "score"]) {
  $(id).addEventListener("pointerdown", seekFrom);
  $(id).addEventListener("pointermove", (event) => { if (event.buttons) seekFrom(event); });
}
window.addEventListener("keydown", (event) => {
  if (!data || event.target.tagName === "INPUT") return;
  if (event.key === "ArrowLeft") go(frame - 1);
  if (event.key === "ArrowRight") go(frame + 1);
});
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
window.addEventListener("hashchange", () => location.reload());

const number = Math.floor(Number(location.hash.slice(1)) || 0);
const script = document.createElement("script");
script.src = "data/" + number + ".js";
script.onerror = () => { $("note").textContent = "There is no video of this number."; };
document.body.append(script);
