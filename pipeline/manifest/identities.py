"""Identities that a tracker gave: their object ids, and the one category of each."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

MAX_ID = 2**53 - 1
"""The largest identity that is an object id itself: JavaScript and JSON readers keep no larger number exactly."""


def object_ids(identities: Iterable[str], *, taken: Iterable[int] = ()) -> dict[str, int]:
    """The object id of every identity of a video, in their order.

    Whole numbers are the object ids themselves. If one is another text, or the id of a prompted object (`taken`), all
    are numbered, after those taken.
    """
    order, used = list(dict.fromkeys(identities)), set(taken)
    numbers = [int(each) if each.isascii() and each.isdecimal() else -1 for each in order]
    if any(not 0 <= n <= MAX_ID or n in used for n in numbers) or len(set(numbers)) < len(numbers):
        numbers = list(range(1 + max(used, default=0), 1 + max(used, default=0) + len(order)))
    return dict(zip(order, numbers, strict=True))


def main_categories(rows: Iterable[tuple[Key | None, str | None]]) -> Mapping[Key, str | None]:
    """The category that most rows of an identity have, the first of several; rows are (identity, category)."""
    counts: dict[Key, Counter[str | None]] = {}
    for identity, category in rows:
        if identity is not None:
            counts.setdefault(identity, Counter())[category] += category is not None
    return {identity: found.most_common(1)[0][0] for identity, found in counts.items()}
