"use strict";
// Corrections by clicks on the video, kept in this tab for all videos of the report; prompts.js decides what they mean.
const SAVED = "fixes of " + location.pathname;
let tool = "look", changes = new Map(), earlier = [], drag = null;

function choose(name) {
  tool = name;
  if (tool !== "look") toggle(false);
  for (const each of document.querySelectorAll("[data-tool]")) each.ariaPressed = String(each.dataset.tool === tool);
  $("marks").classList.toggle("editing", tool !== "look");
  draw();
}

function change(next) {
  earlier.push(changes);
  changes = next;
  changed();
}

function changed() {
  chips();
  const own = Prompts.fix(data, changes), all = savedFixes().filter((each) => each.video_id !== data.id);
  if (own) all.push(own);
  try { sessionStorage.setItem(SAVED, JSON.stringify(all)); } catch { /* kept on this page alone */ }
  $("fixes").hidden = all.length === 0;
  $("json").value = Prompts.text(all);
  $("count").textContent = all.length === 1 ? "Changes of 1 video" : "Changes of " + all.length + " videos";
  $("problem").textContent = changes.size ? Prompts.problems(data, changes).join(" ") : "";
  $("undo").disabled = earlier.length === 0;
  $("naming").hidden = !added().some((each) => each.id === active);
  $("category").value = categoryOf(active);
  draw();
}

function savedFixes() {
  try { return JSON.parse(sessionStorage.getItem(SAVED)) || []; } catch { return []; }
}

function sayTarget() {
  const found = Prompts.find(data, changes, active, frame), name = "Object " + active + (categoryOf(active) ? " (" + categoryOf(active) + ")" : "");
  const what = !found ? "no prompt here" : [found.correct ? "corrects the tracked mask" : "begins here", found.mask ? "mask" : "",
    found.box ? "box" : "", (found.points || []).length ? found.points.length + (found.points.length === 1 ? " point" : " points") : ""].filter(Boolean).join(", ");
  $("target").textContent = name + ", frame " + frame + ": " + what;
  $("remove").disabled = !found;
}

// The pixel of the displayed frame under a pointer, to a tenth.
function pixel(event) {
  const box = $("marks").getBoundingClientRect(), tenth = (v) => Math.round(v * 10) / 10;
  const share = (v, from, size) => Math.min(Math.max((v - from) / size, 0), 1);
  return [tenth(share(event.clientX, box.left, box.width) * data.width), tenth(share(event.clientY, box.top, box.height) * data.height)];
}

function boxOf([[x0, y0], [x1, y1]]) {
  return { x_min: Math.min(x0, x1), y_min: Math.min(y0, y1), x_max: Math.max(x0, x1), y_max: Math.max(y0, y1) };
}

function listenForCorrections() {
  $("marks").addEventListener("pointerdown", (event) => {
    if (!data || event.button !== 0) return;
    if (tool === "look") { toggle(!playing); return; }
    if (tool === "box") { drag = [pixel(event), pixel(event)]; $("marks").setPointerCapture(event.pointerId); return; }
    const off = (tool === "off") !== event.shiftKey;
    change(Prompts.addPoint(data, changes, active, frame, pixel(event), off ? 0 : 1));
  });
  $("marks").addEventListener("pointermove", (event) => { if (drag) { drag[1] = pixel(event); draw(); } });
  $("marks").addEventListener("pointercancel", () => { drag = null; draw(); });
  $("marks").addEventListener("pointerup", () => {
    if (!drag) return;
    const box = boxOf(drag);
    drag = null;
    if (box.x_max > box.x_min && box.y_max > box.y_min) change(Prompts.setBox(data, changes, active, frame, box)); else draw();
  });
  for (const each of document.querySelectorAll("[data-tool]")) each.addEventListener("click", () => choose(each.dataset.tool));
  $("undo").addEventListener("click", () => { changes = earlier.pop() || changes; changed(); });
  $("remove").addEventListener("click", () => change(Prompts.remove(data, changes, active, frame)));
  $("category").addEventListener("change", () => change(Prompts.rename(changes, active, $("category").value.trim())));
  $("discard").addEventListener("click", () => {
    try { sessionStorage.removeItem(SAVED); } catch { /* there is nothing to remove */ }
    change(new Map());
  });
  $("copy").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText($("json").value); } catch { $("json").select(); document.execCommand("copy"); }
    $("copy").textContent = "Copied";
    setTimeout(() => { $("copy").textContent = "Copy"; }, 1500);
  });
  $("download").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([$("json").value], { type: "application/x-ndjson" }));
    link.download = "fixes.jsonl";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}
