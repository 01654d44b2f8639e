"""A manifest row that breaks a rule, and how its value is shown in messages and logs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from pipeline.errors import ManifestError


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that breaks a rule: the first rule it breaks."""

    row: int
    """Row number in the manifest file, from 0."""
    video_id: str | None
    column: str
    """With the place inside: `prompts[1].points[0].label`."""
    value: str
    """Result of `clip`: safe to log."""
    rule: str
    """What is wrong and what is allowed."""
    file: str | None = None
    """URI of the manifest or table, where there are several."""

    def __str__(self) -> str:
        where = f"{self.file}: row {self.row}" if self.file else f"row {self.row}"
        return f"{where}, video_id {clip(self.video_id)}, column {self.column}, value {self.value}: {self.rule}"


def clip(value: object, limit: int = 80) -> str:
    """repr() of a value for messages: no control characters, at most about 4 * `limit` characters."""
    if isinstance(value, str | bytes) and len(value) > limit:
        return f"{ascii(value[:limit])[:-1]}...' ({len(value)} long)"
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= 4 * limit else f"{text[: 4 * limit]}..."


def refuse_rows(bad: Sequence[BadRow]) -> NoReturn:
    """Raise a ManifestError that names the first of these rows and counts the others."""
    raise ManifestError(f"{bad[0]}" + (f" (and {len(bad) - 1} more such rows)" if len(bad) > 1 else ""))
