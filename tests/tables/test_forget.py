"""Forgetting a video leaves no trace of it, and all of the others."""

import json
import threading

import pyarrow.parquet as pq

from jobs import forget as job
from pipeline.labels import MASKS
from pipeline.labels.failures import Attempt, failure_of, write_failure
from pipeline.storage import Store
from pipeline.storage.backends.local import TEMPORARY
from pipeline.storage.paths import PUBLISH_STATE, PUBLISHER_LEASES, progress_path, wanted_path
from pipeline.tables import publish
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
        attempts = [Attempt("killed", f"{video_id} is cursed", "", "worker-1", 0.0)]
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
    assert Checkpoints(store=store, video_id=OTHER, label_key=key("next")).load().frames == 3


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
            assert waits.wait(60)  # it has done all that it does before it waits for its turn

    publish(store, after_table=meanwhile)
    forgetting.join()
    assert pq.read_table(store.uri_of(PUBLISH_STATE))["video_id"].to_pylist() == []
    assert publish(store).waiting == 0


def test_records_that_vanish_meanwhile_do_not_stop_it(tmp_path):
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
