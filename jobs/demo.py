"""Render a small corpus of moving shapes, label it on a local Ray from prompts and from detections, and query both."""

import argparse
import time

from jobs import console, label
from jobs.command import handle_errors, start
from jobs.command_line import Parser
from pipeline.runs.values import user_path

QUERY = """
    SELECT video_id, object_id, category, visible_frames AS visible, gaps, longest_gap,
           round(mean_area) AS mean_area, round(mean_iou, 2) AS predicted_iou
    FROM masklets ORDER BY video_id, object_id
"""

FOUND = """
    SELECT video_id, count(*) AS masklets, round(avg(visible_frames)) AS visible,
           round(avg(mean_iou), 2) AS predicted_iou
    FROM masklets GROUP BY video_id ORDER BY video_id
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(prog="python -m jobs.demo", description=__doc__)
    p.add_argument("--folder", type=user_path, default="demo", help="folder to write everything to (default: demo)")
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns its exit code."""
    folder = parser().parse_args(arguments).folder
    from pipeline.demo.corpus import make_corpus  # imported late: they are slow to load
    from pipeline.tables.query import open_labels

    started = time.perf_counter()
    make_corpus(folder / "corpus")
    console.out.print(f"corpus: {folder}/corpus, with its manifest and true masks")
    console.out.print("model: embedded, a toy trained on such shapes; for real work: facebook/sam2.1-hiera-*")
    command = ["--manifest", f"{folder}/corpus/manifest.parquet", "--output", f"{folder}/labels", "--model", "embedded"]
    console.out.print(f"$ python -m jobs.label {' '.join([*command, '--actors', '2'])}")
    code = label.main([*command, "--actors", "2"])
    console.out.print(f'$ python -m jobs.query {folder}/labels "{" ".join(QUERY.split())}"', markup=False)
    print(open_labels(folder / "labels").sql(QUERY))
    found = ["--manifest", f"{folder}/corpus/videos", "--output", f"{folder}/found", "--model", "embedded"]
    found += ["--detect", "shape", "--detector", "embedded", "--threshold", "0.4", "--at", "0.5s", "--actors", "2"]
    console.out.print("the same videos without prompts: a detector finds the objects")
    console.out.print(f"$ python -m jobs.label {' '.join(found)}")
    code = max(code, label.main(found))
    console.out.print(f'$ python -m jobs.query {folder}/found "{" ".join(FOUND.split())}"', markup=False)
    print(open_labels(folder / "found").sql(FOUND))
    console.out.print(f"took {time.perf_counter() - started:.0f} s")
    return code


if __name__ == "__main__":
    start(main)
