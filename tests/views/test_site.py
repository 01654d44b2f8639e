"""The site: whole, small, and safe whatever the names are."""

import json
import re

from jobs import report
from pipeline.views.report import write_report
from tests.views.conftest import BIG, HOSTILE


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
