import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.runs.nightly.union import find_manifests, join, read_union
from pipeline.storage import Storage, Store
from tests.fixtures_s3 import S3
from tests.runs.nightly.examples import manifest, row, write_manifest


def test_the_latest_row_of_a_video_wins_and_keeps_its_row_number() -> None:
    union = join(
        [
            ("a", manifest(row("cat", x=1), row("dog", x=1), row("fox", x=1))),
            ("b", manifest(row("owl", x=2), row("dog", x=2))),
            ("c", manifest(row("dog", x=3), row("cat", x=3))),
        ]
    )
    found = {video.video_id: video for video in (union.manifest.video(i) for i in range(len(union.manifest)))}
    assert [(v.video_id, v.prompts[0].points[0][0], v.row) for v in found.values()] == [
        ("fox", 1, 2), ("owl", 2, 0), ("dog", 3, 0), ("cat", 3, 1),
    ]  # fmt: skip
    assert [(s.uri, s.rows, s.superseded) for s in union.sources] == [("a", 3, 2), ("b", 2, 1), ("c", 2, 0)]
    assert union.superseded == 3


def test_nothing_is_a_union_too() -> None:
    assert len(join([]).manifest) == len(join([("a", manifest())]).manifest) == 0


def test_manifests_may_differ_in_their_extra_columns() -> None:
    union = join(
        [
            ("a", manifest(row("cat", site=7))),
            ("b", manifest(row("dog", lens="wide"))),
            ("c", manifest(row("fox", site=1.5))),
        ]
    )
    extras = [union.manifest.video(i).extra for i in range(3)]
    assert [row for extra in extras for row in extra.to_pylist()] == [
        {"site": 7.0, "lens": None},
        {"site": None, "lens": "wide"},
        {"site": 1.5, "lens": None},
    ]


def test_an_extra_column_of_two_types_is_refused_naming_its_manifest() -> None:
    with pytest.raises(ManifestError, match=r"^b: .*site"):
        join([("a", manifest(row("cat", site=7))), ("b", manifest(row("dog", site="north")))])


def test_bad_rows_name_their_manifest_and_whether_an_older_row_stands_in() -> None:
    union = join([("a", manifest(row("cat"))), ("b", manifest(row("dog"), bad=("cat", "fox")))])
    assert [text.startswith("b: row ") for text in union.bad_rows] == [True, True]
    assert union.bad_rows[0].endswith("; another row of this video is used")
    assert not union.bad_rows[1].endswith("is used")
    assert [source.bad_rows for source in union.sources] == [0, 2]


def test_manifests_are_found_by_pattern_and_sorted_by_date(tmp_path: Path) -> None:
    for name in ("date=2026-11-22/b", "date=2026-11-20/z", "date=2026-11-22/a", "other/x"):
        write_manifest(tmp_path / f"{name}.parquet", row("cat"))
    (tmp_path / "date=2026-11-22" / "notes.txt").touch()
    found = find_manifests([f"{tmp_path}/date=*/*.parquet"], storage=Storage())
    assert [str(Path(uri).relative_to(tmp_path)) for uri in found] == [
        "date=2026-11-20/z.parquet", "date=2026-11-22/a.parquet", "date=2026-11-22/b.parquet",
    ]  # fmt: skip
    late = find_manifests([f"{tmp_path}/date=*/*.parquet", f"{tmp_path}/other/*.parquet"], storage=Storage())
    assert late[-1].endswith("other/x.parquet")
    with pytest.raises(ManifestError, match="no manifest matches"):
        find_manifests([f"{tmp_path}/date=2027*/*.parquet"], storage=Storage())


def test_a_relative_pattern_is_looked_for_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_manifest(tmp_path / "day" / "a.parquet", row("cat"))
    monkeypatch.chdir(tmp_path)
    assert find_manifests(["day/*.parquet"], storage=Storage()) == ["day/a.parquet"]
    assert find_manifests(["*/a.parquet"], storage=Storage()) == ["day/a.parquet"]
    assert find_manifests(["day/a.parquet"], storage=Storage()) == ["day/a.parquet"]


def test_a_manifest_that_is_not_parquet_stops_the_night_or_is_reported(tmp_path: Path) -> None:
    write_manifest(tmp_path / "a.parquet", row("cat"))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 still being written")
    uris = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    with pytest.raises(ManifestError, match=r"b\.parquet"):
        read_union(uris, storage=Storage())
    union = read_union(uris, storage=Storage(), on_bad_row="skip")
    assert len(union.manifest) == 1
    assert "b.parquet" in union.bad_rows[0]
    assert union.sources[1].problem


def test_manifests_in_a_bucket_are_found_and_read(s3: S3) -> None:
    for date, x in (("2026-11-20", 1.0), ("2026-11-21", 2.0)):
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist([row("cat", x=x)]), sink)
        Store(s3.uri).put(f"manifests/date={date}/a.parquet", sink.getvalue())
    uris = find_manifests([f"{s3.uri}/manifests/date=*/*.parquet"], storage=Storage())
    assert uris == [f"{s3.uri}/manifests/date={date}/a.parquet" for date in ("2026-11-20", "2026-11-21")]
    assert read_union(uris, storage=Storage()).manifest.video(0).prompts[0].points[0][0] == 2.0


def test_a_row_left_out_of_one_manifest_stays_in_the_others() -> None:
    whole = join([("a", manifest(row("cat"), row("dog"))), ("b", manifest(row("owl"), row("fox")))]).manifest
    bad = whole.bad_row(0, column="prompts", value="", rule="a correction does not fit")
    kept = whole.without({0: bad})
    assert kept.table["video_id"].to_pylist() == ["dog", "owl", "fox"]
    assert [kept.place(i) for i in range(3)] == ["row 1 of a", "row 0 of b", "row 1 of b"]
    assert str(kept.bad_rows[0]).startswith("a: row 0, video_id 'cat', column prompts")
