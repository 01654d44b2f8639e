"""Content that a library does not expect: labelled, or refused with a VideoError, never another exception."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.errors import VideoError
from pipeline.video import open_video
from tests.video.clips import Clip, backward, forward
from tests.video.pictures import number_of, odd_pictures, png, write_exif_avi, write_palette_avi


@pytest.mark.parametrize("write", [write_exif_avi, write_palette_avi])
def test_avis_with_exif_or_a_palette_are_read(tmp_path: Path, write: Callable[[Path], Path]):
    with open_video(write(tmp_path / "odd.avi"), name="odd") as video:
        frames = list(video.forward())
        assert [number_of(frame.rgb) for frame in frames] == list(range(10))
        assert not video.damage.any
        assert backward(video, 9) == forward(video)[::-1]


def test_side_data_that_pyav_does_not_name_is_passed_over(shared: Path):
    path = shared / "hard" / "spatial_mvhevc.mov"
    with open_video(path, name="spatial") as video:
        assert len(forward(video)) == 5
        assert (video.info.width, video.info.height, video.info.rotation) == (1934, 2160, 0)


@pytest.mark.parametrize("name", odd_pictures())
def test_pictures_of_every_mode(name: str):
    data = odd_pictures()[name]
    with open_video({name: lambda: data}, name=name) as video:
        (frame,) = video.forward()
    with Image.open(io.BytesIO(data)) as image:
        shown = ImageOps.exif_transpose(image)
        plain = np.asarray(shown.convert("RGB")) if name != "deep.png" else np.asarray(shown)[..., None] >> 8
    assert np.array_equal(frame.rgb, np.broadcast_to(plain, frame.rgb.shape))


def broken_zips() -> dict[str, bytes]:
    """A zip of three pictures, broken in ways that zipfile meets with errors of several classes."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number}.png", png(number))
    data = sink.getvalue()
    entry, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")

    def changed(at: int, new: bytes) -> bytes:
        return data[:at] + new + data[at + len(new) :]

    return {
        "a name of no length": changed(entry + 28, b"\0\0"),
        "an unknown method": changed(entry + 10, b"\x63\0"),
        "an extra field that ends early": changed(entry + 30, b"\3\0"),
        "a directory that starts elsewhere": changed(end + 16, b"\xff\xff\xff\x7f"),
        "a name that is not UTF-8": changed(entry + 8, b"\0\x08").replace(b"0.png", b"\xff\xff\xff\xff\xff"),
        "a part of the file": data[: len(data) // 2],
    }


@pytest.mark.parametrize("what", broken_zips())
def test_broken_zips_are_read_as_far_as_they_go_or_refused(tmp_path: Path, what: str):
    path = tmp_path / "broken.zip"
    path.write_bytes(broken_zips()[what])
    try:
        with open_video(path, name="broken") as video:
            assert all(frame.rgb.shape == (64, 96, 3) for frame in video.forward())
    except VideoError as error:
        assert "broken" in str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize("start_s", [float("inf"), float("nan"), 1e300])
def test_a_segment_beyond_any_time_has_no_frames(clip: Callable[[Clip], Path], start_s: float):
    with pytest.raises(VideoError, match="no frame") as caught:
        open_video(clip(Clip(name="segment.mp4")), name="segment", start_s=start_s)
    assert caught.value.failure_class == "no_frames"


def test_a_zero_byte_picture_shows_its_predecessor():
    files = {f"{number}.png": lambda number=number: png(number) for number in range(4)} | {"2.png": lambda: b""}
    with open_video(files, name="zero") as video:
        assert [number_of(frame.rgb) for frame in video.forward()] == [0, 1, 1, 3]
        assert video.damage.damaged_packets == 1
