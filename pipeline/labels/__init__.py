"""The label tables: their schemas, and the part, one Parquet file that holds everything said about one video."""

from pipeline.labels.builder import PartBuilder
from pipeline.labels.part import Part, PartHeader, read_part, read_part_header
from pipeline.labels.schemas import MASKLETS, MASKS, VIDEOS, aggregate, video_table

__all__ = [
    "MASKLETS",
    "MASKS",
    "VIDEOS",
    "Part",
    "PartBuilder",
    "PartHeader",
    "aggregate",
    "read_part",
    "read_part_header",
    "video_table",
]
