"""A manifest row that breaks a rule, and how its value is shown in messages and logs."""

from dataclasses import dataclass


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

    def __str__(self) -> str:
        return f"row {self.row}, video_id {clip(self.video_id)}, column {self.column}, value {self.value}: {self.rule}"


def clip(value: object, limit: int = 80) -> str:
    """repr() of a value for messages: no control characters, at most about 4 * `limit` characters."""
    if isinstance(value, str | bytes) and len(value) > limit:
        return f"{ascii(value[:limit])[:-1]}...' ({len(value)} long)"
    text = ascii(value) if not isinstance(value, str) or not value.isprintable() else repr(value)
    return text if len(text) <= 4 * limit else f"{text[: 4 * limit]}..."
