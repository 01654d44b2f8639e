"use strict";
// One video: its clip with masks, names and prompts over it, plots that follow, and corrections by clicks.
const $ = (id) => document.getElementById(id);
const WORST = ",worst"; // at the end of an address: begin on the worst frame
const SHOWN_S = 0.4; // a prompt is shown for so long while the clip plays, as in films
let data = null, frame = 0, hidden = new Set(), playing = false, clock = 0;
let active = null;

function show(given) {
  data = given;
  document.title = data.id;
  $("title").textContent = data.id;
  $("facts").textContent = [data.frames + " frames", data.width + " × " + data.height,
    data.fps ? data.fps.toFixed(2) + " frames/s" : "", data.rate ? "labelled at " + data.rate : "", data.model || ""].filter(Boolean).join(", ");
  const stage = $("stage");
  stage.style.aspectRatio = data.width + " / " + data.height;
  stage.style.maxWidth = "calc(70vh * " + data.width / data.height + ")";
  const scale = Math.min(960 / Math.max(data.width, data.height), 4); // small videos get fine outlines, too
  $("masks").width = Math.max(Math.round(data.width * scale), 1);
  $("masks").height = Math.max(Math.round(data.height * scale), 1);
  $("scrub").max = Math.max(0, data.frames - 1);
  for (const each of data.objects) each.at = new Map(each.frames.map((t, i) => [t, i]));
  const saved = savedFixes().find((each) => each.video_id === data.id);
  if (saved) changes = Prompts.restore(data, saved);
  active = (doubtful()[0] || data.objects[0] || data.new[0]).id;
  const clip = $("clip");
  if (data.source) {
    clip.addEventListener("error", () => {
      $("note").textContent = "The clip cannot be played here; masks are shown alone. jobs.report --clips copy puts a copy into the report.";
    });
    clip.addEventListener("seeked", draw);
    clip.src = data.source;
    if (clip.requestVideoFrameCallback) clip.requestVideoFrameCallback(onVideoFrame);
    else clip.addEventListener("timeupdate", () => { if (playing) go(frameAt(clip.currentTime), false); });
  } else {
    clip.remove();
    $("note").textContent = "Masks alone: this report holds no clip of this video. jobs.report --clips copy puts one into it.";
  }
  const start = /[?&]frame=(\d+)/.exec(location.search);
  go(start ? Number(start[1]) : 0);
  changed();
  if (location.hash.endsWith(WORST)) worst();
}

// Objects: those of the labels, and those that a reviewer adds.
const added = () => data.new.filter((each) => Prompts.all(data, changes).some((p) => p.object_id === each.id));
const objects = () => [...data.objects, ...added().map((each) => ({ frames: [], at: new Map(), prompted: [], area: [], iou: [], stability: [], why: [], doubt: null, ...each }))];
const named = (id) => [...data.objects, ...data.new].find((each) => each.id === id) || { id, color: [128, 128, 128] };
const categoryOf = (id) => named(id).category || (Prompts.all(data, changes).find((p) => p.object_id === id && p.category) || {}).category || "";
const doubtful = () => data.objects.filter((each) => each.doubt > 0).sort((a, b) => b.doubt - a.doubt);

function chips() {
  $("objects").replaceChildren(...objects().map(chip), newChip());
}

function chip(each) {
  const item = document.createElement("li"), box = document.createElement("input"), button = document.createElement("button");
  const swatch = document.createElement("i"), category = document.createElement("bdi"), why = document.createElement("small");
  box.type = "checkbox";
  box.checked = !hidden.has(each.id);
  box.ariaLabel = "show object " + each.id;
  box.addEventListener("change", () => {
    if (box.checked) hidden.delete(each.id); else hidden.add(each.id);
    draw();
  });
  swatch.style.background = colour(each);
  category.textContent = categoryOf(each.id); // a name must not turn the text around it
  button.append(swatch, each.id + " ", category, each.doubt === null ? "" : ", doubt " + each.doubt.toFixed(2));
  button.ariaPressed = String(each.id === active);
  button.addEventListener("click", () => select(each.id));
  why.textContent = each.why.join("; ");
  item.append(box, button, why);
  return item;
}

function newChip() {
  const item = document.createElement("li"), button = document.createElement("button");
  const next = data.new.find((each) => !added().includes(each));
  button.textContent = next ? "New object" : "No more new objects";
  button.id = "new";
  button.disabled = !next;
  button.ariaPressed = String(Boolean(next) && next.id === active);
  button.addEventListener("click", () => { select(next.id); if (tool === "look") choose("on"); });
  item.append(button);
  return item;
}

function select(id) {
  active = id;
  changed();
}

function nearestLabelled(t) { // a video labelled at a rate has masks on some frames only
  const all = data.labelled;
  if (!all || !all.length) return t;
  let low = 0, high = all.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (all[middle] < t) low = middle + 1; else high = middle;
  }
  const near = low > 0 && t - all[low - 1] <= all[low] - t ? all[low - 1] : all[low];
  return Math.abs(near - t) < data.stride ? near : t; // farther: all objects had ended there
}

function draw() {
  if (!data) return;
  const canvas = $("masks"), pen = canvas.getContext("2d"), near = nearestLabelled(frame), shown = [];
  const picture = pen.createImageData(canvas.width, canvas.height), masks = [];
  const add = (counts, color) => masks.push({ ...Masks.decode(counts, [data.height, data.width], canvas), color });
  for (const each of objects()) {
    const i = each.at.get(near);
    if (hidden.has(each.id) || i === undefined) continue;
    add(each.counts[i], each.color);
    const { left, top, right } = masks[masks.length - 1].box;
    if (right) shown.push({ each, i, x: left / canvas.width, y: top / canvas.height });
  }
  const prompts = Prompts.all(data, changes).filter((each) => !hidden.has(each.object_id) && isShown(each.at));
  for (const each of prompts) if (each.mask) add(each.mask.counts, [255, 255, 255]);
  Masks.paint(new Uint32Array(picture.data.buffer), canvas, masks);
  pen.putImageData(picture, 0, 0);
  drawMarks(shown, prompts);
  const time = data.times[frame], size = data.width * data.height;
  $("scrub").value = frame;
  $("now").textContent = "frame " + frame + (time === null || time === undefined ? "" : ", " + time.toFixed(2) + " s") +
    (near === frame ? "" : "; masks of frame " + near + ", the nearest labelled one");
  const most = Math.max(...data.objects.map((o) => Math.max(0, ...o.area))) / size || 1;
  const marked = (each) => new Set([...each.prompted, ...Prompts.all(data, changes).filter((p) => p.object_id === each.id).map((p) => p.at)]);
  const plotted = objects().filter((each) => !hidden.has(each.id)).map((each) => ({ ...each, prompted: marked(each) }));
  const given = { frames: data.frames, frame, objects: plotted, colour };
  plot($("area"), given, most, [[(o, i) => o.area[i] / size, []]]);
  plot($("score"), given, 1, [[(o, i) => o.iou[i], []], [(o, i) => o.stability[i], [4, 4]]]);
  sayTarget();
}

function isShown(at) {
  return at === frame || (playing && at < frame && frame - at < SHOWN_S * (data.fps || 24));
}

// Names, prompts and the box that is being drawn, in CSS pixels.
function drawMarks(shown, prompts) {
  const canvas = $("marks"), ratio = window.devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), x = (v) => v / data.width * width, y = (v) => v / data.height * height;
  pen.scale(ratio, ratio);
  for (const each of prompts) {
    if (each.box) rectangle(pen, x(each.box.x_min), y(each.box.y_min), x(each.box.x_max), y(each.box.y_max), named(each.object_id));
    for (const point of each.points || []) dot(pen, x(point.x), y(point.y), named(each.object_id), point.label === 1);
  }
  if (drag) rectangle(pen, x(drag[0][0]), y(drag[0][1]), x(drag[1][0]), y(drag[1][1]), named(active));
  const taken = [];
  for (const { each, i, x: left, y: top } of shown) {
    const score = each.iou[i];
    const name = [each.id, categoryOf(each.id).slice(0, 24), score === null ? "" : score.toFixed(2)].filter(Boolean).join(" ");
    tag(pen, name, left * width, top * height, each, width, taken);
  }
  for (const each of prompts) { // objects without a mask are named beside their prompt
    if (shown.some((other) => other.each.id === each.object_id)) continue;
    const at = each.box ? [each.box.x_min, each.box.y_min] : each.points && each.points.length ? [each.points[0].x, each.points[0].y] : [0, 0];
    const name = [each.object_id, categoryOf(each.object_id).slice(0, 24)].filter(Boolean).join(" ");
    tag(pen, name, x(at[0]) + (each.box ? 0 : 9), y(at[1]), named(each.object_id), width, taken);
  }
}

// Playing and stepping.
const firstTime = () => (data.source && data.source.startsWith("clips/") ? data.times.find((v) => v !== null) || 0 : 0);
const timeOf = (t) => (data.times[t] ?? t / (data.fps || 24)) - firstTime();

function go(t, seek = true) {
  frame = Math.min(Math.max(t, 0), Math.max(0, data.frames - 1));
  if (seek && data.source) $("clip").currentTime = timeOf(frame) + 0.001;
  draw();
}

function step(t) {
  toggle(false);
  go(t);
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
  if (on === playing) return;
  playing = on;
  $("play").textContent = on ? "Pause" : "Play";
  if (data.source) { if (on) $("clip").play().catch(() => toggle(false)); else $("clip").pause(); }
  else if (on) requestAnimationFrame(tick);
  if (!on) draw();
}

function worst() {
  const each = data.objects.find((other) => other.id === active);
  if (each) step(each.worst);
}

function nextDoubtful() { // of this video, then of the next less doubtful one
  const all = doubtful(), next = all.findIndex((each) => each.id === active && each.worst === frame) + 1;
  if (next < all.length) { select(all[next].id); worst(); }
  else if (data.next !== null) location.hash = data.next + WORST;
}

listenForCorrections();
$("play").addEventListener("click", () => toggle(!playing));
$("worst").addEventListener("click", worst);
$("doubtful").addEventListener("click", nextDoubtful);
$("clip").addEventListener("ended", () => toggle(false));
$("scrub").addEventListener("input", () => step(Number($("scrub").value)));
for (const id of ["area", "score"]) {
  const seek = (event) => step(plotFrame($(id), event.clientX, data.frames));
  $(id).addEventListener("pointerdown", seek);
  $(id).addEventListener("pointermove", (event) => { if (event.buttons) seek(event); });
}

const KEYS = {
  " ": () => toggle(!playing), ArrowLeft: (by) => step(frame - by), ArrowRight: (by) => step(frame + by),
  Home: () => step(0), End: () => step(data.frames - 1), w: worst, n: nextDoubtful, Escape: () => choose("look"),
};
window.addEventListener("keydown", (event) => {
  const typing = event.target.tagName === "TEXTAREA" || event.target.type === "text";
  const pressing = event.key === " " && (event.target.tagName === "BUTTON" || event.target.type === "checkbox");
  const act = KEYS[event.key];
  if (!data || !act || typing || pressing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act(event.shiftKey ? 10 : 1);
});
document.addEventListener("click", (event) => { // after a click by mouse, space plays instead of pressing the button
  const button = event.target.closest("button");
  if (button && event.detail) button.blur();
});
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
window.addEventListener("hashchange", () => location.reload());

const number = Number.parseInt(location.hash.slice(1), 10) || 0;
const script = document.createElement("script");
script.src = "data/" + number + ".js";
script.onerror = () => { $("note").textContent = "There is no video of this number."; };
document.body.append(script);
