"""No video id climbs out of the output, hides in it or meets another."""

import hashlib
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.storage import checkpoint_dir, failure_path, parse_path, part_path, video_dir
from pipeline.storage.paths import (
    OUTPUT_FOLDERS,
    PUBLISH_STATE,
    PUBLISHER_LEASES,
    attempt_dir,
    checkpoint_rows_path,
    checkpoint_state_path,
    correction_path,
    intent_path,
    lease_path,
    night_page_path,
    night_report_path,
    progress_path,
    run_path,
    table_log_path,
    wanted_path,
)

HOSTILE = ["..", ".", "_x", ".x", "a/b", "/etc/passwd", "../../x", "it's \"quoted\"", "naïve 视频 🎥", "%2E%2E", "a\nb",
           "a\0b", "con", "x?y#z", "s3://u:p@h/x", " ", "~", "\\", "A", "a"]  # fmt: skip


@pytest.mark.parametrize("video_id", HOSTILE)
def test_hostile_ids_stay_below_the_output_and_come_back(video_id: str) -> None:
    for path in (part_path(video_id, "ab12"), failure_path(video_id, "ab12"), checkpoint_dir(video_id, "ab12") + "/x"):
        pieces = PurePosixPath(path).parts
        assert len(pieces) == (5 if path.startswith("checkpoints") else 4)
        assert pieces[1] == hashlib.sha256(video_id.encode()).hexdigest()[:2]
        assert pieces[2][0] not in "._"
        assert path.isascii()
        assert path.isprintable()
        assert parse_path(path) == (video_id, "ab12")


def test_different_ids_never_share_a_folder() -> None:
    assert len({video_dir(video_id) for video_id in HOSTILE}) == len(HOSTILE)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_id_round_trips_or_is_refused(video_id: str) -> None:
    try:
        path = part_path(video_id, "0f")
    except UsageError:
        return
    assert parse_path(path) == (video_id, "0f")
    assert max(len(piece) for piece in path.split("/")) <= 200


def test_two_hundred_bytes_are_allowed_and_one_more_is_not() -> None:
    assert part_path("v" * 200, "ab")
    with pytest.raises(UsageError, match=r"takes 201 bytes percent-quoted; at most 200"):
        part_path("v" * 201, "ab")
    with pytest.raises(UsageError, match="at most 200"):
        part_path("é" * 34, "ab")
    with pytest.raises(UsageError, match="empty"):
        part_path("", "ab")


@pytest.mark.parametrize("key", ["", "../x", "a/b", "a.b", "a" * 129])
def test_keys_are_plain(key: str) -> None:
    with pytest.raises(ValueError, match="label key"):
        part_path("v", key)


@pytest.mark.parametrize("path", ["parts/ab/v/k.parquet/x", "runs/1/run.json", "parts/ab/v", "parts/ab/v/.part-1"])
def test_other_paths_are_not_parts(path: str) -> None:
    assert parse_path(path) is None


OF_A_RUN = ("wanted.parquet", "run.json", "progress.json")


def test_each_record_of_an_output_lies_where_earlier_versions_put_it() -> None:
    assert [wanted_path("r"), run_path("r"), progress_path("r")] == [f"runs/r/{name}" for name in OF_A_RUN]
    assert (night_report_path("2026-11-22"), night_page_path("2026-11-22")) == (
        "nights/2026-11-22/report.json",
        "nights/2026-11-22/report.html",
    )
    assert attempt_dir("2026-11-22", 7) == "nights/2026-11-22/attempt-007"
    assert lease_path("leases/all", 12) == "leases/all/000000012.json"
    assert intent_path("n") == "publish/intents/n.parquet"
    assert table_log_path("masks", 3) == "masks/_delta_log/00000000000000000003.json"
    key = "ab12"
    assert checkpoint_rows_path("v", key, "n") == f"{checkpoint_dir('v', key)}/n.parquet"
    assert checkpoint_state_path("v", key, frames=40, name="n") == f"{checkpoint_dir('v', key)}/000000000040-n.state"


def test_every_path_lies_in_a_listed_folder_of_an_output() -> None:
    of_videos = (part_path("v", "ab"), failure_path("v", "ab"), checkpoint_dir("v", "ab"), correction_path("v", "n"))
    of_tables = (PUBLISH_STATE, PUBLISHER_LEASES, intent_path("n"), table_log_path("videos", 0))
    made = (*of_videos, *of_tables, wanted_path("r"), attempt_dir("n", 1))
    assert {path.partition("/")[0] for path in made} <= set(OUTPUT_FOLDERS)
    assert len(set(OUTPUT_FOLDERS)) == len(OUTPUT_FOLDERS)
