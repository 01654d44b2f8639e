"""The site: whole, small, and safe whatever the names are."""

import json
import re
from pathlib import Path

import pytest

from jobs import report
from pipeline.storage import Store
from pipeline.tables import publish
from pipeline.views.report import write_report
from pipeline.views.report.pictures import is_playable
from tests.clips import write_clip
from tests.fixtures_s3 import S3
from tests.tables.corpora import want
from tests.views.conftest import BIG, HOSTILE, label


def data_of(path):
    text = path.read_text()
    return json.loads(text[text.index("(") + 1 : text.rindex(")")])


def test_every_video_has_its_data_and_the_most_doubtful_come_first(labels, tmp_path):
    done = write_report(labels, tmp_path, title="out", thumbnails=1)
    assert (done.videos, done.thumbnails) == (3, 1)
    rows = data_of(tmp_path / "data" / "videos.js")
    assert [row[1] for row in rows] == sorted(["calm", "gone", HOSTILE])
    worst = max(rows, key=lambda row: row[2])
    assert worst[1] == HOSTILE
    assert (tmp_path / "thumbs" / f"{worst[0]}.jpg").stat().st_size > 500
    cards = re.findall(r"video\.html#(\d+)", (tmp_path / "index.html").read_text())
    assert cards[0] == str(worst[0])
    page = data_of(tmp_path / "data" / f"{worst[0]}.js")
    assert [each["id"] for each in page["objects"]] == ["1", str(BIG)]
    first = page["objects"][0]
    assert (len(first["counts"]), first["frames"], first["prompted"]) == (8, list(range(8)), [0])
    assert page["times"] == [t / 10 for t in range(8)]
    assert page["source"].endswith("clip.mp4")


def test_no_name_can_become_markup_or_script(labels, tmp_path):
    write_report(labels, tmp_path, title=HOSTILE, thumbnails=0)
    for path in [*tmp_path.glob("*.html"), *(tmp_path / "data").glob("*.js")]:
        text = path.read_text()
        assert "<img src=x" not in text, path
        assert "<script>alert" not in text, path
        assert "\u202e" not in text, path
        assert "default-src 'none'" in text or path.suffix == ".js"
    assert not re.search(r"innerHTML|document\.write|eval\(", "".join(p.read_text() for p in tmp_path.glob("*.js")))


def test_failures_and_clips(output, tmp_path, capsys):
    assert report.main([str(output), "--folder", str(tmp_path), "--clips", "copy"]) == 3
    assert "no picture of 'gone'" in capsys.readouterr().out
    index = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;x" in index
    assert "&lt;script&gt;alert(2)" in index
    assert len(list((tmp_path / "clips").glob("*.mp4"))) == 2
    assert data_of(tmp_path / "data" / "0.js")["source"] == "clips/0.mp4"


def test_a_run_of_its_own(output, labels, tmp_path):
    assert write_report(labels, tmp_path / "a", title="out", run_id="run", thumbnails=0).videos == 3
    assert write_report(labels, tmp_path / "b", title="out", run_id="another", thumbnails=0).videos == 0
    assert report.main([str(output / "nowhere")]) == 2


def test_a_folder_with_another_page_is_refused_and_kept(output, tmp_path, capsys):
    page = tmp_path / "index.html"
    page.write_text("<h1>my site</h1>")
    assert report.main([str(output), "--folder", str(tmp_path)]) == 2
    assert "index.html is not a report" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert page.read_text() == "<h1>my site</h1>"


def test_a_report_replaces_an_earlier_one(labels, tmp_path):
    for _ in range(2):
        write_report(labels, tmp_path, title="out", thumbnails=0)
    page = tmp_path / "index.html"
    page.write_text(page.read_text().replace('<meta name="generator" content="sam2-corpus">', ""))
    write_report(labels, tmp_path, title="out", thumbnails=0)
    assert 'content="sam2-corpus"' in page.read_text()


def test_clips_that_a_browser_cannot_open_are_copied_and_their_size_is_told(s3: S3, tmp_path, capsys):
    clip = Path(write_clip(tmp_path / "clip.mp4", frames=4))
    Store(s3.uri).put("clip.mp4", clip)
    shown = {"s3": f"{s3.uri}/clip.mp4", "local": str(clip), "quicktime": str(clip.rename(tmp_path / "clip.mov"))}
    write_clip(clip, frames=4)
    store = Store(tmp_path / "out")
    keys = {video_id: label(store, video_id, uri, frames=4, steady=True) for video_id, uri in shown.items()}
    want(store, "run", keys)
    publish(store)

    def sources(*options: str) -> list[str | None]:
        assert report.main([str(tmp_path / "out"), "--folder", str(tmp_path / "r"), *options]) == 0
        return [data_of(tmp_path / "r" / "data" / f"{n}.js")["source"] for n in range(3)]

    assert sources() == ["../clip.mp4", "clips/1.mp4", "clips/2.mp4"], "local, quicktime, s3"
    said = capsys.readouterr().out
    assert "copying 2 clips of 8 frames that browsers cannot open" in said
    assert re.search(r"2 clips copied into the report: [\d.]+ kB", said)
    assert sources("--clips", "link") == ["../clip.mp4", "../clip.mov", None]
    assert sources("--clips", "none") == [None, None, None]
    assert sources("--thumbnails", "0") == ["../clip.mp4", None, None]
    assert not re.search("copied|copying", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("uri", "codec", "pixels", "playable"),
    [
        ("/a/x.mp4", "h264", "yuv420p", True),
        ("https://host/x.MP4?token=1", "av1", "yuv420p", True),
        ("x.webm", "vp9", "yuv420p", True),
        ("x.mp4", None, None, True),
        ("x.mp4", "hevc", "yuv420p", False),
        ("x.mp4", "h264", "yuv420p10le", False),
        ("x.mov", "h264", "yuv420p", False),
        ("x.mkv", "h264", "yuv420p", False),
        ("folder/", None, None, False),
        ("x.zip", None, None, False),
    ],
)
def test_playable_files_are_told_by_name_codec_and_pixel_format(uri, codec, pixels, playable):
    assert is_playable({"uri": uri, "codec": codec, "pixel_format": pixels}) == playable
