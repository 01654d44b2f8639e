"""Render a small corpus of moving shapes, label it on a local Ray, and query the labels. Nothing is downloaded."""

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
    console.out.print(f"took {time.perf_counter() - started:.0f} s")
    return code


if __name__ == "__main__":
    start(main)
