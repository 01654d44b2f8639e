"""CSV columns are read by their meaning: neither the first rows of a file nor an odd later one decide a type."""

from pathlib import Path

import pytest

from pipeline.errors import ManifestError
from pipeline.manifest import read_table

ROWS = 20_000
"""More than fits the CSV reader's first block."""
HEADER = "video_id,object_id,time_s,frame_index,x_min,y_min,x_max,y_max,correct\n"


def table(tmp_path: Path, *last: str, first: str = "v,1,0.5,,10,10,60,60,"):
    path = tmp_path / "p.csv"
    path.write_text(HEADER + f"{first}\n" * ROWS + "".join(f"{line}\n" for line in last))
    return read_table(str(path))


def test_a_column_whose_first_value_comes_late_is_read(tmp_path: Path) -> None:
    last = table(tmp_path, "w,1,,3,10,10,60,60,").slice(ROWS).to_pylist()[0]
    assert (last["frame_index"], last["time_s"]) == (3, None)


@pytest.mark.parametrize("number", ["1.0", "1e0", " 1 ", "+1"])
def test_whole_numbers_of_any_form_are_whole(tmp_path: Path, number: str) -> None:
    read = table(tmp_path, f"w,{number},0.5,,10,10,60,60,")
    assert read["object_id"].to_pylist()[-2:] == [1, 1]


def test_large_ids_beside_a_float_stay_exact(tmp_path: Path) -> None:
    read = table(tmp_path, f"w,{2**60 + 1},,0,10,10,60,60,", "w,2.0,,0,10,10,60,60,")
    assert read["object_id"].to_pylist()[-2:] == [2**60 + 1, 2]


def test_fractions_in_integer_columns_are_left_to_the_rules(tmp_path: Path) -> None:
    assert table(tmp_path, "w,1.5,0.5,,10,10,60,60,")["object_id"].to_pylist()[-1] == 1.5


@pytest.mark.parametrize(("text", "flag"), [("True", True), ("false", False), ("1", True), ("0.0", False), ("", None)])
def test_flags_of_any_form_are_flags(tmp_path: Path, text: str, flag: bool | None) -> None:
    assert table(tmp_path, f"w,1,0.5,,10,10,60,60,{text}")["correct"].to_pylist()[-1] is flag


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("w,one,0.5,,10,10,60,60,", "column object_id, value 'one': must be a number"),
        ("w,1,0.5,,left,10,60,60,", "column x_min, value 'left': must be a number"),
        ("w,1,0.5,,10,10,60,60,yes", "column correct, value 'yes': must be true or false"),
    ],
)
def test_a_value_of_another_kind_is_named_with_its_row(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=rf"p\.csv: row {ROWS}, video_id 'w', {words}"):
        table(tmp_path, line)


def test_columns_that_are_not_known_are_text(tmp_path: Path) -> None:
    path = tmp_path / "detections.csv"
    path.write_text("\ufeffvideo_id,code\n" + "007,12\n" * ROWS + "8,late\n")
    assert read_table(str(path)).slice(ROWS - 1).to_pylist() == [
        {"video_id": "007", "code": "12"},
        {"video_id": "8", "code": "late"},
    ]
