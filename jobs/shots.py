"""Find the shots of videos: a table with the first and last frame of each.

Columns: video_id, shot (from 0), start_s, end_s (seconds after the file's first frame), start_frame, end_frame. Finders
are extras: pip install 'sam2-corpus[shots]' for PySceneDetect, 'sam2-corpus[transnetv2]' for TransNetV2.
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import label
from jobs.command import add_storage, counted, handle_errors, open_storage, start
from jobs.command_line import Parser, share_options
from jobs.manifest_actions import check_output, folder_and_name
from pipeline.errors import CorpusError
from pipeline.storage import Store, redact

if TYPE_CHECKING:
    from pipeline.manifest import Video

SHARED = ("--on-bad-row",)
"""Options that are those of jobs.label."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    from pipeline.detection.shots import Finder

    p = Parser(
        prog="python -m jobs.shots",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 done; 3 done, but some videos or rows left out; 2 wrong usage or table; 1 unexpected",
    )
    add = p.add_argument
    add("--videos", required=True, metavar="URI", help="folder of videos, or table (Parquet, CSV, JSON lines) of "
        "video_id, video_uri and other columns of manifests")  # fmt: skip
    add("--output", required=True, metavar="URI", help="Parquet table to write (path or fsspec URL)")
    add("--overwrite", action="store_true", help="replace an existing table")
    add("--finder", choices=get_args(Finder), default="pyscenedetect", help="what finds cuts (default: pyscenedetect)")
    add("--threads", type=int, default=4, metavar="N", help="videos decoded at the same time (default: 4)")
    add_storage(p)
    share_options(p, label.parser(), SHARED)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    storage = open_storage(given)
    from pipeline.detection.shots import SCHEMA, check_installed, find_shots  # imported late: they load PyAV
    from pipeline.manifest.fps import rate_of
    from pipeline.runs.detection import read_videos
    from pipeline.video.content import open_uri

    check_output(given, storage)
    check_installed(given.finder)
    manifest = read_videos(given.videos, storage=storage, on_bad_row=given.on_bad_row or "fail")

    def shots_of(video: "Video") -> list[dict[str, object]] | str:
        uri, start_s, end_s, fps = video.video_uri, video.start_s, video.end_s, rate_of(video)
        try:
            with open_uri(uri, storage=storage, start_s=start_s, end_s=end_s, fps=fps) as (reader, _):
                shots = find_shots(reader, given.finder)
        except CorpusError as error:
            return f"{video.video_id!r}: {error}"
        return [{"video_id": video.video_id, "shot": number, **asdict(shot)} for number, shot in enumerate(shots)]

    found = left_out = 0
    folder, name = folder_and_name(given.output)
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(given.threads) as threads:
        path = Path(temporary) / "shots.parquet"
        with pq.ParquetWriter(path, SCHEMA) as writer:
            videos = (manifest.video(at) for at in range(len(manifest)))
            for rows in threads.map(shots_of, videos):
                if isinstance(rows, str):
                    left_out += 1
                    print(f"left out: {rows}", file=sys.stderr)
                else:
                    found += len(rows)
                    writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
        for bad in manifest.bad_rows:
            print(f"bad row left out: {bad}", file=sys.stderr)
        Store(folder, storage=storage).put(name, path)
    left_out += len(manifest.bad_rows)
    print(f"{redact(given.output)}: {counted(found, 'shot')} of {counted(len(manifest), 'video')}; {left_out} left out")
    return 3 if left_out else 0


if __name__ == "__main__":
    start(main)
