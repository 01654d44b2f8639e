"""Corrections kept with the output: laid over every manifest, recorded, removed, and never undone without a word."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import review
from pipeline.errors import ManifestError, UsageError
from pipeline.manifest import digest_records, prompt_digests, read_manifest
from pipeline.runs.config import RunConfig
from pipeline.runs.corrections import (
    Correction,
    Corrections,
    apply_fixes,
    overlay_manifest,
    read_corrections,
    read_fixes,
    remove_corrections,
)
from pipeline.runs.nightly.night import run_night
from pipeline.runs.nightly.settings import NightSettings
from pipeline.runs.prepare import prepare
from pipeline.runs.run import label_corpus
from pipeline.storage import Store
from pipeline.tables.forget import forget
from pipeline.tables.query import open_labels
from tests.clips import green, point, red, write_clip, write_manifest
from tests.runs.nightly.examples import manifest, row

NOW = datetime(2026, 11, 22, 21, 0, tzinfo=UTC)
MOVED = [point(21, 21)]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, _ray_over):
    """Two clips of four frames, labelled and published, and the manifest that every night goes back to."""
    import ray

    from pipeline.workers.cluster import start_local

    if not ray.is_initialized():
        start_local(num_cpus=2)
    folder = tmp_path_factory.mktemp("labelled")
    rows = [
        {"video_id": "cat", "video_uri": write_clip(folder / "cat.mp4", frames=4), "prompts": [red(), green()]},
        {"video_id": "dog", "video_uri": write_clip(folder / "dog.mp4", frames=4, seed=1), "prompts": [red()]},
    ]
    write_manifest(folder / "manifest.parquet", rows)
    label_corpus(RunConfig(manifest=str(folder / "manifest.parquet"), output=str(folder / "out"), model="embedded"))
    return folder


@pytest.fixture
def corpus(labelled, tmp_path):
    """A copy of the labelled output beside the same manifest."""
    shutil.copytree(labelled / "out", tmp_path / "out")
    shutil.copy(labelled / "manifest.parquet", tmp_path)
    return tmp_path


def config(folder: Path, **given) -> RunConfig:
    return RunConfig(
        manifest=str(folder / "manifest.parquet"), output=str(folder / "out"), model="embedded", actors=1, **given
    )


def fixes(folder: Path, *lines: dict) -> str:
    path = folder / "fixes.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def apply(folder: Path, *lines: dict):
    return apply_fixes(Store(folder / "out"), read_fixes(fixes(folder, *lines)), who="ann@desk", now=NOW)


def keys(folder: Path) -> dict[str, str]:
    with open_labels(folder / "out") as labels:
        return dict(labels.sql("SELECT video_id, label_key FROM videos").fetchall())


def night(folder: Path, **given) -> dict:
    settings = NightSettings(manifests=(str(folder / "manifest.parquet"),), run=config(folder, **given))
    return run_night(settings, night="2026-11-22")


def correction(video_id: str = "cat", **given) -> Correction:
    values = {"name": "20261122T210000.000000Z-0000", "time": "", "who": "ann", "over": "", "prompts": [],
              "removed": [], **given}  # fmt: skip
    return Correction(video_id=video_id, **values)


@pytest.mark.parametrize("starts", [(None, 0.0), (0.0, None)])
def test_a_start_of_zero_and_none_are_the_same_segment(starts):
    row = {"video_id": "cat", "video_uri": "cat.mp4", "prompts": [red()], "start_s": starts[0]}
    moved = correction(start_s=starts[1], prompts=[{**red(), "points": MOVED}])
    overlay = overlay_manifest(read_manifest(pa.Table.from_pylist([row])), Corrections(history={"cat": [moved]}))
    assert (overlay.corrected, overlay.not_applied) == (("cat",), ())


def test_a_correction_survives_a_night_with_the_old_manifest_until_removed(corpus, capsys):
    first = keys(corpus)
    assert review.main([str(corpus / "out"), "--worst", "2", "--folder", str(corpus / "review")]) == 0
    path = corpus / "review" / "prompts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    (cat,) = (line for line in lines if line["video_id"] == "cat")
    cat["prompts"][0]["points"] = MOVED
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert review.main(["apply", str(corpus / "out"), str(path), "--who", "ann"]) == 0
    said = capsys.readouterr().out
    assert "'cat': object 1 at frame 0 set" in said
    assert "1 video corrected, 1 unchanged" in said

    done = label_corpus(config(corpus))
    assert (done.labelled, done.reasons) == (1, {"prompts corrected": 1})
    corrected = keys(corpus)
    assert (corrected["cat"] == first["cat"], corrected["dog"] == first["dog"]) == (False, True)

    record = night(corpus)
    assert (record["labelled"], record["reasons"], record["returns"]) == (0, {}, {})
    assert record["notes"] == ["1 video is labelled with corrections (see jobs.review list)"]
    assert record["published"]["videos"] == 0
    assert keys(corpus) == corrected

    assert review.main(["remove", str(corpus / "out"), "--video", "cat", "--who", "bob"]) == 0
    with pytest.raises(UsageError, match=r"1 of 2 labelled videos would be replaced \(1 would return to the older lab"):
        prepare(config(corpus, max_relabel=0.1))
    record = night(corpus)
    (note,) = record["notes"]
    assert note.startswith("1 video returns to labels of run 2")
    assert (record["labelled"], list(record["returns"].values()), record["published"]["videos"]) == (0, [1], 1)
    page = (corpus / "out" / "nights" / "2026-11-22" / "report.html").read_text()
    assert note in page
    assert "labels made before return" in page
    assert keys(corpus) == first
    review.main(["list", str(corpus / "out")])
    assert "(removed by bob at " in capsys.readouterr().out


def test_returning_labels_are_reported_and_staged_ones_are_not_older(corpus):
    rows = pq.read_table(corpus / "manifest.parquet").to_pylist()
    rows[1]["prompts"][0]["points"] = MOVED
    write_manifest(corpus / "changed.parquet", rows)
    changed = RunConfig(
        manifest=str(corpus / "changed.parquet"), output=str(corpus / "out"), model="embedded", actors=1, publish=False
    )
    assert label_corpus(changed).labelled == 1
    assert prepare(changed).returns == {}  # committed, not published: newer than the published labels
    label_corpus(RunConfig(**{**vars(changed), "publish": True}))
    assert list(prepare(config(corpus)).returns.values()) == [1]


def test_applying_the_same_fixes_again_changes_nothing(corpus):
    line = {"video_id": "cat", "prompts": [red() | {"points": MOVED}, green()]}
    assert len(apply(corpus, line).corrections) == 1
    again = apply(corpus, line)
    assert (again.corrections, again.unchanged) == ((), 1)
    assert len(read_corrections(Store(corpus / "out")).in_force()) == 1


def test_prompts_may_be_added_and_removed_and_later_corrections_win(corpus):
    apply(corpus, {"video_id": "cat", "prompts": [red() | {"points": MOVED}, red(2, 7)]})
    apply(corpus, {"video_id": "cat", "prompts": [red(), red(2, 7)]})
    planned = prepare(config(corpus))
    prompts = planned.manifest.video(0).prompts
    assert [(prompt.object_id, prompt.frame_index) for prompt in prompts] == [(1, 0), (7, 2)]
    assert prompts[0].points == ((17, 19, 1),)
    assert planned.plan.reasons() == {"prompts corrected": 1}


def test_a_manifest_changed_since_is_told_and_the_correction_wins(corpus):
    apply(corpus, {"video_id": "cat", "prompts": [red() | {"points": MOVED}, green()]})
    rows = pq.read_table(corpus / "manifest.parquet").to_pylist()
    rows[0]["prompts"] = [red() | {"points": [point(9, 9)]}, red(3, 5)]
    write_manifest(corpus / "manifest.parquet", rows)
    planned = prepare(config(corpus))
    prompts = {prompt.object_id: prompt.points for prompt in planned.manifest.video(0).prompts}
    assert prompts == {1: ((21, 21, 1),), 5: ((20, 19, 1),)}
    assert "prompts in the manifest have changed since" in planned.notes[1]


def test_a_manifest_that_includes_the_correction_gives_no_note(corpus):
    apply(corpus, {"video_id": "cat", "prompts": [red() | {"points": MOVED}, green()]})
    assert review.main(["export", str(corpus / "out"), str(corpus / "merged.parquet")]) == 0
    exported = read_manifest(str(corpus / "merged.parquet"))
    rows = pq.read_table(corpus / "manifest.parquet").to_pylist()
    write_manifest(corpus / "manifest.parquet", [exported.table.to_pylist()[0], rows[1]])
    planned = prepare(config(corpus))
    assert planned.notes == []
    assert planned.plan.reasons() == {"prompts changed": 1}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"video_id": "cow", "prompts": [red()]}, "no published labels"),
        ({"video_id": "cat", "prompts": []}, "every video needs at least one prompt"),
        ({"video_id": "cat"}, "every video needs at least one prompt"),
        ({"video_id": "cat", "prompts": [red() | {"point": 1}]}, "has a field 'point'"),
        ({"video_id": "cat", "prompts": [red() | {"points": [point(1, 1, 0)]}]}, "only points off the object"),
        ({"video_id": "cat", "prompts": [red(), red()]}, "a second prompt for this object and frame"),
        ({"video_id": "cat", "prompts": [red()], "start_s": 1.0}, "start_s is 1.0, its labels have None"),
        ({"video_id": "cat", "prompts": "x"}, "prompts"),
        ({"video_id": "cat", "prompts": [{"object_id": "a"}]}, "object_id"),
    ],
)
def test_a_fix_that_cannot_be_used_is_left_out_with_its_line(corpus, line, reason):
    done = apply(corpus, {"video_id": "dog", "prompts": [red() | {"points": MOVED}]}, line)
    assert [each.video_id for each in done.corrections] == ["dog"]
    (said,) = done.left_out
    assert said.startswith(f"{corpus}/fixes.jsonl, line 2, video ")
    assert reason in said


def test_a_category_correction_is_stored_and_relabels_nothing(corpus):
    done = apply(corpus, {"video_id": "dog", "prompts": [red(category="hound")]})
    assert done.categories_only == ("dog",)
    assert prepare(config(corpus)).plan.count("pending") == 0


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"prompts": []}'])
def test_a_file_of_fixes_that_is_none_is_wrong_usage(corpus, capsys, text):
    (corpus / "f.jsonl").write_text(text)
    assert review.main(["apply", str(corpus / "out"), str(corpus / "f.jsonl")]) == 2
    assert "f.jsonl, line 1" in capsys.readouterr().err


def test_a_correction_of_another_segment_is_told_and_not_applied():
    given = Corrections(history={"cat": [correction(prompts=[red()], start_s=2.0)]})
    overlay = overlay_manifest(manifest(row("cat", start_s=1.0)), given)
    assert overlay.corrected == ()
    assert "it was made for start_s 2.0, the manifest has 1.0" in overlay.notes()[0]


def test_a_row_that_its_corrections_make_impossible_keeps_its_labels():
    correcting = {"object_id": 9, "frame_index": 2, "points": [point(5, 5, 0)], "correct": True}
    given = Corrections(history={"cat": [correction(prompts=[correcting])]}, damaged={"dog": "x.json: no JSON"})
    overlay = overlay_manifest(manifest(row("cat"), row("dog"), row("fox")), given)
    assert overlay.manifest.table["video_id"].to_pylist() == ["fox"]
    assert overlay.manifest.rows.tolist() == [2]
    impossible, damaged = sorted(overlay.manifest.bad_rows, key=lambda bad: bad.row)
    assert "nothing to correct" in impossible.rule
    assert "keeps the labels that it has" in damaged.rule


def test_an_unreadable_record_stops_a_strict_run_and_is_named(corpus):
    apply(corpus, {"video_id": "cat", "prompts": [red() | {"points": MOVED}]})
    (path,) = (corpus / "out" / "corrections").rglob("*.json")
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ManifestError, match=r"'cat'.*has format 99; this version reads up to 2: upgrade"):
        prepare(config(corpus))
    skipping = prepare(config(corpus, on_bad_row="skip"))
    assert skipping.manifest.table["video_id"].to_pylist() == ["dog"]


def test_foreign_files_among_the_corrections_are_left_alone(corpus):
    foreign = corpus / "out" / "corrections" / "ab" / "cat" / "notes.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    assert read_corrections(Store(corpus / "out")) == Corrections()
    assert foreign.read_text() == "mine"


def test_a_removal_is_a_record_and_removing_again_is_refused(corpus, capsys):
    apply(corpus, {"video_id": "cat", "prompts": [red() | {"points": MOVED}]})
    store = Store(corpus / "out")
    (one,) = read_corrections(store).in_force()
    remove_corrections(store, [one], who="bob", now=NOW)
    found = read_corrections(store)
    assert found.in_force() == []
    assert found.history["cat"][0].taken_back == "bob at 2026-11-22T21:00:00+00:00"
    assert len(list((corpus / "out" / "corrections").rglob("*.json"))) == 2
    assert review.main(["remove", str(corpus / "out"), one.name]) == 2
    assert "no correction" in capsys.readouterr().err
    assert review.main(["remove", str(corpus / "out")]) == 2


def test_corrections_copy_only_their_chunks_and_give_keys_of_plain_manifests():
    rows = [row(f"v{i}") for i in range(6)]
    whole = manifest(*rows)
    moved = [{**rows[4]["prompts"][0], "points": MOVED}]
    given = Corrections(history={"v4": [correction("v4", prompts=moved, over=digest_records([rows[4]["prompts"]])[0])]})
    overlay = overlay_manifest(whole, given)
    plain = manifest(*rows[:4], row("v4") | {"prompts": moved}, rows[5])
    assert prompt_digests(overlay.manifest).equals(prompt_digests(plain))
    assert overlay.outdated == ()
    assert overlay.manifest.table.schema == whole.table.schema


def test_forgetting_a_video_erases_its_corrections(corpus):
    moved = red() | {"points": MOVED}
    apply(corpus, {"video_id": "cat", "prompts": [moved]}, {"video_id": "dog", "prompts": [moved]})
    forget(Store(corpus / "out"), ["cat"])
    assert [each.video_id for each in read_corrections(Store(corpus / "out")).in_force()] == ["dog"]
