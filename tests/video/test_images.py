"""Folders and zips of images are videos too."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import PromptError, StorageError, VideoError
from pipeline.video import VideoLimits, open_video
from tests.video.clips import backward, forward, picture


def encoded(index: int, format_: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(index, 48, 32)).save(buffer, format_, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "bear"
    images.mkdir()
    for index in range(12):
        (images / f"{index}.png").write_bytes(encoded(index))
    (images / "README.txt").write_text("no image")
    (images / ".hidden.png").write_bytes(b"")
    return images


def zipped(folder: Path, target: Path, **options) -> Path:
    with zipfile.ZipFile(target, "w", **options) as archive:
        for path in folder.iterdir():
            archive.write(path, f"bear/{path.name}")
    return target


def test_a_folder_in_name_order_at_a_given_rate(folder: Path):
    with open_video(folder, name="bear", fps=10) as video:
        frames = list(video.forward())
        assert [frame.time_s for frame in frames] == [index / 10 for index in range(12)]
        for index, frame in enumerate(frames):
            assert np.array_equal(frame.rgb, picture(index, 48, 32)), "10.png comes after 9.png"
            assert frame.rgb.flags.writeable
        info = video.info
        assert (info.width, info.height, info.fps, info.codec, info.container_frames) == (48, 32, 10, "png", 12)
        assert video.damage.complete
        assert video.index_at([0, 0.09, 0.1, 1.1]) == [0, 0, 1, 11]
        with pytest.raises(PromptError, match=r"bear: no frame is on screen at 1\.3 s"):
            video.index_at([1.3])
        with pytest.raises(PromptError, match="bear: frame 12 is beyond the end; the video has frames 0 to 11"):
            video.at([12])


def test_zip_folder_and_mapping_are_the_same_video(folder: Path, tmp_path: Path):
    packed = zipped(folder, tmp_path / "bear.zip", compression=zipfile.ZIP_DEFLATED)
    remote = {path.name: path.read_bytes for path in folder.iterdir()}
    with (
        open_video(folder, name="one") as one,
        open_video(packed, name="two") as two,
        packed.open("rb") as file,
        open_video(file, name="three") as three,
        open_video(remote, name="four") as four,
    ):
        frames = forward(one)
        assert one.info == two.info == three.info == four.info
        assert one.info.fps == 24
        assert frames == forward(two) == forward(three) == forward(four)
        assert frames[::-1] == backward(two, 11)


def test_a_segment_of_images(folder: Path):
    with open_video(folder, name="bear", fps=10, start_s=0.5, end_s=0.8) as video:
        frames = list(video.forward())
        assert [(frame.index, frame.time_s) for frame in frames] == [(0, 0.5), (1, 0.6), (2, 0.7)]
        assert np.array_equal(frames[0].rgb, picture(5, 48, 32))
        assert video.index_at([0.65]) == [1]


def test_exif_orientation_turns(tmp_path: Path):
    for value in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = value
        images = tmp_path / str(value)
        images.mkdir()
        (images / "0.jpg").write_bytes(encoded(0, "JPEG", exif=exif))
        with Image.open(images / "0.jpg") as plain, open_video(images, name=str(value)) as video:
            turned = Image.open(images / "0.jpg")
            from PIL import ImageOps

            assert np.array_equal(video.at([0])[0].rgb, np.asarray(ImageOps.exif_transpose(turned)))
            assert video.info.reflected == (value in (2, 4, 5, 7))
            mirrored = np.fliplr(np.asarray(plain)) if video.info.reflected else np.asarray(plain)
            assert np.array_equal(video.at([0])[0].rgb, np.rot90(mirrored, -video.info.rotation // 90))


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_modes(tmp_path: Path, mode: str):
    gray = picture(3, 48, 32)[:, :, 0]
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    image = deep if mode == "I;16" else Image.fromarray(gray).convert(mode)
    image.save(tmp_path / "0.png")
    with open_video(tmp_path, name=mode) as video:
        rgb = video.at([0])[0].rgb
    assert rgb.shape == (32, 48, 3)
    if mode != "1":
        assert np.array_equal(rgb[:, :, 0], gray)


def test_an_unreadable_image_shows_its_predecessor(folder: Path):
    (folder / "4.png").write_bytes(encoded(4)[: len(encoded(4)) // 2])
    with open_video(folder, name="bear") as video:
        frames = list(video.forward())
        assert len(frames) == 12
        assert np.array_equal(frames[4].rgb, frames[3].rgb)
        assert np.array_equal(frames[5].rgb, picture(5, 48, 32))
        assert video.damage.damaged_packets == 1
        assert np.array_equal(video.at([4])[4].rgb, frames[3].rgb)
    with pytest.raises(VideoError, match=r"4\.png cannot be decoded") as caught:
        list(open_video(folder, name="bear", on_damaged="fail").forward())
    assert caught.value.failure_class == "damaged"


def failure(source: Path, **options) -> VideoError:
    with pytest.raises(VideoError) as caught, open_video(source, name=source.name, **options) as video:
        list(video.forward())
    return caught.value


def test_failures_by_class(folder: Path, tmp_path: Path):
    assert failure(folder, limits=VideoLimits(max_pixels=100)).failure_class == "too_large"
    assert failure(folder, limits=VideoLimits(max_frames=5)).failure_class == "too_large"
    assert failure(folder, start_s=99).failure_class == "no_frames"
    (folder / "5.png").write_bytes(encoded(5, "JPEG"))
    with Image.open(folder / "5.png") as small:
        small.resize((20, 20)).save(folder / "5.png")
    assert "5.png has 20 x 20 pixels, the first image 48 x 32" in str(failure(folder))
    (folder / "0.png").write_bytes(b"nothing")
    assert failure(folder).failure_class == "no_frames"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert failure(empty).failure_class == "no_video_stream"
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.writestr("a/0.png", encoded(0))
        archive.writestr("b/0.png", encoded(0))
    assert "images in 2 folders (a, b" in str(failure(tmp_path / "two.zip"))


def test_a_zip_bomb_fails_before_it_unpacks(tmp_path: Path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0.png", bytes(5 << 20))
    assert failure(path, limits=VideoLimits(max_pixels=100_000)).failure_class == "too_large"


def test_an_image_of_too_many_pixels_fails_before_it_is_decoded(tmp_path: Path):
    """A PNG header may claim any size; Pillow's own guard warns and raises at other sizes than ours."""
    data = bytearray(encoded(0))
    data[16:24] = (60_000).to_bytes(4) + (60_000).to_bytes(4)
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)
    (tmp_path / "0.png").write_bytes(data)
    assert failure(tmp_path).failure_class == "too_large"


def test_a_missing_image_is_storage(folder: Path):
    with open_video(folder, name="bear") as video:
        (folder / "7.png").unlink()
        with pytest.raises(StorageError, match=r"7\.png: cannot be read: No such file"):
            list(video.forward())
