"""Opening the masks at a path, in any format."""

from pipeline.errors import UsageError
from pipeline.formats import mask_table
from pipeline.formats.labels import open_selection
from pipeline.formats.location import Location
from pipeline.formats.registry import FORMATS
from pipeline.formats.selection import Selection
from pipeline.formats.sources import MaskSource, SelectedMasks
from pipeline.storage import Storage, Store
from pipeline.storage.paths import MASKLETS_TABLE, MASKS_TABLE, PARTS, RUNS
from pipeline.tables.staged import open_staged

LABELS, TABLE = "labels", "table"
KINDS = (LABELS, TABLE, *FORMATS)


def open_masks(
    uri: str, *, kind: str | None = None, where: str | None = None, storage: Storage | None = None
) -> MaskSource:
    """The masks at a path or fsspec URL.

    Args:
        kind: one of KINDS; detected from the files when absent.
        where: an SQL condition, for a label output.

    Raises:
        UsageError: The files are none of the kinds, or cannot be read at all.
    """
    at = Location.of(uri, storage)
    kind = kind or kind_of(at)
    if kind not in KINDS:
        raise UsageError(f"masks of kind {kind!r} cannot be read; allowed are {', '.join(KINDS)}")
    if where and kind != LABELS:
        raise UsageError(f"an SQL condition selects from a label output; {at} is of kind {kind}")
    if kind == LABELS:
        return SelectedMasks(open_selection(str(at), storage=storage, where=where))
    return mask_table.open_masks(at) if kind == TABLE else FORMATS[kind].open_masks(at)


def open_staged_masks(
    output: str, *, run: str | None = None, where: str | None = None, storage: Storage | None = None
) -> MaskSource:
    """The committed masks of a label output that its tables do not show: those of a run, or of all staged runs.

    Raises:
        UsageError: There are none.
    """
    labels = open_staged(Store(output, storage=storage), run=run)
    return SelectedMasks(Selection(labels.connection, where=where))


def kind_of(at: Location) -> str:
    """The kind of the files at a location: from an export's record, else from names, else from their content.

    Raises:
        UsageError: They are none of the kinds.
    """
    if at.exported_as in FORMATS:
        return str(at.exported_as)
    if at.folders & {MASKS_TABLE, PARTS} and at.folders & {MASKLETS_TABLE, RUNS}:
        return LABELS
    if mask_table.recognizes(at):
        return TABLE
    for name, form in FORMATS.items():
        if form.recognizes(at):
            return name
    raise UsageError(f"{at} is absent, or holds no masks in a known format")
