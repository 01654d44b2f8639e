"""Videos on a web server that gives no ranges: read once into a temporary copy, and labelled like any other."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from pipeline.storage import open_source
from pipeline.video import open_video
from tests.clips import write_clip


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def address(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_server_without_ranges_gives_the_same_frames_forward_and_backward(tmp_path, address):
    path = tmp_path / "clip.mp4"
    write_clip(path, frames=9)
    path.write_bytes(path.read_bytes() + bytes(3_000_000))  # more than one block of any cache
    file, version = open_source(f"{address}/clip.mp4")
    assert version.size == path.stat().st_size
    with file, open_video(file, name="clip") as remote, open_video(path, name="clip") as here:
        expected = [frame.rgb for frame in here.forward()]
        assert len(expected) == 9
        assert all(np.array_equal(a.rgb, b) for a, b in zip(remote.forward(), expected, strict=True))
        backward = [frame.rgb for frame in remote.backward(8)]
        assert all(np.array_equal(a, b) for a, b in zip(backward, reversed(expected), strict=True))
