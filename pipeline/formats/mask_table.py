"""Parquet tables of masks with the columns of MASK_ROWS. They are only read: a label output is such a table."""

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import CorpusError, UsageError
from pipeline.formats.location import Location
from pipeline.formats.rows import MASK_ROWS
from pipeline.formats.sources import MaskSource, TableMasks

SUFFIXES = (".parquet", ".pq")


def recognizes(at: Location) -> bool:
    """Whether there are Parquet files."""
    return bool(at.suffixes & set(SUFFIXES))


def open_masks(at: Location) -> MaskSource:
    """The masks of one file, or of all files below a folder."""
    return TableMasks(pa.concat_tables([_read_table(at, path) for path in at.files(*SUFFIXES)]))


def _read_table(at: Location, path: str) -> pa.Table:
    name = at.name_of(path)
    try:
        with at.store.open(path) as file:
            parquet = pq.ParquetFile(file)
            present = parquet.schema_arrow.names
            missing = [one for one in MASK_ROWS.names if one not in (*present, "category")]
            if missing:
                raise UsageError(f"{name} lacks the columns {', '.join(missing)} of a table of masks")
            table = parquet.read([one for one in MASK_ROWS.names if one in present])
        if "category" not in table.column_names:
            table = table.append_column("category", pa.nulls(table.num_rows, pa.string()))
        table = table.select(MASK_ROWS.names).cast(MASK_ROWS)
    except CorpusError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UsageError(f"{name} cannot be read as a table of masks: {error}") from error
    if nulls := [one for one in MASK_ROWS.names[:-1] if table.column(one).null_count]:
        raise UsageError(f"{name}: column {nulls[0]} has null values; each mask needs one")
    return table
