"""Names of classes: read from files, looked up by number, and replaced by --map."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.errors import ManifestError
from pipeline.manifest.bad_rows import clip


class Categories:
    """Turns what a tool calls a class into the category of a detection."""

    def __init__(self, names: Mapping[int, str], renamed: Mapping[str, str] | None = None) -> None:
        """
        Args:
            names: of the classes that are numbers; empty where they are not known.
            renamed: categories by the names that they replace.
        """
        self.names, self._renamed = names, renamed or {}
        self.seen: set[str] = set()
        """All names before they were replaced."""
        self.unnamed = False
        """Whether a number has become a category."""

    @property
    def change(self) -> bool:
        """Whether a name may become another category."""
        return bool(self.names or self._renamed)

    def of(self, value: Any) -> str | None:
        """The category of one class: a name, or a number.

        Raises:
            ManifestError: The names lack this number.
        """
        if value is None or value == "" or value != value:  # pandas writes a missing value as NaN
            return None
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        if text.isdecimal():
            if self.names and int(text) not in self.names:
                raise ManifestError(f"class {text} has no name; the names are of {_numbers(self.names)}")
            text = self.names.get(int(text), text)
            self.unnamed |= not self.names
        self.seen.add(text)
        return self._renamed.get(text, text)

    def of_all(self, values: pa.Array) -> pa.Array:
        """The categories (text) of a column of names or numbers."""
        coded = values.dictionary_encode() if not pa.types.is_dictionary(values.type) else values
        found = [self.of(value) for value in coded.dictionary.to_pylist()]
        return pc.take(pa.array(found, pa.string()), coded.indices)


def read_names(text: str) -> dict[int, str]:
    """Names of the classes in a `data.yaml`, in any of its three notations."""
    _, _, tail = text.partition("names:")
    head, *rest = tail.splitlines() or [""]
    if head.strip().startswith("["):
        return dict(enumerate(one.strip().strip("'\"") for one in head.strip().strip("[]").split(",")))
    found: dict[int, str] = {}
    for line in rest:
        number, colon, name = line.strip().partition(":")
        if line.strip().startswith("- "):
            found[len(found)] = line.strip()[2:].strip("'\"")
        elif line.startswith(" ") and colon and number.isdigit():
            found[int(number)] = _unquoted(name.strip())
        else:
            break
    return found


def names_in_file(data: bytes, name: str) -> dict[int, str]:
    """Names of classes by number in a file: a data.yaml, JSON, or one name a line from class 0.

    Raises:
        ManifestError: It holds no names.
    """
    try:
        text = data.decode("utf-8-sig")
        if name.lower().endswith(".json"):
            found = _names_of_json(json.loads(text))
        elif name.lower().endswith((".yaml", ".yml")):
            found = read_names(text)
        else:
            found = dict(enumerate(line.strip() for line in text.strip().splitlines()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{name} holds no class names: {error}") from None
    if not found:
        raise ManifestError(f"{name} holds no class names; allowed are a data.yaml with names, JSON, one name a line")
    return found


def _names_of_json(document: Any) -> dict[int, str]:
    """Of a list of names, a mapping by number, or a COCO document."""
    if isinstance(document, dict) and "categories" in document:
        return {int(one["id"]): str(one["name"]) for one in document["categories"]}
    if isinstance(document, dict):
        return {int(number): str(name) for number, name in document.items()}
    return dict(enumerate(map(str, document)))


def _numbers(names: Mapping[int, str]) -> str:
    return clip(", ".join(map(str, sorted(names))), 60)


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text)) if text.startswith('"') else text.strip("'")
    except ValueError:
        return text
