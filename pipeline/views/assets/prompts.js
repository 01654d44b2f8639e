"use strict";
// Prompts of one video as a reviewer changes them, and the JSON that `jobs.review apply` takes. Pure; node runs it, too.
//
// A prompt is a record of the manifest; object ids are texts, because numbers in JavaScript have 53 bits, and `at` is
// the frame where it is shown. `changes` is a Map from places (object and frame) to prompts, null for a removed one.
const Prompts = (() => {
  const place = (object, frame) => object + " " + frame;

  // The prompt of an object on a frame, with the changes; null if there is none.
  function find(video, changes, object, frame) {
    const changed = changes.get(place(object, frame));
    if (changed !== undefined) return changed;
    return video.prompts.find((each) => each.object_id === object && each.at === frame) || null;
  }

  // All prompts with the changes.
  function all(video, changes) {
    const kept = video.prompts.filter((each) => !changes.has(place(each.object_id, each.at)));
    return [...kept, ...[...changes.values()].filter((each) => each !== null)];
  }

  // A new prompt corrects the mask tracked on its frame where there is one; else the object begins from it alone.
  function corrects(video, changes, object, frame) {
    const known = video.objects.find((each) => each.id === object);
    const starts = all(video, changes).some((each) => each.object_id === object && each.at !== frame && !each.correct);
    return Boolean(known && known.frames.includes(frame) && starts);
  }

  function editable(video, changes, object, frame) {
    const found = find(video, changes, object, frame);
    if (found) {
      const { mask, ...rest } = found; // clicks and boxes replace a mask prompt
      return { ...rest, points: [...(found.points || [])] };
    }
    const made = { object_id: object, frame_index: frame, at: frame, points: [] };
    return corrects(video, changes, object, frame) ? { ...made, correct: true } : made;
  }

  const put = (changes, prompt) => new Map(changes).set(place(prompt.object_id, prompt.at), prompt);

  // Each returns new changes.
  function addPoint(video, changes, object, frame, [x, y], label) {
    const prompt = editable(video, changes, object, frame);
    return put(changes, { ...prompt, points: [...prompt.points, { x, y, label }] });
  }

  function setBox(video, changes, object, frame, box) {
    return put(changes, { ...editable(video, changes, object, frame), box });
  }

  function remove(video, changes, object, frame) {
    const given = video.prompts.some((each) => each.object_id === object && each.at === frame);
    const left = new Map(changes);
    if (given) left.set(place(object, frame), null); else left.delete(place(object, frame));
    return left;
  }

  // Names an added object in all its prompts.
  function rename(changes, object, category) {
    const named = (each) => (category ? { ...each, category } : (({ category: _, ...rest }) => rest)(each));
    return new Map([...changes].map(([at, each]) => [at, each && each.object_id === object ? named(each) : each]));
  }

  // Why changes cannot be applied yet, as sentences.
  function problems(video, changes) {
    const now = all(video, changes), found = [];
    for (const each of now) {
      if (!each.correct && !each.box && !each.mask && !(each.points || []).some((point) => point.label === 1)) {
        found.push("Object " + each.object_id + ", frame " + each.at + ": add a point on the object or a box.");
      }
      if (each.correct && !now.some((other) => other.object_id === each.object_id && !other.correct)) {
        found.push("Object " + each.object_id + ", frame " + each.at + ": its first prompt is removed, so there is nothing to correct.");
      }
    }
    if (!now.length) found.push("A video needs at least one prompt.");
    return found;
  }

  // The changes as a record; null where there are none.
  function fix(video, changes) {
    if (!changes.size) return null;
    const changed = [], removed = [];
    for (const [at, prompt] of changes) {
      if (prompt === null) {
        const was = video.prompts.find((each) => place(each.object_id, each.at) === at);
        removed.push({ object_id: was.object_id, ...when(was) });
      } else {
        const { at: _, points, ...rest } = prompt;
        changed.push(points.length ? { ...rest, points } : rest);
      }
    }
    return { video_id: video.id, changed, removed, ...video.same };
  }

  const when = (each) => (each.frame_index === undefined ? { time_s: each.time_s } : { frame_index: each.frame_index });

  // Changes from a record that `fix` gave.
  function restore(video, record) {
    const found = new Map(), at = (each) => each.frame_index ?? video.prompts.find((p) => p.time_s === each.time_s)?.at ?? 0;
    for (const each of record.changed) found.set(place(each.object_id, at(each)), { points: [], ...each, at: at(each) });
    for (const each of record.removed) found.set(place(each.object_id, at(each)), null);
    return found;
  }

  // Records as JSON lines, object ids as numbers.
  const text = (records) => records.map((each) =>
    JSON.stringify(each).replace(/"object_id":"(-?\d+)"/g, '"object_id":$1') + "\n").join("");

  return { find, all, addPoint, setBox, remove, rename, problems, fix, restore, text };
})();
if (typeof module !== "undefined") module.exports = Prompts;
