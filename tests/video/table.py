"""Every real test file, expected against got. Print it with `python -m tests.video.table`."""

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from pipeline.errors import VideoError
from pipeline.video import VideoReader, open_video
from tests.video.clips import checksum

VIDEOS = {
    "bedroom.mp4": {"frames": 200, "size": (960, 540), "rate": 30.0, "codec": "h264"},
    "juggle.mp4": {"frames": 247, "size": (1280, 720), "rate": 24.0, "codec": "h264"},
}
"""What ffprobe says of the two that have no manifest."""

BEST = "the manifest describes stream v:0, FFmpeg's best stream is v:1"
SPAN = "the container divides by the whole duration, we by the time from the first frame to the last"
REASONS = {
    ("long_21766_frames_av1.mp4", "aspect"): "the newer FFmpeg says 1:1 where ffprobe 5.1.9 says nothing",
    ("two_video_streams.mp4", "frames"): BEST,
    ("two_video_streams.mp4", "size"): BEST,
    ("two_video_streams.mp4", "rate"): BEST,
    ("two_video_streams.mp4", "container count"): BEST,
    ("vfr_hevc_rot_two_video.mp4", "rate"): f"variable rate: {SPAN}",
    ("corrupt_h264.mp4", "rate"): "the lost frame is none: 49 frames in the time of 50",
    ("corrupt_h264.mp4", "damage"): "one packet that gives no frame, one frame that FFmpeg conceals",
    ("corrupt_h264.mp4", "variable"): "the lost frame leaves a gap",
    ("truncated_derived.mp4", "damage"): "cut to 1,000,000 bytes: the last packet is partial, 117 more are missing",
}
"""Why the two differ, where they do."""


@dataclass(frozen=True)
class Row:
    """One fact of one file."""

    file: str
    fact: str
    expected: object
    got: object

    @property
    def reason(self) -> str | None:
        return REASONS.get((self.file, self.fact))

    @property
    def equal(self) -> bool:
        if isinstance(self.expected, float) and isinstance(self.got, float):
            return abs(self.expected - self.got) < 5e-4 * max(1.0, self.expected)
        return self.expected == self.got


def rows(shared: Path, *, sampled: bool = False) -> list[Row]:
    """All facts; `sampled` compares the pixels of some 40 frames a file only (PyAV's own conversion takes 3 ms)."""
    with (shared / "hard" / "manifest.csv").open() as file:
        entries = list(csv.DictReader(file))
    table = [row for entry in entries for row in _check(shared / "hard" / entry["file"], _expected(entry), sampled)]
    return table + [row for name, facts in VIDEOS.items() for row in _check(shared / "videos" / name, facts, sampled)]


def _expected(entry: dict[str, str]) -> dict[str, object]:
    if not entry["codec"]:
        return {"failure": "no_video_stream"}
    turn = -int(entry["rotation"]) % 360  # ffprobe counts counter-clockwise
    width, height = int(entry["width"]), int(entry["height"])
    top, bottom = entry["avg_frame_rate"].split("/")
    sar = entry["sar"].split(":")
    expected: dict[str, object] = {
        "frames": int(entry["expected_frames_ffprobe_5_1_9"]),
        "size": (height, width) if turn % 180 else (width, height),
        "rotation": turn,
        "rate": int(top) / int(bottom),
        "codec": entry["codec"],
        "pixels": entry["pix_fmt"],
        "aspect": (int(sar[0]), int(sar[1])) if len(sar) == 2 else None,
        "container count": int(entry["container_nb_frames"]) if entry["container_nb_frames"] else None,
    }
    if entry["r_frame_rate"]:
        expected["variable"] = entry["r_frame_rate"] != entry["avg_frame_rate"]
    if entry["start_time"]:
        expected["first time"] = float(entry["start_time"])
    return expected


def _check(path: Path, expected: dict[str, object], sampled: bool) -> list[Row]:
    got: dict[str, object] = {}
    try:
        with open_video(path, name=path.name) as video:
            got = _measure(path, video, sampled)
            expected = {**expected, "damage": "none", "times and RGB as PyAV's": "all"}
    except VideoError as error:
        got = {"failure": error.failure_class}
    return [Row(path.name, fact, wanted, got.get(fact)) for fact, wanted in expected.items()]


def _measure(path: Path, video: VideoReader, sampled: bool) -> dict[str, object]:
    every = 1 + (video.info.container_frames or 0) // (40 if sampled else 1000)
    count, wrong = 0, []
    plain = _plain(path, every)
    for frame in video.forward():
        count += 1
        if frame.index % every == 0:
            time_s, stamp = next(plain, (None, None))
            turned = _unturned(frame.rgb, video)
            if frame.time_s != time_s or checksum(turned) != stamp:
                wrong.append(frame.index)
    info, damage = video.info, video.damage
    found = {"packets lost": damage.damaged_packets, "frames concealed": damage.concealed_frames}
    notes = [f"{number} {what}" for what, number in found.items() if number]
    return {
        "frames": count,
        "size": (info.width, info.height),
        "rotation": info.rotation,
        "rate": info.fps,
        "variable": info.variable_rate,
        "first time": info.first_timestamp_s,
        "codec": info.codec,
        "pixels": info.pix_fmt,
        "aspect": info.sar,
        "container count": info.container_frames,
        "damage": ", ".join(notes + ["truncated"] * damage.truncated) or "none",
        "times and RGB as PyAV's": "all" if not wrong and next(plain, None) is None else f"not at {wrong[:5]}",
    }


def _unturned(rgb: np.ndarray, video: VideoReader) -> np.ndarray:
    """Back to how it was decoded: independent of the code under test, for the turns that occur here."""
    return {0: lambda a: a, 90: lambda a: a.transpose(1, 0, 2)[::-1], 270: lambda a: a.transpose(1, 0, 2)[:, ::-1]}[
        video.info.rotation
    ](rgb)


def _plain(path: Path, every: int) -> Iterator[tuple[float, int]]:
    """(time, checksum) of every n-th frame, by PyAV alone."""
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        index, first = 0, None
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                first = frame.pts if first is None else first
                if index % every == 0:
                    yield float((frame.pts - first) * stream.time_base), checksum(frame.to_ndarray(format="rgb24"))
                index += 1


def main() -> None:
    shared = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[3] / "shared"
    table = rows(shared)
    last = ""
    for row in table:
        if row.file != last:
            print(f"\n{row.file}")
            last = row.file
        mark = "=" if row.equal else "!"
        why = "" if row.equal else f"   because {row.reason}"
        print(f"  {mark} {row.fact:24} {row.expected!s:20} {row.got!s}{why}")
    different = [row for row in table if not row.equal]
    unexplained = sum(row.reason is None for row in different)
    print(f"\n{len(table)} facts, {len(different)} differ from what was expected, {unexplained} without a reason")


if __name__ == "__main__":
    main()
