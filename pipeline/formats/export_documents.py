"""The files that all videos of an export share, joined from the parts that each chunk kept."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.formats.export_chunks import ChunkRecord
from pipeline.formats.export_files import ExportFiles
from pipeline.formats.format import Document
from pipeline.storage import Store


def write_document(document: Document, records: Sequence[ChunkRecord], target: Store, files: ExportFiles) -> None:
    """Write a document by way of a local file, not in memory."""
    with tempfile.NamedTemporaryFile(prefix="sam2-corpus-export-") as file:
        for part in document.parts:
            if isinstance(part, bytes):
                file.write(part)
                continue
            first = True
            for record in records:
                for path, section, start, stop in record.parts:
                    if (path, section) == (document.path, part.name) and stop > start:
                        file.write(b"" if first else part.separator)
                        file.write(target.read_range(record.data_path, start, stop))
                        first = False
        file.flush()
        files.write_document(document.path, Path(file.name))
