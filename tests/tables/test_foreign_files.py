"""An output may hold other people's files, under any name: no command deletes or changes one of them."""

import json
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs import doctor, forget, label, nightly, publish, retry
from pipeline.errors import UsageError
from pipeline.labels import MASKS
from pipeline.labels.failures import Attempt, failure_of, write_failure
from pipeline.runs.corrections import read_corrections
from pipeline.storage import Entry, Store, part_path
from pipeline.storage.ownership import is_ours
from pipeline.storage.parquet import to_parquet
from pipeline.storage.paths import (
    MARKER,
    OUTPUT_FOLDERS,
    correction_path,
    kept_state_path,
    progress_path,
    states_index_path,
)
from pipeline.tables import drop_history, expire_parts, open_table, optimize, vacuum
from pipeline.tables import publish as publish_labels
from pipeline.tables.commits import replace_videos
from pipeline.tables.doctor import examine
from pipeline.tables.forget import forget as forget_videos
from pipeline.tables.output import check_output, claim_output
from pipeline.workers.checkpoint import Checkpoints, remove_finished
from tests.clips import red, write_clip, write_manifest
from tests.tables.corpora import check, commit, key, make_part, run_id, want

Entries = list[Entry]  # within a Store, `list` is its method
UUID = "26e49f7a-17f0-4ba8-a954-46072f8a7161"
OLD = 1_700_000_000
PERSON = "person-4711"
KEYS = {PERSON: key("p"), "w": key("w"), "x": key("x")}

NEAR_OURS = {
    "": ["sam2-corpus.json.bak", "README.md", ".part-mine"],
    "videos": [
        "drone_a.mp4", "50%.mp4", "a#1.mp4", "notes.txt", f"part-00000-{UUID}-c000.snappy.parquet", ".part-mine",
        f"2023/part-00000-{UUID}-c000.zstd.parquet", f"part-00000-{UUID}-c000.zstd.parquet", "_SUCCESS",
    ],
    "masks": ["hand_drawn_0001.jpg", f"theirs/part-00000-{UUID}-c000.zstd.parquet", "0001.png"],
    "masks/_delta_log": [
        "00000000000000000000.json.bak", "my00000000000000000000.json", "theirs/00000000000000000000.json",
        "00000000000000000000.crc", "00000000000000000000.checkpoint.mine.parquet", "notes.txt",
    ],
    "parts": [
        "bolt.step", "zz/x/aa.parquet", f"00/{PERSON}/{key('p')}.parquet", "ab/%ff/0a.parquet", "00/.part-mine",
    ],
    "runs": [
        "exp1/progress.json", "exp1/run.json", "exp1/wanted.csv", f"{run_id(1)}/notes.json",
        f"{run_id(1)}/events.parquet",
        f"20260101-{PERSON}/events.parquet",
    ],
    "nights": ["2026-01-01/notes.html", "stars.html"],
    "publish": ["state.parquet.bak", "intents/mine.parquet", "turns/mine.json", "page.html"],
    "leases": ["all/mine.json", "car.pdf"],
    "failures": ["cracks.json", f"00/{PERSON}/{key('p')}.json"],
    "checkpoints": ["model.pt", "step-100/model.state", f"00/{PERSON}/{key('p')}/000000000001-{'0' * 32}.state"],
    "states": ["arizona.json", f"00/{PERSON}/{key('p')}/index.json", f"ab/{PERSON}/{key('p')}/000000000008-mine.state"],
    "corrections": [
        "errata.json", f"00/{PERSON}/{run_id(1)}.json", f"ab/%ff/{run_id(1)}.json", f"ab/{'x' * 220}/{run_id(1)}.json",
    ],
    "probes": ["probe.json"],
}  # fmt: skip
"""Names that other people's files may have, by folder: ordinary ones, and ones that nearly are ours."""


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(tmp_path / "out" if request.param == "local" else f"{request.getfixturevalue('s3').uri}/out")


def make_output(store: Store) -> None:
    """An output with history, parts that are wanted no more, failures, checkpoints, corrections and reports."""
    for run, suffix in ((1, "old"), (2, "")):
        keys = {video_id: key(video_id + suffix) if suffix else label_key for video_id, label_key in KEYS.items()}
        for video_id, label_key in keys.items():
            commit(store, video_id, label_key)
        want(store, run_id(run), keys)
        publish_labels(store)
    optimize(store)
    for video_id in KEYS:
        for label_key in (KEYS[video_id], key("unfinished")):
            Checkpoints(store=store, video_id=video_id, label_key=label_key).save(
                new_rows=MASKS.empty_table(), tracker=b"state", frames=3
            )
            attempts = [Attempt("killed", "gone", "", "worker-1", 0.0)]
            write_failure(store, failure_of(attempts, video_id=video_id, label_key=label_key, run_id=run_id(1)))
            store.put(states_index_path(video_id, label_key), b"{}")
            store.put(kept_state_path(video_id, label_key, frames=8, name="0" * 32), b"state")
        store.put(correction_path(video_id, run_id(7)), b"{}")
    store.put(progress_path(run_id(2)), json.dumps({"flights": [{"video_id": PERSON}]}).encode())
    store.put(part_path("torn", key("torn")), make_part("torn", key("torn"))[:-100])


def variations(path: str) -> Iterator[str]:
    """Names that differ from one of ours by little."""
    folder, _, name = path.rpartition("/")
    folder += "/" if folder else ""
    yield from (f"{path}.bak", f"{folder}my{name}", f"{folder}theirs/{name}", f"{folder}{name} copy")
    if "/_delta_log/" not in path:
        yield f"{folder}{name[1:]}"


def seen(store: Store, paths: Collection[str]) -> dict[str, bytes | str | None]:
    """The content of each of these files that is there, or its ETag where the storage gives one."""
    return {
        entry.path: entry.etag or store.read(entry.path)
        for entry in (*store.list(), *store.unfinished_writes())
        if entry.path in paths
    }


def sprinkle(store: Store) -> dict[str, bytes | str | None]:
    """Put files of others below every folder of an output; returns what is `seen` of them."""
    own = sorted(entry.path for entry in store.list())
    named = [f"{folder}/{name}".lstrip("/") for folder, names in NEAR_OURS.items() for name in names]
    paths = dict.fromkeys([*named, *(other for path in own for other in variations(path) if other not in own)])
    rows = pa.table({"video_id": [PERSON], "note": ["mine"]})
    contents = {
        path: to_parquet(rows) if path.endswith(".parquet") else f'"{PERSON}" >{PERSON}< is mine'.encode()
        for path in paths
    }
    assert [path for path in contents if is_ours(path)] == [f"videos/part-00000-{UUID}-c000.zstd.parquet"]
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(store.put, contents, contents.values()))
    if store.is_local:
        for path in contents:
            os.utime(store.uri_of(path), (OLD, OLD))
    if store.is_local:  # names that are not UTF-8, and which no listing or table may stumble over
        Path(os.fsdecode(os.fsencode(store.uri) + b"/videos/caf\xe9.mp4")).write_bytes(b"mine")
    found = seen(store, contents)
    assert len(found) == len(contents)
    return found


def assert_all_there(store: Store, foreign: dict[str, bytes | str | None], after: str) -> None:
    assert seen(store, foreign) == foreign, after
    if store.is_local:
        assert Path(os.fsdecode(os.fsencode(store.uri) + b"/videos/caf\xe9.mp4")).exists(), after


def commands(tmp_path: Path) -> dict[str, Callable[[Store], object]]:
    """Everything that deletes."""
    (tmp_path / "ids").write_text(f"{PERSON}\n")
    return {
        "publish, optimize, vacuum 7d": lambda s: publish.main([s.uri, "--optimize", "--vacuum", "7d"]),
        "publish, expire parts, vacuum 0": lambda s: publish.main([s.uri, "--expire-parts", "0s", "--vacuum", "0s"]),
        "checkpoints of committed videos": remove_finished,
        "checkpoints of a video": lambda s: _remove_checkpoints(s),
        "doctor --repair": lambda s: doctor.main([s.uri, "--repair"]),
        "retry": lambda s: retry.main([s.uri, "--all"]),
        "forget": lambda s: forget.main([s.uri, "--video-ids", str(tmp_path / "ids")]),
        "drop history": drop_history,
        "vacuum": lambda s: vacuum(s, retention_hours=0),
        "expire": lambda s: expire_parts(s, older_than_s=-3600, now=time.time()),
    }


def _remove_checkpoints(store: Store) -> None:
    made = Checkpoints(store=store, video_id="w", label_key=key("unfinished"))
    made.load(bytes)
    made.save(new_rows=MASKS.empty_table(), tracker=b"state", frames=4)
    made.remove()


def test_no_command_deletes_or_changes_a_file_of_others(store: Store, tmp_path: Path) -> None:
    make_output(store)
    foreign = sprinkle(store)
    assert len(foreign) > 200
    for name, command in commands(tmp_path).items():
        command(store)
        assert_all_there(store, foreign, name)
    check(store, {"w": KEYS["w"], "x": KEYS["x"]})
    assert set(read_corrections(store).damaged) == {"w", "x"}, "those of make_output, and none of others"
    assert PERSON not in " ".join(entry.path for entry in store.list() if entry.path not in foreign)
    commit(store, "new", key("new"))
    want(store, run_id(9), {"new": key("new")})
    publish_labels(store)
    assert_all_there(store, foreign, "the next publication")
    check(store, {"w": KEYS["w"], "x": KEYS["x"], "new": key("new")})


def test_folders_beside_those_of_an_output_are_not_listed(tmp_path: Path) -> None:
    """A link may lead to the root of the file system, and lost+found can be read by root alone."""
    listed = []

    class Watched(Store):
        def list(self, prefix: str = "") -> Iterator[Entry]:
            listed.append(prefix)
            return super().list(prefix)

        def unfinished_writes(self, prefix: str = "") -> Entries:
            listed.append(prefix)
            return super().unfinished_writes(prefix)

    store = Watched(tmp_path / "out")
    make_output(store)
    (tmp_path / "out" / "everything").symlink_to("/")
    listed.clear()
    examine(store, repair=True)
    forget_videos(store, [PERSON])
    vacuum(store, retention_hours=0)
    assert {prefix.split("/")[0] for prefix in listed} <= set(OUTPUT_FOLDERS)


def test_many_commits_do_not_clean_up_files_of_others(tmp_path: Path) -> None:
    """delta-rs cleans a log up by itself when it writes a checkpoint, every twenty commits."""
    store = Store(tmp_path / "out")
    make_output(store)
    foreign = sprinkle(store)
    for entry in store.list("masks/_delta_log"):
        os.utime(store.uri_of(entry.path), (OLD, OLD))
    table = open_table(store, "masks")
    assert table
    for _ in range(21):
        replace_videos(store, "masks", ["none"], lambda: iter([MASKS.empty_table()]), schema=MASKS, epoch=99)
    assert store.exists("masks/_delta_log/_last_checkpoint")
    assert_all_there(store, foreign, "many commits")


def dataset_folder(store: Store) -> dict[str, bytes]:
    contents = {"videos/drone_a.mp4": b"mp4", "videos/notes.txt": b"mine", "masks/hand_drawn_0001.jpg": b"jpeg",
                "runs/exp1/progress.json": b"{}", "other/file": b"o"}  # fmt: skip
    for path, content in contents.items():
        store.put(path, content)
    return contents


def test_a_folder_with_foreign_files_under_output_names_is_refused(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contents = dataset_folder(store)
    (tmp_path / "ids").write_text("drone_a\n")
    clip = write_clip(tmp_path / "clip.mp4", frames=3)
    manifest = write_manifest(tmp_path / "m.parquet", [{"video_id": "drone_a", "video_uri": clip, "prompts": [red()]}])
    config = tmp_path / "nightly.toml"
    config.write_text(f'manifests = "{manifest}"\noutput = "{store.uri}"\n[label]\nmodel = "embedded"\n')
    given = ["--manifest", manifest, "--output", store.uri, "--model", "embedded"]
    for command in (
        lambda: label.main(given),
        lambda: label.main([*given, "--dry-run"]),
        lambda: nightly.main(["--config", str(config)]),
        lambda: publish.main([store.uri, "--vacuum", "0s"]),
        lambda: publish.main([store.uri, "--expire-parts", "0s"]),
        lambda: publish.main([store.uri, "--optimize"]),
        lambda: doctor.main([store.uri, "--repair"]),
        lambda: forget.main([store.uri, "--video-ids", str(tmp_path / "ids")]),
    ):
        assert command() == 2
        said = capsys.readouterr().err
        assert "masks/hand_drawn_0001.jpg" in said
        assert f"choose another folder, such as {store}/labels" in said
    assert {entry.path: store.read(entry.path) for entry in store.list()} == contents


def test_a_part_of_it_is_no_reason_to_refuse_a_folder(store: Store) -> None:
    for name in ("notes.txt", "2023/drone.mp4", "labels/videos/a.mp4"):
        store.put(name, b"mine")
    claim_output(store)
    assert check_output(store)


def test_every_name_of_an_output_is_refused_where_a_file_has_it(tmp_path: Path) -> None:
    for name in OUTPUT_FOLDERS:
        store = Store(tmp_path / f"with-{name}")
        store.put(name, b"mine")
        with pytest.raises(UsageError, match=f"under names that an output uses: {name}; choose"):
            claim_output(store)


@pytest.mark.parametrize(
    "path", ["publish/state.parquet", "nights/2026-11-30/report.json", "nights/2026-11-30/report.html"]
)
def test_a_file_of_others_with_an_ordinary_name_of_ours_is_refused(tmp_path: Path, path: str) -> None:
    store = Store(tmp_path / "out")
    store.put(path, b"mine")
    with pytest.raises(UsageError, match=re.escape(f"under names that an output uses: {path}; choose")):
        claim_output(store)


def test_an_output_of_0_1_0_with_only_a_failed_night_is_recognized(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    for name in ("report.json", "report.html", "attempt-001/started.json", "attempt-001/report.json"):
        store.put(f"nights/2026-11-30/{name}", b"{}")
    claim_output(store)
    assert check_output(store)


def test_an_output_created_during_the_check_counts_as_ours(tmp_path: Path) -> None:
    first = Store(tmp_path / "out")

    class Late(Store):
        def list_dirs(self, prefix: str = "") -> list[str]:
            found = super().list_dirs(prefix)
            if not first.exists(MARKER):
                claim_output(first)
                make_output(first)
            return found

    assert check_output(Late(first.uri))


def test_a_foreign_delta_table_is_refused_and_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    write_deltalake(store.uri_of("videos"), pa.table({"video_id": ["a"], "label": ["cat"]}))
    before = {entry.path: store.read(entry.path) for entry in store.list()}
    with pytest.raises(UsageError, match=r"videos/_delta_log/00000000000000000000\.json"):
        claim_output(store)
    commit(store, "v", key("v"))
    want(store, run_id(1), {"v": key("v")})  # as release 0.1.0 could begin there
    with pytest.raises(UsageError, match="videos is a Delta table that sam2-corpus did not make"):
        publish_labels(store)
    assert before.items() <= {entry.path: store.read(entry.path) for entry in store.list()}.items()


def test_a_folder_is_marked_once_with_its_format_and_an_id(store: Store) -> None:
    assert not check_output(store)
    assert list(store.list()) == []
    claim_output(store)
    marker = store.read(MARKER)
    assert json.loads(marker)["format"] == 2
    assert len(json.loads(marker)["id"]) == 32
    claim_output(store)
    assert store.read(MARKER) == marker


def test_an_output_of_0_1_0_with_foreign_files_is_recognized(store: Store) -> None:
    make_output(store)
    store.delete(MARKER)
    foreign = sprinkle(store)
    claim_output(store)
    assert check_output(store)
    assert_all_there(store, foreign, "adopting it")


def test_a_marker_that_is_none_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(MARKER, b"[1, 2]")
    with pytest.raises(UsageError, match=r"sam2-corpus\.json is not the marker of an output"):
        claim_output(store)
