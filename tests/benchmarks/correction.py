"""Does a correction repair a label? The demo corpus' worst masklet before and after, through the command line alone.

    python -m tests.benchmarks.correction [--folder KEPT] [--correct]

Labels the demo corpus, writes a review, gives the worst masklet one box on the first frame on which the object is well
in sight and mostly missed (or, with --correct, corrects the tracked mask with it), and labels the edited manifest.
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

from pipeline import rle
from pipeline.demo.corpus import box, make_corpus
from pipeline.query import open_labels


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
    """The truth of the first frame on which more than half of the object is in sight and mostly missed."""
    with open_labels(str(labels)) as tables:
        found = tables.sql(
            f"SELECT frame_index, counts FROM masks WHERE video_id = '{video_id}' AND object_id = {object_id}"
        ).fetchall()
    counts = dict(found)
    true = [row for row in truth if (row["video_id"], row["object_id"]) == (video_id, object_id)]
    largest = max(row["area"] for row in true)
    for row in sorted(true, key=lambda row: row["frame_index"]):
        if row["frame_index"] in counts and row["area"] > largest / 2:
            size = (row["height"], row["width"])
            a, b = (rle.decode(text, size) for text in (row["counts"], counts[row["frame_index"]]))
            if np.count_nonzero(a & b) < 0.3 * np.count_nonzero(a | b):
                return row | {"true": a}
    raise SystemExit(f"{video_id}, object {object_id}: no frame to correct")


def main() -> None:
    """Prints the commands, what they say, and the J&F before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--correct", action="store_true", help="correct the tracked mask instead of prompting anew")
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="correction-"))
    corpus, labels, review = folder / "corpus", folder / "labels", folder / "review"
    make_corpus(corpus)
    job("label", "--manifest", corpus / "manifest.parquet", "--output", labels, "--model", "embedded")
    before = scores(labels, corpus, folder / "before.csv")
    video_id, object_id = worst = min(before, key=before.__getitem__)
    frame = failure(labels, pq.read_table(corpus / "truth.parquet").to_pylist(), *worst)
    job("review", labels, "--worst", 10, "--folder", review)

    manifest = pq.read_table(review / "manifest.parquet")
    rows = manifest.to_pylist()
    (row,) = (row for row in rows if row["video_id"] == video_id)
    prompt = {"object_id": object_id, "frame_index": frame["frame_index"], **box(frame["true"])}
    row["prompts"] = [*row["prompts"], prompt | ({"correct": True} if args.correct else {})]
    pq.write_table(pa.Table.from_pylist(rows, schema=manifest.schema), review / "manifest.parquet")
    print(f"\n{video_id}, object {object_id}: a box on frame {prompt['frame_index']}: {prompt['box']}")

    job("label", "--manifest", review / "manifest.parquet", "--output", labels, "--model", "embedded")
    after = scores(labels, corpus, folder / "after.csv")
    print(f"\n{video_id}, object {object_id}: J&F {before[worst]:.3f} before, {after[worst]:.3f} after")
    moved = [name for name in before if before[name] != after[name]]
    print(f"masklets whose masks changed: {moved}; mean J&F of all {len(before)}: ", end="")
    print(f"{np.mean(list(before.values())):.3f} before, {np.mean(list(after.values())):.3f} after")


if __name__ == "__main__":
    main()
