"""Where bytes come from: ranged reads, streams that cannot seek, storage that fails."""

import gc
import io
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import StorageError, VideoError
from pipeline.video import VideoLimits, input_file, open_video
from tests.video.clips import Clip, backward, forward

BIG = Clip(
    name="big.mp4", frames=300, gop=25, size=(320, 240), options={"crf": "1"}, container={"movflags": "faststart"}
)


class Remote(io.RawIOBase):
    """A seekable object as remote storage gives it; counts what is read, and fails where told."""

    def __init__(self, data: bytes, *, fail_at: int | None = None) -> None:
        self._data, self._at, self._fail_at = data, 0, fail_at
        self.bytes_read = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        data = self._data[self._at : self._at + len(buffer)]
        if self._fail_at is not None and self._at + len(data) > self._fail_at:
            raise ConnectionError("the store went away")
        buffer[: len(data)] = data
        self._at += len(data)
        self.bytes_read += len(data)
        return len(data)


class Stream(io.RawIOBase):
    """Bytes that come once, as from http."""

    def __init__(self, data: bytes, *, fail: bool = False) -> None:
        self._inner, self._fail = io.BytesIO(data), fail

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        if self._fail and self._inner.tell() > 1000:
            raise ConnectionError("the server went away")
        return self._inner.readinto(memoryview(buffer)[:50_000])


def temporary_files() -> int:
    gc.collect()  # others' files must not go away between two counts
    count = 0
    for link in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):  # closed meanwhile
            count += "(deleted)" in str(link.readlink())
    return count


def test_a_segment_of_a_remote_file_reads_a_part_of_it(clip: Callable[[Clip], Path]):
    data = clip(BIG).read_bytes()
    remote = Remote(data)
    with open_video(remote, name="big", start_s=8.0, end_s=9.0) as video:
        assert len(forward(video)) == 25
    assert remote.bytes_read < len(data) / 3, (remote.bytes_read, len(data))
    assert not remote.closed, "it is the caller's"


def test_every_kind_of_source_gives_the_same(clip: Callable[[Clip], Path]):
    path = clip(BIG)
    data = path.read_bytes()
    with path.open("rb") as file:
        sources = (path, file, io.BytesIO(data), Remote(data), Stream(data))
        found = []
        for source in sources:
            with open_video(source, name="big") as video:
                found.append((forward(video), backward(video, 40)))
    assert all(each == found[0] for each in found)


def test_the_copy_of_a_stream_has_no_name_and_is_gone_afterwards(clip: Callable[[Clip], Path], tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = temporary_files()
    data = clip(BIG).read_bytes()
    with open_video(Stream(data), name="big") as video:
        assert len(forward(video)) == 300
        assert temporary_files() == before + 1
        assert list(tmp_path.iterdir()) == [], "not even a kill -9 leaves it behind"
    assert temporary_files() == before
    for broken in (Stream(data, fail=True), Stream(b"not a video" * 999)):
        with pytest.raises((StorageError, VideoError)):
            open_video(broken, name="big")
        assert temporary_files() == before


def test_a_stream_beyond_the_limit_is_too_large(clip: Callable[[Clip], Path]):
    with pytest.raises(VideoError, match="more than 5000 bytes") as caught:
        open_video(Stream(clip(BIG).read_bytes()), name="big", limits=VideoLimits(max_spool_bytes=5000))
    assert caught.value.failure_class == "too_large"


@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.95])
def test_storage_that_fails_is_no_end_of_file(clip: Callable[[Clip], Path], part: float):
    """FFmpeg takes a failed read for the end: without care the video would be short, or blamed."""
    data = clip(BIG).read_bytes()
    with (
        pytest.raises(StorageError, match="big: cannot be read: the store went away"),
        open_video(Remote(data, fail_at=int(len(data) * part)), name="big") as video,
    ):
        list(video.forward())


def test_slow_storage_is_no_hang_of_the_video(clip: Callable[[Clip], Path]):
    now = 0.0

    class Slow(Remote):
        """Time passes in its reads only."""

        def readinto(self, buffer) -> int:
            nonlocal now
            now += 2.0
            return super().readinto(buffer)

    made = Clip(name="slow.mp4", frames=60, size=(320, 240), options={"crf": "1"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_file, "time", SimpleNamespace(monotonic=lambda: now))
        with open_video(Slow(clip(made).read_bytes()), name="slow", limits=VideoLimits(stall_s=1.0)) as video:
            assert len(forward(video)) == 60
    assert now
    with pytest.raises(VideoError, match="slow: cannot be opened within 1e-09 s"):
        open_video(clip(made), name="slow", limits=VideoLimits(stall_s=1e-9))


def test_a_missing_file_is_storage(tmp_path: Path):
    with pytest.raises(StorageError, match="gone: cannot be opened: No such file or directory"):
        open_video(tmp_path / "gone.mp4", name="gone")
