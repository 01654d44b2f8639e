"""Forgetting a video erases every trace of it and nothing of other videos."""

import json
import threading

import pyarrow.parquet as pq

from jobs import forget as job
from pipeline.labels import MASKS
from pipeline.labels.failures import Attempt, failure_of, write_failure
from pipeline.storage import Store
from pipeline.storage.backends.local import TEMPORARY
from pipeline.storage.paths import (
    PUBLISH_STATE,
    PUBLISHER_LEASES,
    correction_path,
    failure_path,
    progress_path,
    states_index_path,
    wanted_path,
)
from pipeline.tables import delete_videos, publish
from pipeline.tables.doctor import examine
from pipeline.tables.forget import forget
from pipeline.workers.checkpoint import Checkpoints
from tests.tables.corpora import check, commit, key, run_id, want

SECRET, OTHER = "person-4711", "person-47112"


def test_a_forgotten_video_is_nowhere_in_the_output(tmp_path, capsys):
    store = Store(tmp_path / "out")
    for run, suffix in ((run_id(1), "old"), (run_id(2), "new")):  # the old label stands in the tables' history
        for video_id in (SECRET, OTHER):
            commit(store, video_id, key(video_id + suffix))
        want(store, run, {video_id: key(video_id + suffix) for video_id in (SECRET, OTHER)})
        publish(store)
    for video_id in (SECRET, OTHER):
        unfinished = Checkpoints(store=store, video_id=video_id, label_key=key("next"))
        unfinished.save(new_rows=MASKS.empty_table(), tracker=b"state", frames=3)
        for path in (states_index_path(video_id, key("next")), states_index_path(video_id, key(video_id + "new"))):
            store.put(path, f'{{"path": "{path}"}}'.encode())
        attempts = [Attempt("killed", f"{video_id} fails", "", "worker-1", 0.0)]
        write_failure(store, failure_of(attempts, video_id=video_id, label_key=key("next"), run_id="2"))
        store.put(progress_path(run_id(len(video_id))), json.dumps({"flights": [{"video_id": video_id}]}).encode())
    want(store, run_id(3), {SECRET: key("later"), OTHER: key(OTHER + "new")})
    (tmp_path / "out" / "runs" / f"{TEMPORARY}{'d' * 32}").write_text(SECRET)
    (tmp_path / "ids").write_text(f"{SECRET}\n")

    assert job.main([store.uri, "--video-ids", str(tmp_path / "ids")]) == 0

    assert "erased 1 video from" in capsys.readouterr().out
    traces = [
        path
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and SECRET in (path.read_bytes() + str(path).encode()).decode("latin1").replace(OTHER, "")
    ]
    assert traces == []
    check(store, {OTHER: key(OTHER + "new")})
    assert examine(store) == []
    assert Checkpoints(store=store, video_id=OTHER, label_key=key("next")).load(bytes).frames == 3


def test_a_publisher_at_work_does_not_bring_a_video_back(tmp_path):
    store = Store(tmp_path / "out")
    commit(store, OTHER, key("a"))
    want(store, run_id(1), {SECRET: key("later"), OTHER: key("a")})
    waits = threading.Event()

    class Watched(Store):
        def list(self, prefix=""):
            if prefix == PUBLISHER_LEASES:
                waits.set()
            return super().list(prefix)

    forgetting = threading.Thread(target=forget, args=(Watched(store.uri), [SECRET]))

    def meanwhile(table):
        if table == "videos":
            forgetting.start()
            assert waits.wait(60)  # it has done all that it does before it waits for the epoch

    publish(store, after_table=meanwhile)
    forgetting.join()
    assert pq.read_table(store.uri_of(PUBLISH_STATE))["video_id"].to_pylist() == []
    assert publish(store).waiting == 0


def test_records_deleted_concurrently_do_not_stop_it(tmp_path):
    store = Store(tmp_path / "out")
    want(store, run_id(1), {SECRET: key("a"), OTHER: key("a")})
    store.put(progress_path(run_id(1)), b"{}")

    class Vanishing(Store):
        def read(self, path):
            if path.endswith("progress.json"):
                store.delete(path)
            return super().read(path)

    assert forget(Vanishing(store.uri), [SECRET]).records == (wanted_path(run_id(1)),)


def test_a_wrong_list_of_ids_is_refused(tmp_path, capsys):
    assert job.main([str(tmp_path), "--video-ids", str(tmp_path / "nothing")]) == 2
    (tmp_path / "empty").write_text("\n")
    assert job.main([str(tmp_path), "--video-ids", str(tmp_path / "empty")]) == 2
    assert "names no video" in capsys.readouterr().err


def published(folder):
    """Two videos whose labels have changed once."""
    store = Store(folder)
    for number, suffix in ((1, "old"), (2, "new")):
        keys = {video_id: key(video_id + suffix) for video_id in (SECRET, OTHER)}
        for video_id, label_key in keys.items():
            commit(store, video_id, label_key)
        want(store, run_id(number), keys)
        publish(store)
    return store


def contents(store):
    return {entry.path: store.read(entry.path) for entry in store.list()}


def ids_file(folder, *video_ids):
    path = folder / "ids"
    path.write_text("".join(f"{video_id}\n" for video_id in video_ids))
    return str(path)


def test_an_id_that_is_not_there_changes_nothing_and_keeps_the_history(tmp_path, capsys):
    store = published(tmp_path / "out")
    before = contents(store)
    assert job.main([store.uri, "--video-ids", ids_file(tmp_path, "person-471", "nobody")]) == 3
    said = capsys.readouterr().out
    assert f"nothing to erase in {store}" in said
    assert "not found: 'nobody'\nnot found: 'person-471'\n" in said
    assert contents(store) == before


def test_a_dry_run_counts_what_would_be_erased_and_changes_nothing(tmp_path, capsys):
    store = published(tmp_path / "out")
    before = contents(store)
    ids = ids_file(tmp_path, SECRET, "nobody")
    assert job.main([store.uri, "--video-ids", ids, "--dry-run"]) == 3
    would = capsys.readouterr().out
    assert would.startswith(
        f"would erase 1 video from {store}: 2 objects, 10 mask rows, 4 records, all table history\n"
    )
    assert contents(store) == before
    assert job.main([store.uri, "--video-ids", ids]) == 3
    assert capsys.readouterr().out == would.replace("would erase", "erased")
    check(store, {OTHER: key(OTHER + "new")})
    assert job.main([store.uri, "--video-ids", ids]) == 3
    assert capsys.readouterr().out.startswith(f"nothing to erase in {store}\n")


def test_a_video_that_only_the_history_holds_is_found_and_erased(tmp_path, capsys):
    store = published(tmp_path / "out")
    delete_videos(store, [SECRET])  # as a forget that was interrupted leaves it
    store.delete_many([entry.path for room in ("parts", "runs") for entry in store.list(room)])
    assert job.main([store.uri, "--video-ids", ids_file(tmp_path, SECRET)]) == 0
    assert "erased 1 video from" in capsys.readouterr().out
    for entry in store.list():
        assert SECRET not in store.read(entry.path).decode("latin1").replace(OTHER, "")
    check(store, {OTHER: key(OTHER + "new")})


def test_corrections_and_failures_of_a_video_are_erased(tmp_path):
    store = published(tmp_path / "out")
    for video_id in (SECRET, OTHER):
        store.put(correction_path(video_id, run_id(5)), b"{}")
        attempts = [Attempt("killed", "gone", "", "worker-1", 0.0)]
        write_failure(store, failure_of(attempts, video_id=video_id, label_key=key("next"), run_id="2"))
    forget(store, [SECRET])
    left = [entry.path for room in ("corrections", "failures") for entry in store.list(room)]
    assert left == [correction_path(OTHER, run_id(5)), failure_path(OTHER, key("next"))]


def test_an_id_that_is_only_the_name_of_a_field_is_not_there(tmp_path, capsys):
    """As the header of a list of ids that jobs.query --format csv wrote."""
    store = published(tmp_path / "out")
    store.put(progress_path(run_id(2)), json.dumps({"state": "ended", "flights": [{"video_id": OTHER}]}).encode())
    store.put("nights/2026-01-01/report.json", json.dumps({"failures": [{"video_id": OTHER}]}).encode())
    store.put("nights/2026-01-01/report.html", b"<th>video_id</th><td>frames</td>")
    before = contents(store)
    assert job.main([store.uri, "--video-ids", ids_file(tmp_path, "video_id", "label_key", "frames", "area")]) == 3
    assert "nothing to erase" in capsys.readouterr().out
    assert contents(store) == before
    assert job.main([store.uri, "--video-ids", ids_file(tmp_path, "video_id", SECRET)]) == 3
    said = capsys.readouterr().out
    assert said.startswith("erased 1 video from")
    assert said.endswith("not found: 'video_id'\n")
    assert store.exists("nights/2026-01-01/report.html")
    check(store, {OTHER: key(OTHER + "new")})


def test_a_video_that_only_a_report_names_is_found_with_its_page(tmp_path):
    store = published(tmp_path / "out")
    night, said = "nights/2026-01-01", f"row 3, video_id 'nobody', {SECRET}"
    store.put(f"{night}/report.json", json.dumps({"bad_rows": [said]}).encode())
    store.put(f"{night}/report.html", b"<td>nobody</td>")
    assert forget(store, ["nobody"]).videos == {"nobody"}
    assert not list(store.list("nights"))
