"""Object ids and categories of the identities that a tracker gave."""

import pytest

from pipeline.manifest.identities import MAX_ID, main_categories, object_ids


@pytest.mark.parametrize(
    ("identities", "taken", "found"),
    [
        (["7", "3", "7"], [], {"7": 7, "3": 3}),
        (["0"], [1], {"0": 0}),
        (["7", "x"], [], {"7": 1, "x": 2}),
        (["2", "3"], [3], {"2": 4, "3": 5}),
        (["07", "7"], [], {"07": 1, "7": 2}),
        ([str(MAX_ID + 1)], [5], {str(MAX_ID + 1): 6}),
    ],
)
def test_whole_numbers_are_the_object_ids_where_they_can_be(identities, taken, found):
    assert object_ids(identities, taken=taken) == found


def test_an_identity_has_the_category_of_most_of_its_rows():
    rows = [("a", None), ("a", "truck"), ("a", "car"), ("a", "car"), ("b", None), (None, "x"), ("c", "p"), ("c", "q")]
    assert main_categories(rows) == {"a": "car", "b": None, "c": "p"}
