"""List videos of a manifest that look alike, for a person to decide about. Nothing is changed or left out.

Key frames of each video are compared by a perceptual hash, which survives another size, codec or small edits.
Videos of equal content are found by jobs.label itself (--find-duplicates).
"""

import argparse
import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs.command import add_storage, counted, handle_errors, open_storage, start
from jobs.command_line import Parser
from pipeline.errors import CorpusError, UsageError
from pipeline.manifest import Video, read_manifest
from pipeline.manifest.near_duplicates import Hashes, find_alike, hashes_of, load_hash
from pipeline.storage import open_source
from pipeline.video.keyframes import key_frames

BITS = 64


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m jobs.duplicates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit codes: 0 done; 3 done, but some videos could not be compared; 2 wrong usage; 1 unexpected",
    )
    add = p.add_argument
    add("manifest", metavar="MANIFEST", help="manifest of the videos (path or fsspec URL)")
    add("--frames", type=int, default=8, metavar="N", help="key frames compared of each video (default: 8)")
    add("--distance", type=int, default=6, metavar="BITS", help="bits of 64 by which hashes of two alike frames may "
        "differ (default: 6)")  # fmt: skip
    add("--share", type=float, default=0.5, metavar="X", help="share of the key frames that must be alike (default: "
        "0.5)")  # fmt: skip
    add("--output", metavar="FILE", help="also write the pairs to this CSV file")
    add("--threads", type=int, default=16, metavar="N", help="number of videos opened at the same time (default: 16)")
    add_storage(p)
    return p


@handle_errors
def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = parser().parse_args(arguments)
    for name, holds, allowed in (
        ("frames", given.frames >= 1, "1 or more"),
        ("distance", 0 <= given.distance <= BITS, "0 to 64"),
        ("share", 0 < given.share <= 1, "above 0, up to 1"),
        ("threads", given.threads >= 1, "1 or more"),
    ):
        if not holds:
            raise UsageError(f"--{name} is {getattr(given, name)}; allowed: {allowed}")
    storage, hash_frame = open_storage(given), load_hash()
    manifest = read_manifest(
        given.manifest, on_bad_row="skip", open_file=lambda uri: open_source(uri, storage=storage)[0]
    )

    def hashes(video: Video) -> Hashes | CorpusError:
        try:
            frames = key_frames(
                video.video_uri, given.frames, start_s=video.start_s or 0.0, end_s=video.end_s, storage=storage
            )
        except CorpusError as error:
            return error
        return hashes_of(frames, hash_frame)

    videos = list(manifest.videos(range(len(manifest))))
    with ThreadPoolExecutor(given.threads) as threads:
        found = dict(zip((video.video_id for video in videos), threads.map(hashes, videos), strict=True))
    compared = {video_id: each for video_id, each in found.items() if not isinstance(each, CorpusError)}
    for video_id, each in found.items():
        if isinstance(each, CorpusError):
            print(f"not compared: {video_id!r}: {each}", file=sys.stderr)
        elif not len(each):
            print(f"not compared: {video_id!r}: its key frames are blank", file=sys.stderr)
    pairs = sorted(find_alike(compared, distance=given.distance, share=given.share), key=lambda pair: -pair.share)
    for pair in pairs:
        print(f"{pair.video_id}\t{pair.other}\t{pair.share:.0%} of the key frames alike")
    print(f"{counted(len(pairs), 'pair')} of {counted(len(compared), 'compared video')} found that look alike")
    if given.output:
        with Path(given.output).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["video_id", "other", "share"])
            writer.writerows([pair.video_id, pair.other, f"{pair.share:.3f}"] for pair in pairs)
    return 3 if len(compared) < len(found) or manifest.bad_rows else 0


if __name__ == "__main__":
    start(main)
