"""Camera topics of MCAP recordings have the frames and times of the same packets in a video file."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs.manifest import main as manifest_job
from pipeline.errors import StorageError, UsageError, VideoError
from pipeline.manifest import read_manifest
from pipeline.storage import Store
from pipeline.video import Frame
from pipeline.video.content import content_version, open_uri
from pipeline.video.digests import content_digest
from tests.video import recordings as r

COUNT = 12
TIMES = [r.START_NS + n * r.STEP_NS + (n % 3) * 5_000_000 for n in range(COUNT)]
"""Log times of a camera that is not quite regular."""


def frames_of(uri: str, **more: bool) -> list[Frame]:
    with open_uri(uri, **more) as (reader, _):
        frames = list(reader.forward())
        assert reader.damage.complete
        assert not reader.damage.any
        return frames


def assert_same(got: Sequence[Frame], expected: Sequence[Frame]) -> None:
    assert [f.index for f in got] == [f.index for f in expected] == [*range(COUNT)]
    assert [f.time_s for f in got] == pytest.approx([f.time_s for f in expected], abs=1e-9)
    assert all(np.array_equal(one.rgb, other.rgb) for one, other in zip(got, expected, strict=True))


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_compressed_video_is_frame_exact(tmp_path: Path, codec: str, encoding: str) -> None:
    packets, path = r.encoded(codec, r.pictures(COUNT)), tmp_path / "drive.mcap"
    r.as_file(codec, packets, tmp_path / "same.mkv", TIMES)
    if encoding == "json":
        r.write_json(path, packets, TIMES, schema="foxglove.CompressedVideo", form=codec)
    else:
        r.write_protobuf(path, {"/cam": ("CompressedVideo", codec, packets)}, TIMES)
    uri = f"{path}#topic=/cam"
    assert_same(frames_of(uri), frames_of(str(tmp_path / "same.mkv")))
    assert_same(frames_of(uri, isolate=True), frames_of(uri))
    with open_uri(uri) as (reader, _):
        assert [f.index for f in reader.backward(8)] == [8, 7, 6, 5, 4, 3, 2, 1, 0]
        assert reader.info.fps == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize("encoding", ["protobuf", "json", "ros1", "ros2"])
@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_compressed_images_are_frame_exact(tmp_path: Path, encoding: str, form: str) -> None:
    pictures, path = [r.picture_bytes(frame, form) for frame in r.pictures(COUNT)], tmp_path / "drive.mcap"
    stated = f"rgb8; {form} compressed bgr8" if encoding.startswith("ros") else form
    if encoding == "protobuf":
        r.write_protobuf(path, {"/cam": ("CompressedImage", stated, pictures)}, TIMES)
    elif encoding == "json":
        r.write_json(path, pictures, TIMES, schema="foxglove.CompressedImage", form=stated)
    else:
        (r.write_ros1 if encoding == "ros1" else r.write_ros2)(path, pictures, TIMES, form=stated)
    frames = frames_of(f"{path}#topic=/cam")
    assert [f.time_s for f in frames] == pytest.approx([(t - TIMES[0]) / 1e9 for t in TIMES], abs=1e-9)
    for frame, data in zip(frames, pictures, strict=True):
        difference = np.abs(frame.rgb.astype(int) - np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
        assert difference.max() == 0 if form == "png" else difference.mean() < 3


def test_a_manifest_has_a_row_for_each_topic_also_on_s3(tmp_path: Path, s3) -> None:
    pictures = r.pictures(COUNT)
    topics = {
        "/cam/left": ("CompressedVideo", "h264", r.encoded("h264", pictures)),
        "/cam/right": ("CompressedImage", "jpeg", [r.picture_bytes(frame, "jpeg") for frame in pictures[:5]]),
    }
    local = tmp_path / "corpus" / "drive.mcap"
    local.parent.mkdir()
    r.write_protobuf(local, topics, TIMES)
    Store(s3.uri).put("corpus/drive.mcap", local.read_bytes())
    r.as_file("h264", topics["/cam/left"][2], local.parent / "a.mkv", TIMES)
    for source in (str(local.parent), f"{s3.uri}/corpus"):
        out = tmp_path / f"{source.startswith('s3')}.parquet"
        assert manifest_job(["build", source, "--prompt", "centre-box", "--output", str(out)]) == 0
        manifest = read_manifest(str(out))
        rows = [row for row in manifest.table.to_pylist() if row["topic"]]
        assert [row["video_uri"] for row in rows] == [
            f"{source}/drive.mcap#topic=/cam/{side}" for side in ("left", "right")
        ]
        assert [row["log_time_ns"] for row in rows] == [TIMES[0]] * 2
        assert [row["num_frames"] for row in rows] == [COUNT, 5]
        assert len({row["video_version"] for row in rows}) == 2
        for row in rows:
            version = content_version(row["video_uri"])
            assert version is not None
            assert version.token() == row["video_version"]
            with open_uri(row["video_uri"], planned_version=row["video_version"]) as (reader, _):
                assert sum(1 for _ in reader.forward()) == (COUNT if row["topic"] == "/cam/left" else 5)
        assert content_digest(rows[0]["video_uri"]) != content_digest(rows[1]["video_uri"])


def test_frames_before_the_first_key_frame_are_left_out(tmp_path: Path) -> None:
    packets = r.encoded("h264", r.pictures(COUNT))
    r.write_protobuf(tmp_path / "late.mcap", {"/cam": ("CompressedVideo", "h264", packets[3:])}, TIMES[3:])
    with open_uri(f"{tmp_path / 'late.mcap'}#topic=/cam") as (reader, _):
        assert [f.index for f in reader.forward()] == [*range(6)]


def test_wrong_topics_and_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packets, path = r.encoded("h264", r.pictures(COUNT)), tmp_path / "drive.mcap"
    r.write_protobuf(
        path, {"/cam": ("CompressedVideo", "h264", packets), "/empty": ("CompressedVideo", "h264", [])}, TIMES
    )
    r.write_json(tmp_path / "depth.mcap", packets, TIMES, schema="sensor_msgs/Image", form="16UC1")
    r.write_json(tmp_path / "vp9.mcap", packets, TIMES, schema="foxglove.CompressedVideo", form="vp9")
    (tmp_path / "cut.mcap").write_bytes(path.read_bytes()[:-200])
    (tmp_path / "text.mcap").write_text("no recording, but long enough for one")
    for name, topic, message in (
        ("drive", "/front", r"drive.mcap has no topic '/front'; it has /cam \(foxglove.CompressedVideo\)"),
        ("drive", "/empty", "#topic=/empty has no messages"),
        ("depth", "/cam", "topic '/cam' has the schema sensor_msgs/Image; allowed: foxglove.CompressedVideo, "),
        ("vp9", "/cam", "topic '/cam' holds 'vp9'; allowed: h264, h265"),
        ("cut", "/cam", "cut.mcap is truncated"),
        ("text", "/cam", "not a valid MCAP file"),
    ):
        with pytest.raises(VideoError, match=message), open_uri(f"{tmp_path / name}.mcap#topic={topic}"):
            pass
    with pytest.raises(StorageError, match=r"none\.mcap"), open_uri(f"{tmp_path}/none.mcap#topic=/cam"):
        pass
    assert manifest_job(["build", str(tmp_path), "--prompt", "centre-box", "--output", f"{tmp_path}/m.parquet"]) == 3
    err = capsys.readouterr().err
    assert "depth.mcap has no camera topic; it has /cam (sensor_msgs/Image)" in err
    assert "cut.mcap is truncated" in err
    assert "drive.mcap#topic=/empty has no messages with a key frame" in err
    assert "vp9.mcap: topic '/cam' holds 'vp9'; allowed: h264, h265" in err
    rows = read_manifest(f"{tmp_path}/m.parquet").table.to_pylist()
    assert [row["video_id"] for row in rows] == ["drive.mcap#topic=/cam"]


def test_without_the_extra_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcap_ros2.decoder", None)
    with pytest.raises(UsageError, match=r"MCAP recordings need the extra mcap: pip install 'sam2-corpus\[mcap\]'"):
        content_version(f"{tmp_path}/drive.mcap#topic=/cam")
