"""The player of a report: what it draws, its keys, and corrections by clicks that jobs.review apply takes."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import report, review
from pipeline.masks import rle
from pipeline.runs.config import RunConfig
from pipeline.runs.run import label_corpus
from pipeline.tables.query import open_labels
from pipeline.views.preview import color_of
from tests.browser import BROWSER, Page, browser
from tests.clips import HEIGHT, WIDTH, green, red, write_clip, write_manifest

ASSETS = Path(__file__).parents[2] / "pipeline" / "views" / "assets"
NODE = shutil.which("node")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
needs_node = pytest.mark.skipif(NODE is None, reason="no Node is installed")
BIG = str(2**60 + 1)


def node(script: str, **given: object) -> object:
    """The value of a JavaScript expression over the player's pure modules and some data."""
    names = "".join(f"const {name} = {json.dumps(value)};" for name, value in given.items())
    modules = "".join(f"const {name} = require({json.dumps(str(ASSETS / file))});"
                      for name, file in (("Masks", "masks.js"), ("Prompts", "prompts.js")))  # fmt: skip
    program = f"{modules}{names}console.log(JSON.stringify({script}))"
    assert NODE is not None
    return json.loads(subprocess.run([NODE, "-e", program], capture_output=True, text=True, check=True).stdout)


@needs_node
def test_masks_are_decoded_as_the_package_encodes_them():
    rng = np.random.default_rng(7)
    masks = np.stack([rng.random((37, 53)) < share for share in (0.5, 0.02, 1, 0)])
    masks[1, :, 20:24] = True  # runs that span columns
    script = "all.map((counts) => [...Masks.decode(counts, [37, 53], {width: 53, height: 37}).pixels])"
    found = np.array(node(script, all=rle.encode(masks)), bool).reshape(masks.shape)
    assert (found == masks).all()


@needs_node
def test_two_masks_on_the_same_pixels_are_both_visible_in_the_player():
    grid = {"width": 60, "height": 40}
    script = """(() => {
      const target = new Uint32Array(grid.width * grid.height), mask = Masks.decode(counts, [40, 60], grid);
      Masks.paint(target, grid, [{...mask, color: [255, 0, 0]}, {...mask, color: [0, 0, 255]}]);
      return [...target];
    })()"""
    inks, amounts = np.unique(
        node(script, grid=grid, counts=rle.encode(np.ones((1, 40, 60), bool))[0]), return_counts=True
    )
    assert {int(ink) for ink in inks} == {alpha << 24 | ink for alpha in (115, 255) for ink in (0xFF, 0xFF0000)}
    assert amounts.min() > 100


VIDEO = {
    "id": "a", "same": {"start_s": None},
    "objects": [{"id": BIG, "frames": [0, 1, 2]}, {"id": "2", "frames": [0, 1, 2]}],
    "prompts": [
        {"object_id": BIG, "frame_index": 0, "at": 0, "points": [{"x": 1, "y": 2, "label": 1}]},
        {"object_id": "2", "time_s": 0.1, "at": 1, "mask": {"size": [4, 4], "counts": "x"}, "until_frame": 9},
    ],
}  # fmt: skip


@needs_node
@pytest.mark.parametrize(
    ("steps", "fix"),
    [
        ([["addPoint", BIG, 2, [5, 6], 0]], {"changed": [{"object_id": int(BIG), "frame_index": 2, "correct": True,
          "points": [{"x": 5, "y": 6, "label": 0}]}], "removed": []}),
        ([["addPoint", BIG, 0, [5, 6], 1]], {"changed": [{"object_id": int(BIG), "frame_index": 0,
          "points": [{"x": 1, "y": 2, "label": 1}, {"x": 5, "y": 6, "label": 1}]}], "removed": []}),
        ([["setBox", "2", 1, {"x_min": 1}]], {"changed": [{"object_id": 2, "time_s": 0.1, "until_frame": 9,
          "box": {"x_min": 1}}], "removed": []}),
        ([["addPoint", "7", 5, [5, 6], 1], ["rename", "7", "cup"]], {"changed": [{"object_id": 7, "frame_index": 5,
          "category": "cup", "points": [{"x": 5, "y": 6, "label": 1}]}], "removed": []}),
        ([["remove", "2", 1]], {"changed": [], "removed": [{"object_id": 2, "time_s": 0.1}]}),
        ([["addPoint", "7", 5, [5, 6], 1], ["remove", "7", 5]], None),
    ],
)  # fmt: skip
def test_changes_become_the_json_that_apply_takes_and_are_restored_from_it(steps, fix):
    script = """(() => {
      let changes = new Map();
      for (const [name, ...given] of steps) changes = name === "rename"
        ? Prompts.rename(changes, ...given) : Prompts[name](video, changes, ...given);
      const made = Prompts.fix(video, changes);
      return made && [Prompts.text([made]), Prompts.text([Prompts.fix(video, Prompts.restore(video, made))])];
    })()"""
    made = node(script, steps=steps, video=VIDEO)
    assert made is None if fix is None else made[0] == made[1]
    assert made is None or json.loads(made[0]) == {"video_id": "a", "start_s": None, **fix}


@needs_node
def test_changes_that_apply_would_refuse_are_told():
    script = """[
      Prompts.problems(video, Prompts.addPoint(video, new Map(), "7", 5, [5, 6], 0)),
      Prompts.problems(video, Prompts.remove(video, Prompts.addPoint(video, new Map(), big, 2, [5, 6], 0), big, 0)),
      Prompts.problems(video, Prompts.remove(video, Prompts.remove(video, new Map(), big, 0), "2", 1)),
      Prompts.problems(video, Prompts.addPoint(video, new Map(), big, 2, [5, 6], 0)),
    ]"""
    first, second, third, none = node(script, video=VIDEO, big=BIG)
    assert first == ["Object 7, frame 5: add a point on the object or a box."]
    assert "nothing to correct" in second[0]
    assert third == ["A video needs at least one prompt."]
    assert none == []


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, _ray_over) -> Path:
    """A clip of 12 frames whose red square alone is labelled, in a folder of a report."""
    import ray

    from pipeline.workers.cluster import start_local

    if not ray.is_initialized():
        start_local(num_cpus=2)
    folder = tmp_path_factory.mktemp("player")
    rows = [
        {
            "video_id": "cat",
            "video_uri": write_clip(folder / "cat.mp4", frames=12),
            "prompts": [red(category="square")],
        },
        {"video_id": "dog", "video_uri": write_clip(folder / "dog.mp4", frames=4, seed=1), "prompts": [red(), green()]},
    ]
    write_manifest(folder / "manifest.parquet", rows)
    label(folder)
    assert report.main([str(folder / "out"), "--folder", str(folder / "report")]) == 0
    return folder


def label(folder: Path) -> None:
    label_corpus(
        RunConfig(manifest=str(folder / "manifest.parquet"), output=str(folder / "out"), model="embedded", actors=1)
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def open_video(page: Page, folder: Path, video_id: str) -> None:
    rows = (folder / "report" / "data" / "videos.js").read_text()
    number = next(row[0] for row in json.loads(rows[5:-2]) if row[1] == video_id)
    page.open(f"file://{folder}/report/video.html#{number}", ready="data && document.querySelector('#objects li')")
    page.wait("document.getElementById('clip').readyState >= 2")


@needs_browser
def test_clicks_become_corrections_that_relabel_the_video(labelled, page, capsys):
    page.look()
    open_video(page, labelled, "cat")
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert page.run("frame") == 2
    page.click("#new")
    page.click("[data-tool=box]")
    corners = [(66 / WIDTH, 34 / HEIGHT), (70 / WIDTH, 50 / HEIGHT), (88 / WIDTH, 56 / HEIGHT)]
    page.drag("#marks", *corners)
    page.click("#category")
    page.call("Input.insertText", text="green square")
    page.click("[data-tool=on]")
    page.click("#objects li:first-child button")
    page.drag("#marks", (19 / WIDTH, 19 / HEIGHT))
    page.drag("#marks", (50 / WIDTH, 50 / HEIGHT), shift=True)
    page.click("#download")
    made = json.loads(page.downloaded("fixes.jsonl").read_text())
    page.click("#discard")
    first, second = made["changed"]
    assert (first["object_id"], first["frame_index"], first["category"]) == (2, 2, "green square")
    assert [first["box"][name] for name in ("x_min", "y_min", "x_max", "y_max")] == pytest.approx(
        [66, 34, 88, 56], abs=1
    )
    assert (second["object_id"], second["frame_index"], second["correct"]) == (1, 2, True)
    assert [(round(p["x"]), round(p["y"]), p["label"]) for p in second["points"]] == [(19, 19, 1), (50, 50, 0)]
    capsys.readouterr()
    assert review.main(["apply", str(labelled / "out"), str(page.downloads / "fixes.jsonl")]) == 0
    assert "'cat': object 1 at frame 2 set; object 2 at frame 2 set" in capsys.readouterr().out
    label(labelled)
    with open_labels(labelled / "out") as labels:
        found = labels.sql("SELECT counts FROM masks WHERE video_id = 'cat' AND object_id = 2 AND frame_index = 5")
        ((counts,),) = found.fetchall()
        names = labels.sql("SELECT object_id, category FROM masklets WHERE video_id = 'cat' ORDER BY ALL").fetchall()
    truth = np.zeros((HEIGHT, WIDTH), bool)
    truth[34:56, 63:85] = True
    mask = rle.decode(counts, (HEIGHT, WIDTH))
    assert (mask & truth).sum() / (mask | truth).sum() > 0.5
    assert names == [(1, "square"), (2, "green square")]


@needs_browser
def test_changes_are_kept_while_other_videos_are_looked_at_until_they_are_discarded(labelled, page):
    open_video(page, labelled, "dog")
    page.click("[data-tool=off]")
    page.drag("#marks", (0.5, 0.5))
    page.click("#undo")
    assert page.run("document.getElementById('fixes').hidden")
    page.press("ArrowRight")
    page.drag("#marks", (0.5, 0.5))
    open_video(page, labelled, "cat")
    page.click("[data-tool=on]")
    page.drag("#marks", (0.25, 0.25))
    fixes = [json.loads(line) for line in page.run("document.getElementById('json').value").splitlines()]
    assert sorted(fix["video_id"] for fix in fixes) == ["cat", "dog"]
    open_video(page, labelled, "dog")
    assert page.run("changes.size") == 1
    page.click("#discard")
    assert page.run("document.getElementById('fixes').hidden && changes.size === 0")
    open_video(page, labelled, "cat")
    assert page.run("changes.size") == 0


@needs_browser
def test_keys_play_step_and_jump(labelled, page):
    open_video(page, labelled, "dog")
    page.press("End")
    assert page.run("frame") == 3
    page.press("Home")
    page.press(" ")
    page.wait("playing && frame > 0")
    page.press(" ")
    page.wait("!playing")
    page.click("#worst")
    page.press(" ")
    page.wait("playing")
    page.press("w")
    assert page.run("!playing && frame === data.objects.find((each) => each.id === active).worst")
    first, seen = page.run("active"), set()
    for _ in range(2):
        seen.add(page.run("active"))
        page.press("n")
    assert seen <= {"1", "2"}
    assert first == page.run("[...data.objects].sort((a, b) => b.doubt - a.doubt)[0].id"), "the most doubtful is chosen"
    page.wait("data && data.id === 'cat' || active !== " + json.dumps(first))


@needs_browser
def test_masks_are_drawn_in_the_colours_of_the_legend(labelled, page, tmp_path):
    page.look(width=1000)
    open_video(page, labelled, "dog")
    page.press("Home")
    swatches = page.run(
        "[...document.querySelectorAll('#objects i')].map((each) => getComputedStyle(each).backgroundColor)"
    )
    assert swatches == [f"rgb({r}, {g}, {b})" for r, g, b in map(color_of, (1, 2))]
    page.picture(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for object_id in (1, 2):
        assert (np.abs(pixels - color_of(object_id)).sum(-1) < 6).sum() > 300, "outline, name and swatch"
    for dark, width in ((True, 1000), (False, 390), (True, 390)):
        page.look(width=width, dark=dark, phone=width < 500)
        open_video(page, labelled, "dog")
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the screen"
