"""Truncation that no decoder reports: a file shorter than the size its outermost boxes state."""

from pipeline.video.input_file import InputFile

_MAX_BOXES = 64
_BOXES = frozenset(b"ftyp styp moov moof mdat free skip wide sidx mfra uuid meta udta emsg pdin prft pnot".split())
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


def ends_early(file: InputFile) -> bool:
    """Whether an MP4/MOV, Matroska/WebM or AVI file is shorter than its header states; False for other formats."""
    head = file.read(0, 12)
    if head[4:8] in _BOXES:
        return _boxes_end(file) > file.size
    if head[:4] == _EBML:
        return _segment_end(file) > file.size
    if head[:4] == b"RIFF" and len(head) == 12:
        size = int.from_bytes(head[4:8], "little")
        return 0 < size < 0xFFFFFFFF and size + 8 > file.size + 1  # the last chunk's padding is often missing
    return False


def _boxes_end(file: InputFile) -> int:
    offset = 0
    for _ in range(_MAX_BOXES):
        head = file.read(offset, 16)
        if len(head) < 8 or head[4:8] not in _BOXES:  # some programs append other bytes after the last box
            return offset
        size = int.from_bytes(head[:4])
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:])
        if size < 8:  # 0 means "to the end of the file"
            return offset
        offset += size
    return offset


def _segment_end(file: InputFile) -> int:
    head = file.read(0, 64)
    size, start = _vint(head, 4)
    if size is None:
        return 0
    segment = file.read(start + size, 12)
    if segment[:4] != _SEGMENT:
        return 0
    length, body = _vint(segment, 4)
    return 0 if length is None else start + size + body + length


def _vint(data: bytes, at: int) -> tuple[int | None, int]:
    """An EBML size and where it ends; None where it is unknown (a live recording) or cut."""
    if at >= len(data) or not data[at]:
        return None, at
    count = 9 - data[at].bit_length()
    digits = data[at : at + count]
    value = int.from_bytes(digits) & ((1 << 7 * count) - 1)
    unknown = len(digits) < count or value == (1 << 7 * count) - 1
    return None if unknown else value, at + count
