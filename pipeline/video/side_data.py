"""The display matrix of a frame, whatever other side data the frame carries."""

from typing import cast

from av.buffer import Buffer
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

_MATRIX_BYTES = 36


def display_matrix(frame: VideoFrame) -> bytes | None:
    """FFmpeg's nine 32-bit numbers, in native byte order; None where the frame has no display matrix."""
    found = frame.side_data.get("DISPLAYMATRIX")
    matrix = b"" if found is None else bytes(cast(Buffer, found))
    return matrix if len(matrix) >= _MATRIX_BYTES else None


def _name_unknown_type(types: type[Type], value: object) -> Type | None:
    """A member for a type of side data that FFmpeg knows and PyAV does not.

    PyAV 18.1 cannot list the side data of a frame with EXIF (31) or a view of spatial video (29): ValueError. Later
    versions name these types, and skip those that they do not know: https://github.com/PyAV-Org/PyAV/pull/2392
    """
    if not isinstance(value, int):
        return None
    member = object.__new__(types)
    member._name_ = f"TYPE_{value}"
    member._value_ = value  # type: ignore[assignment]
    return cast(Type, types._value2member_map_.setdefault(value, member))


Type._missing_ = classmethod(_name_unknown_type)  # type: ignore[assignment]
