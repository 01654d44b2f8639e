"""Digests of a video file: of its bytes, or of its packets, which do not change with the file's metadata."""

import hashlib
from contextlib import closing
from typing import BinaryIO

from pipeline.errors import VideoError
from pipeline.storage import Storage
from pipeline.video.container import VideoDecoder
from pipeline.video.content import open_file, open_uri
from pipeline.video.info import VideoLimits
from pipeline.video.input_file import InputFile

BLOCK_BYTES = 1 << 20
ZIP = b"PK\x03\x04"


def content_digest(uri: str, *, storage: Storage | None = None) -> str:
    """SHA-256 of the bytes of a file; reads all of it.

    Raises:
        StorageError: It is a folder, or cannot be read.
    """
    digest = hashlib.sha256()
    with open_file(uri, storage=storage)[0] as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def packet_digest(uri: str, *, storage: Storage | None = None) -> str:
    """MD5 of the packets of the video that is labelled, their times, and what decides how frames are displayed.

    Two files with equal digests have the same frames at the same times. Reads all of the file and decodes one frame.

    Raises:
        StorageError: It is a folder, or cannot be read.
        VideoError: It is no video file.
    """
    with open_uri(uri, storage=storage) as (reader, _):
        info = reader.info
    facts = (
        info.container, info.codec, info.pix_fmt, info.color_range, info.width, info.height, info.rotation,
        info.reflected, info.sar, info.first_timestamp_s, info.stream_index, info.container_frames,
    )  # fmt: skip
    digest = hashlib.md5(repr(facts).encode(), usedforsecurity=False)
    limits = VideoLimits()
    with open_file(uri, storage=storage)[0] as source, closing(_input(source, uri, limits)) as file:
        if file.read(0, len(ZIP)) == ZIP:
            raise VideoError(f"{uri} holds images, which have no packets")
        with closing(VideoDecoder(file, limits)) as decoder:
            digest.update(decoder.stream.codec_context.extradata or b"")
            for packet in decoder.packets():
                times = (packet.pts, packet.dts, packet.duration, packet.time_base, packet.is_keyframe)
                digest.update(f"{times} {packet.is_discard} {packet.size} ".encode())
                digest.update(bytes(packet))
            if decoder.damaged or decoder.partial:
                raise VideoError(f"{uri} is damaged, so it is not compared with others")
    return digest.hexdigest()


def _input(source: BinaryIO, uri: str, limits: VideoLimits) -> InputFile:
    return InputFile(source, name=uri, max_spool_bytes=limits.max_spool_bytes)
