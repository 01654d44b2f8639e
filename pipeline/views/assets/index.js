"use strict";
// The list of all videos: rows of [n, id, doubt, frames, objects, why, thumb], shown as text a page at a time.
const PAGE = 50;
let rows = [], found = [], page = 0;

function list(given) { rows = given; choose(); }

function choose() {
  const words = document.getElementById("find").value.toLowerCase();
  const order = document.getElementById("order").value;
  found = rows.filter((r) => !words || r[1].toLowerCase().includes(words) || r[5].join(" ").includes(words));
  if (order === "doubt") found.sort((a, b) => (b[2] || 0) - (a[2] || 0));
  if (order === "frames") found.sort((a, b) => b[3] - a[3]);
  page = 0;
  draw();
}

function draw() {
  const all = document.getElementById("list");
  all.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map((r) => {
    const row = document.createElement("li"), doubt = document.createElement("b"), link = document.createElement("a");
    const size = document.createElement("span"), why = document.createElement("small");
    doubt.textContent = r[2] === null ? "–" : r[2].toFixed(2);
    link.textContent = r[1];
    link.href = "video.html#" + Number(r[0]);
    link.dir = "auto";
    size.textContent = r[3] + " frames, " + r[4] + (r[4] === 1 ? " object" : " objects");
    size.className = "muted";
    why.textContent = r[5].join("; ");
    row.append(doubt, link, size, why);
    return row;
  }));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  document.getElementById("where").textContent =
    found.length.toLocaleString("en") + (found.length === 1 ? " video" : " videos") +
    (pages > 1 ? ", page " + (page + 1) + " of " + pages : "");
  document.getElementById("previous").disabled = page === 0;
  document.getElementById("next").disabled = page >= pages - 1;
}

document.getElementById("find").addEventListener("input", choose);
document.getElementById("order").addEventListener("change", choose);
document.getElementById("previous").addEventListener("click", () => { page -= 1; draw(); });
document.getElementById("next").addEventListener("click", () => { page += 1; draw(); });
