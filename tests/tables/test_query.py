"""SQL and Arrow over published labels, on a folder and on S3, without any download."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pytest

from jobs import publish as publish_job
from jobs import query as query_job
from pipeline.errors import UsageError
from pipeline.storage import Store, failure_path
from pipeline.tables import publish
from pipeline.tables.labelled import labelled_videos
from pipeline.tables.query import Labels, open_labels
from tests.tables.corpora import commit, key, want

A = key("A")


def make_labels(store: Store) -> Store:
    keys = {f"v{at}": A for at in range(5)}
    for at, video_id in enumerate(keys):
        commit(store, video_id, A, frames=at + 1, extra={"site": f"site {at % 2}"})
    want(store, "run-1", keys)
    failure = {"video_id": "bad", "label_key": A, "failure_class": "decode", "message": "no", "attempts": [{"n": 1}]}
    failure |= {"traceback": "", "worker": "w", "time": "2026-01-01T00:00:00+00:00", "run_id": "run-1"}
    store.put(failure_path("bad", A), json.dumps(failure).encode())
    store.put("runs/run-1/run.json", b'{"started": "2026-01-01T00:00:00Z", "videos": 5}')
    publish(store)
    return store


@pytest.fixture(params=["local", "s3"])
def labels(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Labels]:
    store = Store(tmp_path if request.param == "local" else f"{request.getfixturevalue('s3').uri}/out")
    with open_labels(make_labels(store)) as labels:
        yield labels


def test_all_five_tables_answer(labels: Labels) -> None:
    with labels:
        assert labels.masks.count("*").fetchall() == [(30,)]
        assert labels.masklets.filter("category = 'cat'").count("*").fetchall() == [(5,)]
        assert labels.videos.project("video_id, frames").order("video_id").fetchall()[-1] == ("v4", 5)
        assert labels.failures.project("video_id, failure_class, attempts->0->>'n'").fetchall() == [
            ("bad", "decode", "1")
        ]
        assert labels.runs.project("run_id, run->>'videos'").fetchall() == [("run-1", "5")]
        assert labels.sql(
            "SELECT site, count(*) FROM masks JOIN videos USING (video_id) LEFT JOIN failures USING (video_id)"
            " GROUP BY site ORDER BY site"
        ).fetchall() == [("site 0", 18), ("site 1", 12)]


def test_filters_and_columns_reach_the_files(labels: Labels) -> None:
    plan = str(labels.sql("SELECT area FROM masks WHERE video_id = 'v3' AND frame_index > 1").explain())
    if plan == "None":  # printed by older versions
        plan = str(labels.connection.sql("EXPLAIN SELECT area FROM masks WHERE video_id = 'v3'").fetchall())
    assert "video_id" in plan.split("Filters")[1]
    assert "counts" not in plan


def test_pandas_reads_through_arrow(labels: Labels) -> None:
    frame = (
        labels.arrow("masks").to_table(filter=pc.field("video_id") == "v2", columns=["object_id", "area"]).to_pandas()
    )
    assert frame.groupby("object_id").size().to_list() == [3, 3]


def test_an_unpublished_output_is_an_error(tmp_path: Path) -> None:
    want(Store(tmp_path), "1", {"later": A})
    with pytest.raises(UsageError, match=r"holds no published labels; publish them first: python -m jobs\.publish"):
        open_labels(tmp_path)
    assert labelled_videos(Store(tmp_path)).num_rows == 0


def test_labelled_videos(labels: Labels) -> None:
    table = labelled_videos(labels.store)
    assert sorted(table["video_id"].to_pylist()) == [f"v{at}" for at in range(5)]
    assert set(table["label_key"].to_pylist()) == {A}


@pytest.mark.parametrize("query", ["selec 1", "select nope from masks", "select * from nope"])
def test_sql_that_cannot_be_answered(tmp_path: Path, query: str) -> None:
    with open_labels(make_labels(Store(tmp_path))) as labels, pytest.raises(UsageError, match="Error"):
        labels.sql(query)


def test_jobs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path / "out")
    want(store, "0", {"later": A})
    assert query_job.main([str(store), "SELECT 1"]) == 2
    assert "holds no published labels" in capsys.readouterr().err
    commit(store, "v", A)
    want(store, "1", {"v": A, "later": A})
    assert publish_job.main([str(store), "--optimize", "--vacuum", "7d", "--expire-parts", "30d"]) == 0
    said = capsys.readouterr().out
    assert "published 1 video (10 masks)" in said
    assert "1 video without the wanted label yet" in said
    assert "optimized masks: 1 to 1 files" in said
    assert "expired 0 parts" in said
    assert publish_job.main([str(store)]) == 0
    assert "nothing to publish" in capsys.readouterr().out
    query = "SELECT video_id, object_id, frame_index, area FROM masks ORDER BY ALL"
    assert query_job.main([str(store), query, "--rows", "2"]) == 0
    assert capsys.readouterr().out == (
        "video_id  object_id  frame_index  area\n"
        "--------  ---------  -----------  ----\n"
        "v                 0            0    85\n"
        "v                 0            1    85\n"
        "... more than 2 rows; --rows N shows more, --format csv or json all\n"
    )
    assert query_job.main([str(store), query, "--format", "csv"]) == 0
    table = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert table[:2] == [["video_id", "object_id", "frame_index", "area"], ["v", "0", "0", "85"]]
    assert len(table) == 11
    assert query_job.main([str(store), query, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[3]) == {
        "video_id": "v", "object_id": 0, "frame_index": 3, "area": 85,
    }  # fmt: skip
    assert query_job.main([str(store), "SELECT 1/'x' FROM masks"]) == 2


def test_a_damaged_part_is_named_and_exits_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    commit(store, "v", A)
    want(store, "1", {"v": A})
    path = next(store.list("parts")).path
    store.put(path, b"PAR1 and nothing else")
    assert publish_job.main([str(store)]) == 3
    assert f"part left out: {path}: damaged: " in capsys.readouterr().out


def test_queries_work_without_a_network(tmp_path: Path) -> None:
    """No name can be resolved and no socket opened."""
    make_labels(Store(tmp_path))
    code = (
        "import socket, sys\n"
        "def refuse(*_): raise OSError('no network')\n"
        "socket.socket.connect = refuse; socket.getaddrinfo = refuse\n"
        "from jobs.query import main\n"
        "sys.exit(main([sys.argv[1], \"SELECT count(*), max(run->>'videos') FROM masks, runs\"]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "30" in done.stdout
