"""A small HTML card about a value, as notebooks show it."""

from collections.abc import Iterable, Sequence

from pipeline.views.pages import render


def card(
    title: str, lines: Iterable[str], *, columns: Sequence[str] = (), rows: Sequence[Sequence[object]] = ()
) -> str:
    """HTML of a title, lines of text and a table; every value is escaped."""
    return render("card.html", title=title, lines=list(lines), columns=columns, rows=rows)
