"""Through the store, from a real S3 server: ranged reads, and a folder of images given by name."""

from collections.abc import Callable
from pathlib import Path

from pipeline.storage import Store, open_source
from pipeline.video import open_video
from tests.video.clips import Clip, backward, forward, picture
from tests.video.test_images import encoded

HUGE = Clip(name="huge.mov", codec="rawvideo", pix_fmt="rgb24", frames=200, size=(320, 240))
"""44 MiB."""


def test_a_segment_of_a_file_on_s3_reads_a_part_of_it(clip: Callable[[Clip], Path], s3):
    data = clip(HUGE).read_bytes()
    Store(s3.uri).put("huge.mov", data)
    file, _ = open_source(f"{s3.uri}/huge.mov")
    fetched = 0
    plain = file._inner.cache.fetcher

    def counting(start: int, end: int) -> bytes:
        nonlocal fetched
        fetched += end - start
        return plain(start, end)

    file._inner.cache.fetcher = counting
    with file, open_video(file, name="huge", start_s=6.0, end_s=6.4) as video:
        part = forward(video)
        assert backward(video, 9) == part[::-1]
    with open_video(clip(HUGE), name="huge", start_s=6.0, end_s=6.4) as video:
        assert forward(video) == part
    assert fetched < len(data) / 3, (fetched, len(data))


def test_images_on_s3(s3):
    store = Store(s3.uri)
    for index in range(3):
        store.put(f"bear/{index}.png", encoded(index))
    names = [entry.path for entry in store.list("bear")]
    with open_video({name: lambda name=name: store.read(name) for name in names}, name="bear", fps=5) as video:
        assert [(frame.time_s, (frame.rgb == picture(frame.index, 48, 32)).all()) for frame in video.forward()] == [
            (0.0, True),
            (0.2, True),
            (0.4, True),
        ]
