"""The label tables: their schemas, and the part, the Parquet file with all labels of one video."""

from pipeline.labels.builder import PartBuilder
from pipeline.labels.part import Part, PartHeader, read_part, read_part_header
from pipeline.labels.schemas import MASKLETS, MASKS, VIDEOS, video_table

__all__ = [
    "MASKLETS",
    "MASKS",
    "VIDEOS",
    "Part",
    "PartBuilder",
    "PartHeader",
    "read_part",
    "read_part_header",
    "video_table",
]
