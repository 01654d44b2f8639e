"""What labelling fewer frames costs and loses: the demo's corpus at label rates, against its true masks.

    python -m tests.benchmarks.label_rate [--rates 1 2 3 6]

Frames decoded and tracked, CPU seconds of this process (decoding, model and encoding, one thread), and J&F of the
labelled frames.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from pipeline.demo.corpus import make_corpus
from pipeline.formats.evaluate import evaluate, summarise
from pipeline.formats.labels import connect
from pipeline.formats.opening import open_masks
from pipeline.formats.selection import Selection
from pipeline.formats.sources import SelectedMasks
from pipeline.labels import read_part
from pipeline.manifest import read_manifest
from pipeline.storage import part_path
from pipeline.workers.labeler import Labeler
from tests import labelling


def measure(corpus: Path, output: Path, rates: Sequence[int]) -> None:
    """Label the corpus at each stride; prints a line for each."""
    manifest = read_manifest(corpus / "manifest.parquet")
    truth = open_masks(str(corpus / "truth.parquet"))
    print("stride  decoded  tracked  masks  CPU s  J&F")
    for rate in rates:
        labeler = Labeler(labelling.settings(output))
        started, tracked, masks = time.process_time(), 0, 0
        for video in manifest.videos(range(len(manifest))):
            task = labelling.task_of(video, label_key=f"{rate}")
            done = labeler.label(replace(task, label_rate=None if rate == 1 else f"{rate}f"))
            tracked, masks = tracked + done.frames, masks + done.masks
        seconds = time.process_time() - started
        ids = manifest.table["video_id"].to_pylist()
        parts = [read_part(output / part_path(video_id, f"{rate}")) for video_id in ids]
        tables = (
            pa.concat_tables([getattr(part, name) for part in parts], promote_options="default")
            for name in ("masks", "masklets", "video")
        )
        result = evaluate(SelectedMasks(Selection(connect(*tables))), truth, workers=1)
        decoded = sum(part.video["frames"][0].as_py() for part in parts)
        score = summarise(result).overall.j_and_f
        print(f"{rate:6}  {decoded:7}  {tracked:7}  {masks:5}  {seconds:5.1f}  {score:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="+", default=[1, 2, 3, 6])
    given = parser.parse_args()
    with TemporaryDirectory() as folder:
        make_corpus(Path(folder) / "corpus")
        measure(Path(folder) / "corpus", Path(folder) / "labels", given.rates)


if __name__ == "__main__":
    main()
