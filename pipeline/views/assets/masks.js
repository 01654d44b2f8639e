"use strict";
// Masks as pixels: COCO's run lengths, filled and outlined as in the films of jobs.preview. Pure; node runs it, too.
const Masks = (() => {
  const FILL = 115, STRIPE = 12, LINE = 2; // alpha of 255, pixels, pixels

  // Compressed counts to run lengths: 5 bits a character, differences to the run before last from the fourth on.
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

  // A mask of [height, width] sampled into a grid of {width, height}: its pixels, and the box that holds them.
  function decode(counts, [height, width], grid) {
    const columns = Array.from({ length: width }, () => []);
    let at = 0, inside = false;
    for (const run of runs(counts)) {
      for (let from = at; inside && from < at + run;) { // a run may span columns
        const x = Math.floor(from / height), top = from - x * height, bottom = Math.min(height, top + at + run - from);
        if (x < width) columns[x].push([top, bottom]);
        from += bottom - top;
      }
      at += run;
      inside = !inside;
    }
    const pixels = new Uint8Array(grid.width * grid.height), scale = grid.height / height;
    const box = { left: grid.width, top: grid.height, right: 0, bottom: 0 };
    for (let x = 0; x < grid.width; x++) {
      for (const [top, bottom] of columns[Math.floor((x + 0.5) * width / grid.width)]) {
        const first = Math.ceil(top * scale - 0.5), end = Math.min(Math.ceil(bottom * scale - 0.5), grid.height);
        if (first >= end) continue;
        for (let y = first; y < end; y++) pixels[y * grid.width + x] = 1;
        box.left = Math.min(box.left, x);
        box.right = Math.max(box.right, x + 1);
        box.top = Math.min(box.top, first);
        box.bottom = Math.max(box.bottom, end);
      }
    }
    return { pixels, box };
  }

  // Paint decoded masks with their colours ([red, green, blue]) into RGBA pixels of a grid, one 32-bit number each.
  // Where masks lie on each other, their colours alternate in stripes, so that each is visible.
  function paint(target, grid, masks) {
    const below = [new Uint8Array(target.length), new Uint8Array(target.length)], outlines = [];
    const { width } = grid;
    const put = (count, i, x, y, ink) => {
      const n = count[i]++;
      if (n === 0 || Math.floor((x + y) / STRIPE) % (n + 1) === n) target[i] = ink;
    };
    for (const { pixels, box, color } of masks) {
      const ink = inkOf(color, FILL), line = inkOf(color, 255);
      for (let y = box.top; y < box.bottom; y++) {
        for (let x = box.left, i = y * width + x; x < box.right; x++, i++) {
          if (!pixels[i]) continue;
          put(below[0], i, x, y, ink);
          if (isEdge(pixels, grid, i, x, y)) outlines.push(i, line);
        }
      }
    }
    for (let n = 0; n < outlines.length; n += 2) { // above all fills
      const i = outlines[n];
      put(below[1], i, i % width, Math.floor(i / width), outlines[n + 1]);
    }
  }

  const inkOf = ([r, g, b], alpha) => ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0;

  function isEdge(pixels, { width, height }, i, x, y) {
    const n = LINE;
    return x < n || y < n || x >= width - n || y >= height - n ||
      !(pixels[i - n] && pixels[i + n] && pixels[i - n * width] && pixels[i + n * width]);
  }

  return { runs, decode, paint };
})();
if (typeof module !== "undefined") module.exports = Masks;
