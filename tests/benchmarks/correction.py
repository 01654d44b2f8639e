"""Does a correction repair a label? One masklet before and after, through the command line alone.

    python -m tests.benchmarks.correction [--held-out CLIPS] [--masklet VIDEO OBJECT] [--kind mask] [--folder KEPT]

Labels the demo corpus (or held-out clips, prompted by one click), writes a review, prompts the masklet (by default the
worst) on the first frame on which most of the object is in sight and mostly missed, in place of a prompt that is there
already, and labels the edited manifest.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.demo.corpus import box, exact, held_out_corpus, make_corpus
from pipeline.masks import rle
from pipeline.tables.query import open_labels


def job(name: str, *arguments: object) -> None:
    """Runs a command, and shows it and what it says."""
    print(f"\n$ python -m jobs.{name}", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", f"jobs.{name}", *map(str, arguments)], check=True)


def scores(labels: Path, corpus: Path, file: Path) -> dict[tuple[str, int], float]:
    """J&F of each masklet."""
    job("evaluate", labels, "--truth", corpus / "truth.parquet", "--csv", file)
    with file.open() as lines:
        return {(row["video_id"], int(row["object_id"])): float(row["j_and_f"]) for row in csv.DictReader(lines)}


def failure(labels: Path, truth: list[dict[str, Any]], video_id: str, object_id: int) -> dict[str, Any]:
    """The truth of the first frame on which over half of the object is in sight, and mostly missed or not labelled."""
    with open_labels(str(labels)) as tables:
        found = tables.sql(
            f"SELECT frame_index, counts FROM masks WHERE video_id = '{video_id}' AND object_id = {object_id}"
        ).fetchall()
    counts = dict(found)
    rows = [row for row in truth if (row["video_id"], row["object_id"]) == (video_id, object_id)]
    largest = max(row["area"] for row in rows)
    for row in sorted(rows, key=lambda row: row["frame_index"]):
        if row["area"] > largest / 2:
            size = (row["height"], row["width"])
            true = rle.decode(row["counts"], size)
            got = rle.decode(counts[row["frame_index"]], size) if row["frame_index"] in counts else np.zeros(size, bool)
            if np.count_nonzero(true & got) < 0.3 * np.count_nonzero(true | got):
                return row | {"true": true}
    raise SystemExit(f"{video_id}, object {object_id}: no frame to correct")


def main() -> None:
    """Prints the commands, what they say, and the J&F before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--held-out", type=int, metavar="CLIPS")
    parser.add_argument("--masklet", nargs=2, metavar=("VIDEO", "OBJECT"))
    parser.add_argument("--kind", choices=["box", "mask"], default="box")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="correction-"))
    corpus, labels, review = folder / "corpus", folder / "labels", folder / "review"
    if args.held_out:
        manifest = held_out_corpus(corpus, clips=args.held_out)["click"]
    else:
        make_corpus(corpus)
        manifest = corpus / "manifest.parquet"
    job("label", "--manifest", manifest, "--output", labels, "--model", "embedded")
    before = scores(labels, corpus, folder / "before.csv")
    chosen = (args.masklet[0], int(args.masklet[1])) if args.masklet else min(before, key=before.__getitem__)
    video_id, object_id = chosen
    frame = failure(labels, pq.read_table(corpus / "truth.parquet").to_pylist(), *chosen)
    job("review", labels, "--worst", len({video for video, _ in before}), "--folder", review)

    reviewed = pq.read_table(review / "manifest.parquet")
    rows = reviewed.to_pylist()
    (row,) = (row for row in rows if row["video_id"] == video_id)
    place = {"object_id": object_id, "frame_index": frame["frame_index"]}
    kept = [prompt for prompt in row["prompts"] if any(prompt[name] != value for name, value in place.items())]
    row["prompts"] = [*kept, place | (box if args.kind == "box" else exact)(frame["true"])]
    pq.write_table(pa.Table.from_pylist(rows, schema=reviewed.schema), review / "manifest.parquet")
    print(f"\n{video_id}, object {object_id}: a {args.kind} on frame {frame['frame_index']}")

    job("label", "--manifest", review / "manifest.parquet", "--output", labels, "--model", "embedded")
    after = scores(labels, corpus, folder / "after.csv")
    print(f"\n{video_id}, object {object_id}: J&F {before[chosen]:.3f} before, {after[chosen]:.3f} after")
    moved = [name for name in before if before[name] != after[name]]
    print(f"masklets whose masks changed: {moved}; mean J&F of all {len(before)}: ", end="")
    print(f"{np.mean(list(before.values())):.3f} before, {np.mean(list(after.values())):.3f} after")


if __name__ == "__main__":
    main()
