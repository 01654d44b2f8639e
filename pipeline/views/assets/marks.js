"use strict";
// Names and prompts of objects, drawn in their colours into a canvas, in CSS pixels.
const colour = (each) => "rgb(" + each.color.join(" ") + ")";
function dot(pen, x, y, each, positive) { // a disc with a plus on the object, a minus off it
  pen.beginPath();
  pen.arc(x, y, 8, 0, 7);
  pen.lineWidth = 4;
  pen.strokeStyle = "black";
  pen.stroke();
  pen.lineWidth = 2;
  pen.strokeStyle = "white";
  pen.stroke();
  pen.fillStyle = colour(each);
  pen.fill();
  pen.beginPath();
  pen.moveTo(x - 4.5, y);
  pen.lineTo(x + 4.5, y);
  if (positive) { pen.moveTo(x, y - 4.5); pen.lineTo(x, y + 4.5); }
  pen.strokeStyle = ink(each);
  pen.stroke();
}

function rectangle(pen, x0, y0, x1, y1, each) {
  for (const [line, color] of [[4, "black"], [2, colour(each)]]) {
    pen.lineWidth = line;
    pen.strokeStyle = color;
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
  }
}

const ink = ({ color: [r, g, b] }) => (0.3 * r + 0.59 * g + 0.11 * b > 130 ? "black" : "white"); // readable on the colour

// A name above its object, or lower where another name is.
function tag(pen, text, left, top, each, most, taken) {
  pen.font = "600 12px system-ui, sans-serif";
  const width = pen.measureText(text).width + 8, height = 17;
  const x = Math.max(0, Math.min(left, most - width));
  let y = Math.max(0, top - height);
  while (taken.some((o) => x < o.x + o.width && o.x < x + width && y < o.y + height && o.y < y + height)) y += height;
  taken.push({ x, y, width });
  pen.fillStyle = colour(each);
  pen.fillRect(x, y, width, height);
  pen.fillStyle = ink(each);
  pen.textBaseline = "middle";
  pen.fillText(text, x + 4, y + height / 2);
}
