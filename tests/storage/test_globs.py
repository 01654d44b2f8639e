"""Shell patterns: what stays within one folder, and what goes below."""

import pytest

from pipeline.errors import UsageError
from pipeline.storage.globs import glob_regex


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("date=*/*.parquet", "date=2026-11-22/a.parquet", True),
        ("date=*/*.parquet", "date=2026-11-22/deep/a.parquet", False),
        ("date=*/*.parquet", "date=2026-11-22/a.parquet.tmp", False),
        ("**/*.parquet", "x/y/z.parquet", True),
        ("**/*.parquet", "z.parquet", True),
        ("a?[0-9].parquet", "ab7.parquet", True),
        ("a[!0-9].parquet", "a7.parquet", False),
        ("a.b(c)+*", "a.b(c)+d", True),
        ("a.b", "axb", False),
    ],
)
def test_patterns_are_those_of_a_shell(pattern: str, name: str, matches: bool) -> None:
    assert bool(glob_regex(pattern).fullmatch(name)) is matches


def test_two_stars_within_a_name_are_refused() -> None:
    with pytest.raises(UsageError, match=r"'a\*\*b' is no pattern"):
        glob_regex("a**b")
